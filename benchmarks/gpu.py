"""What training costs on a CUDA GPU, and where the time goes.

    python benchmarks/gpu.py                   some minutes
    python benchmarks/gpu.py --precision bf16  or tf32; fp32 without
    python benchmarks/gpu.py --device cpu --steps 2 --layers 10 --joint 2    that it runs at all

GPT-2 small's shape with random weights, the paper's 80 prompts, batches of 16.

  * a neuron and a das run of the paper's 2,800 steps at layer 0, each by itself, as main.py
    trains it: seconds, capture of the graph and all included;
  * joint batches, as --joint trains them, at several layers, replayed as a graph and launched
    step by step in turns: milliseconds a run's step, and the paper's grid projected from them;
  * of one joint step: the kernels' own time, by what they do, as torch's profiler sees them.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
import time

from fixtures import build_subject, random_sae
from machine import machine

from benchmarks.grid import BATCH_SIZE, RUNS, STEPS, WIDTHS, hours_of
from data.intervention_data import index_pairs, make_pairs
from data.ravel_data_prep import Prompts
from featurizers.das import Das
from featurizers.neuron import Neuron
from featurizers.sae import Sae
from imports import torch, transformers
from masks.engines import FastEngine
from masks.names import PRECISIONS
from masks.stepping import ROOM, GraphedSteps, Steps
from masks.training import Job, Plan, Schedule, in_precision, starting_point, train
from models import Harvest, Subject


def make_job(subject: Subject, prompts: Prompts, harvest: Harvest, layer: int, name: str, seed: int) -> Job:
    """Of the paper's 2,240 training pairs."""
    if name in WIDTHS:
        sae = random_sae(name, WIDTHS[name], harvest.residuals[layer][:, 0].cpu(), layer)
        featurizer = Sae(sae.to(subject.device))
    else:
        featurizer = Das(subject.d_model, seed, subject.device) if name == "das" else Neuron(subject.d_model)
    pairs = index_pairs(make_pairs(prompts, "country", "paper", "pairs", seed)["train"], prompts, "country")
    engine = FastEngine(subject, prompts, harvest, layer, featurizer)
    return Job(engine, featurizer if name == "das" else None, pairs, seed)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def of_steps(steps: Steps, n: int, device: str) -> float:
    """Milliseconds of each of n steps taken at once."""
    wait(device)
    began = time.perf_counter()
    steps.advance(n)
    wait(device)
    return 1000 * (time.perf_counter() - began) / n


def make_steps(kind, jobs: list[Job], device: str, precision: str) -> Steps:
    schedule = Schedule(20, BATCH_SIZE, 1e-3, (10.0, 0.1))
    return kind(jobs, *starting_point(jobs, schedule.lr, device), Plan.of(jobs, schedule), precision)


def kernels(steps: Steps) -> dict[str, float]:
    """Milliseconds of a step's kernels, by what they do; '' is their number."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        Steps._take(steps, 1)
        torch.cuda.synchronize()
    found = dict.fromkeys(("head (its products and softmax)", "other matrix products", "all else"), 0.0)
    count = 0
    head = [e for e in profile.events() if e.name.startswith("LossAndBest")]
    for event in profile.events():
        for kernel in event.kernels:
            count += 1
            is_head = any(h.time_range.start <= event.time_range.start <= h.time_range.end for h in head)
            is_product = any(word in kernel.name.lower() for word in ("gemm", "cutlass", "gemv", "cublas", "nvjet"))
            kind = 0 if is_head else 1 if is_product else 2
            found[list(found)[kind]] += kernel.duration / 1000
    return {**found, "": count}


# ---------------------------------------------------------------- what is measured


def single_runs(subject: Subject, prompts: Prompts, harvest: Harvest, schedule: Schedule) -> None:
    print(f"\na run of {STEPS:,} steps at L = 0, by itself:")
    for method in ("neuron", "das"):
        job = make_job(subject, prompts, harvest, 0, method, 0)
        wait(subject.device)
        began = time.perf_counter()
        train([job], schedule, subject.device)
        wait(subject.device)
        print(f"  {method:<8}{time.perf_counter() - began:8.1f} s", flush=True)


def joint_steps(jobs: list[Job], layer: int, device: str, precision: str, n: int) -> tuple[float, Steps]:
    """Prints a row; returns the seconds of a run's step, and steps that are taken one by one."""
    graph = make_steps(GraphedSteps if device == "cuda" else Steps, jobs, device, precision)
    plain = make_steps(Steps, jobs, device, precision)  # with rotations in common, which both train
    for steps in (graph, plain):
        for _ in range(3):
            steps.advance(1)
    of_steps(graph, 2, device)  # captures
    turns = [(of_steps(graph, n, device), of_steps(plain, n, device)) for _ in range(3)]
    replayed, launched = (statistics.median(column) / len(jobs) for column in zip(*turns, strict=True))
    ratios = [b / a for a, b in turns]
    spread = f"{statistics.median(ratios):8.2f} {min(ratios):6.2f} {max(ratios):6.2f}"
    print(f"{layer:2} {replayed:9.3f} {launched:11.3f} {spread}", flush=True)
    return replayed / 1000, plain


def split(steps: Steps) -> None:
    """Prints what the kernels of one joint step do."""
    for rotation in steps.rotations:
        rotation.reach.fix(rotation.skew(), ROOM)
    found = kernels(steps)
    for rotation in steps.rotations:
        rotation.reach.free()
    count = found.pop("")
    print(f"   a joint step's {count} kernels run for {sum(found.values()):.2f} ms; the rest of its time is launching:")
    for kind, value in found.items():
        print(f"     {kind:<34}{value:8.2f} ms")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 5, 10], choices=range(11), metavar="L")
    parser.add_argument("--joint", type=int, default=12, metavar="N", help="runs in a batch (12)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="of a turn (100)")
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    device, precision = arguments.device, arguments.precision
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: torch sees no CUDA device here; --device cpu shows only that this runs")
    name = torch.cuda.get_device_name() if device == "cuda" else machine()
    print(f"{datetime.date.today()}, {name}, {precision}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, random weights, batch {BATCH_SIZE}")
    on_cpu, prompts = build_subject()
    subject = Subject(on_cpu.model, on_cpu.tokenizer, "random", device)
    harvest = subject.harvest(prompts, sorted({0, *arguments.layers}), progress=False)
    if device == "cuda":
        single_runs(subject, prompts, harvest, Schedule(20, BATCH_SIZE, 1e-3, (10.0, 0.1), precision))
    print(f"\nms a run's step, {arguments.joint} runs together")
    print(" L     graph  one by one   one by one / graph", flush=True)
    seconds = {}
    with in_precision(precision):
        for layer in arguments.layers:
            names = [RUNS[i % len(RUNS)] for i in range(arguments.joint)]
            jobs = [make_job(subject, prompts, harvest, layer, name, i) for i, name in enumerate(names)]
            seconds[layer], plain = joint_steps(jobs, layer, device, precision, arguments.steps)
            if device == "cuda":
                split(plain)
    minutes = 60 * sum(hours_of(seconds).values())
    print(f"\nthe paper's whole grid (108 masks of {STEPS:,} steps), projected: {minutes:.1f} minutes")
    if device == "cuda":
        print(f"peak memory on the GPU {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
