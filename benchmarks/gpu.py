"""What training costs on a CUDA GPU: steps replayed as a graph, launched one by one, and two plain forward passes.

    python benchmarks/gpu.py                   a minute; --precision tf32 or bf16
    python benchmarks/gpu.py --shape gemma-2-2b --layers 12 --steps 10    a model of two billion weights
    python benchmarks/gpu.py --methods das@64  what one method costs
    python benchmarks/gpu.py --device cpu --steps 2 --layers 10 --joint 2    that it runs at all

A model's shape with random weights, joint batches as --joint trains them, in turns; times by the wall.
plain: a step of one run over neurons with two full forward passes and hooks, in fp32 products as torch has them.
"""

import argparse
import statistics
import sys
import time

from fixtures import SHAPES, build_subject, featurizer_of, training_pairs
from turns import BATCH_SIZE, in_turns, one_thread, ratios, spread

from benchmarks.decoder import Naive
from benchmarks.grid import RUNS, hours_of
from decoder.loading import DTYPES
from featurizers.methods import method_named
from imports import torch
from masks.engines import FastEngine
from masks.names import PRECISIONS
from masks.stepping import GraphedSteps, Steps
from masks.training import Batches, MaskRun, Schedule, adam, in_precision, untrained

N_PLAIN = 5  # plain steps of a turn, at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--shape", default="gpt2", choices=SHAPES)
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="of the weights")
    parser.add_argument("--methods", nargs="+", default=RUNS, metavar="M", help="which take turns among the runs")
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 5, 10], metavar="L")
    parser.add_argument("--joint", type=int, default=12, metavar="N", help="runs in a batch (12)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="of a turn (100)")
    arguments = parser.parse_args()
    device, n_steps, n_runs = arguments.device, arguments.steps, arguments.joint
    is_cuda = device == "cuda"
    if is_cuda and not torch.cuda.is_available():
        sys.exit("error: torch sees no CUDA device here; --device cpu shows only that this runs")
    one_thread()
    card = torch.cuda.get_device_name() if is_cuda else "the CPU"
    print(f"{arguments.shape}, {arguments.dtype}, on {card}, {arguments.precision}, {n_runs} runs together")
    print("    ms a run's step by the wall\n L     graph  one by one     plain    one by one / graph", end="")
    print("          plain / graph", flush=True)
    schedule = Schedule(20, BATCH_SIZE, 1e-3, (10.0, 0.1), arguments.precision)
    subject, prompts = build_subject(device, arguments.shape, arguments.dtype)
    cache, pairs, seconds = subject.harvest(prompts, arguments.layers, progress=False), training_pairs(prompts), {}
    kept: dict = {}  # method -> its featurizer at the layer, where nothing of it is trained

    def run(layer: int, seed: int) -> MaskRun:
        name = arguments.methods[seed % len(arguments.methods)]
        featurizer = kept.get(name) or featurizer_of(name, cache.residuals[layer][:, 0], layer)
        engine, fixed_mask = FastEngine(subject, cache, layer, featurizer), method_named(name).fixed_mask
        fixed = None if fixed_mask is None else untrained(engine, fixed_mask, device).theta
        if featurizer.is_trained:
            return MaskRun(engine, featurizer, pairs, seed, fixed)
        kept[name] = featurizer  # an SAE of real size takes a while to draw
        return MaskRun(engine, None, pairs, seed, fixed)

    def wall(work, n: int) -> float:
        """Milliseconds of each of n."""
        wait = torch.cuda.synchronize if is_cuda else lambda: None
        wait()
        began = time.perf_counter()
        work()
        wait()
        return 1000 * (time.perf_counter() - began) / n

    def plain_steps(naive: Naive) -> float:
        batches = [pairs[torch.randperm(len(pairs))[:BATCH_SIZE]] for _ in range(min(n_steps, N_PLAIN))]
        return wall(lambda: [naive.take(batch) for batch in batches], len(batches))

    with in_precision(arguments.precision):
        for layer in arguments.layers:
            kept.clear()
            ways = []
            for kind in (GraphedSteps if is_cuda else Steps, Steps):
                runs = [run(layer, seed) for seed in range(n_runs)]
                batches, optimizer = Batches.of(runs, schedule), adam(runs, schedule.lr, device)
                ways.append(kind(runs, optimizer, batches, arguments.precision))
                for _ in range(kind.warm_up):
                    ways[-1].advance(1)
            naive = Naive(subject, cache.prompts, layer, torch.zeros(subject.d_model, device=device))
            work = [lambda its=its: wall(lambda: its.advance(n_steps), n_steps * n_runs) for its in ways]
            times = in_turns(3, *work, lambda naive=naive: plain_steps(naive))
            graph, eager, plain = map(statistics.median, times)
            apart = f"{spread(ratios(times[1], times[0]))} {spread(ratios(times[2], times[0]))}"
            print(f"{layer:2} {graph:9.3f} {eager:11.3f} {plain:9.2f} {apart}", flush=True)
            seconds[layer] = graph / 1000
    if arguments.shape == "gpt2" and len(arguments.layers) > 1:
        print(f"\nthe paper's grid, projected: {60 * hours_of(seconds):.1f} minutes")
    if is_cuda:
        print(f"peak memory on the GPU {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
