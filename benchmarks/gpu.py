"""What training costs on a CUDA GPU: steps replayed as a graph against the same steps launched one by one.

    python benchmarks/gpu.py                   some minutes; --precision tf32 or bf16
    python benchmarks/gpu.py --device cpu --steps 2 --layers 10 --joint 2    that it runs at all

GPT-2 small's shape with random weights, the paper's 80 prompts, batches of 16: a neuron and a das run of the
paper's 2,800 steps at layer 0, each by itself as main.py trains it, capture of the graph and all; then joint
batches as --joint trains them, in turns, and the paper's grid projected from them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from fixtures import build_subject, featurizer_of, training_pairs
from turns import BATCH_SIZE, in_turns, one_thread, ratios, spread

from benchmarks.grid import RUNS, STEPS, hours_of
from imports import torch
from masks.engines import FastEngine
from masks.names import PRECISIONS
from masks.stepping import GraphedSteps, Steps
from masks.training import Batches, MaskRun, Schedule, adam, in_precision, train


def wall(work, device: str) -> float:
    """Milliseconds by the wall, with all that the device was given."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 5, 10], choices=range(11), metavar="L")
    parser.add_argument("--joint", type=int, default=12, metavar="N", help="runs in a batch (12)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="of a turn (100)")
    arguments = parser.parse_args()
    device, n, n_runs = arguments.device, arguments.steps, arguments.joint
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: torch sees no CUDA device here; --device cpu shows only that this runs")
    one_thread()
    print(f"{torch.cuda.get_device_name() if device == 'cuda' else 'cpu'}, {arguments.precision}; times by the wall")
    schedule = Schedule(20, BATCH_SIZE, 1e-3, (10.0, 0.1), arguments.precision)
    subject, prompts = build_subject(device)
    cache = subject.harvest(prompts, sorted({0, *arguments.layers}), progress=False)

    def job(layer: int, name: str, seed: int) -> MaskRun:
        featurizer = featurizer_of(name, cache.residuals[layer][:, 0], layer)
        engine = FastEngine(subject, cache, layer, featurizer)
        return MaskRun(engine, featurizer if name == "das" else None, training_pairs(prompts, seed=seed), seed)

    for method in ("neuron", "das") if device == "cuda" else ():
        jobs = [job(0, method, 0)]
        seconds = wall(lambda jobs=jobs: train(jobs, schedule, device), device) / 1000
        print(f"a {method} run of {STEPS:,} steps at L = 0, by itself: {seconds:.1f} s", flush=True)
    print(f"\nms a run's step, {n_runs} together\n L     graph  one by one   one by one / graph", flush=True)
    seconds = {}
    for layer in arguments.layers:
        jobs = [job(layer, RUNS[i % len(RUNS)], i) for i in range(n_runs)]
        kinds = (GraphedSteps if device == "cuda" else Steps, Steps)
        plan, steps = Batches.of(jobs, schedule), []
        for kind in kinds:
            steps.append(kind(jobs, adam(jobs, schedule.lr, device), plan, arguments.precision))
        turns = (lambda its=its: wall(lambda: its.advance(n), device) / n / n_runs for its in steps)
        with in_precision(arguments.precision):
            for its in steps:
                for _ in range(its.warm_up):
                    its.advance(1)
            times = in_turns(3, *turns)
        seconds[layer] = statistics.median(times[0]) / 1000
        graph, plain = map(statistics.median, times)
        print(f"{layer:2} {graph:9.3f} {plain:11.3f} {spread(ratios(*reversed(times)))}", flush=True)
    print(
        f"\nthe paper's grid (masks of {STEPS:,} steps), projected: {60 * sum(hours_of(seconds).values()):.1f} minutes"
    )
    if device == "cuda":
        print(f"peak memory on the GPU {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
