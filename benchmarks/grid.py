"""Time joint batches against single runs, layer by layer, and project the paper's grid from it.

    python benchmarks/grid.py                  all layers 0 to 10
    python benchmarks/grid.py --layers 0 5 10  some minutes; the projection interpolates

Four runs of a layer (neuron, das, openai with 32,768 latents, bloom with 24,576) take training steps together, as
main.py trains them (--joint 4), and one after the other, in turns, on one thread; GPT-2 small's shape with random
weights, batches of 16.  Then two processes take the joint steps at the same time, as --workers 2 does.

The floor is what a step's products with weights take at the rate of this machine's own large product: of the
layers after L at the suffix's 8 positions, of the last layer at one, and of the head.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics

from fixtures import N_SUFFIX, build_subject, featurizer_of, gflops, training_pairs
from turns import BATCH_SIZE, in_turns, one_thread, ratios, spread, timed

from decoder.products import form_for
from imports import torch
from masks.engines import FastEngine
from masks.training import MaskRun, Schedule, train

RUNS = ("neuron", "das", "openai", "bloom")
TARGETS, APOLLO_LAYERS, N_TRAINED = 2, (1, 5, 9), 11  # at the last of the 12 layers nothing is trained
STEPS = 2_800  # of one mask: 20 epochs of 2,240 training pairs, 16 at a time
SCHEDULE = Schedule(epochs=1, batch_size=BATCH_SIZE, lr=1e-3, temperature=(10.0, 0.1))


def masks_at(layer: int) -> int:
    """How many masks the paper's grid trains there: at three layers two of Apollo's SAEs more."""
    return TARGETS * (len(RUNS) + 2 * (layer in APOLLO_LAYERS))


def steps_at(subject, prompts, cache, layer: int, n_steps: int):
    """Function of names of runs -> function that takes so many steps with them together."""
    pairs = training_pairs(prompts)[: n_steps * BATCH_SIZE]
    featurizers = {name: featurizer_of(name, cache.residuals[layer][:, 0], layer) for name in RUNS}
    engines = {name: FastEngine(subject, cache, layer, its) for name, its in featurizers.items()}

    def steps(*names: str):
        jobs = [MaskRun(engines[name], featurizers[name] if name == "das" else None, pairs, 0) for name in names]
        return lambda: train(jobs, SCHEDULE, "cpu")

    return steps


def seconds_per_gflop() -> float:
    """Of a large product on one thread, in the form in which the steps multiply."""
    x, matrix = torch.randn(768, 768), form_for("fp32", "cpu")(torch.randn(768, 3072))
    (times,) = in_turns(30, lambda: timed(lambda: matrix.times(x)))
    return statistics.median(times) / 1000 / (2 * 768 * 768 * 3072 / 1e9)


def hours_of(seconds: dict[int, float]) -> dict[int, float]:
    """layer -> hours of its masks, from the seconds of one's step at each; layers left out are interpolated."""
    known, found = sorted(seconds), {}
    for layer in range(N_TRAINED):
        below = max((n for n in known if n <= layer), default=known[0])
        above = min((n for n in known if n >= layer), default=known[-1])
        part = (layer - below) / (above - below) if above > below else 0.0
        step = seconds[below] + part * (seconds[above] - seconds[below])
        found[layer] = masks_at(layer) * STEPS * step / 3600
    return found


def shared_out(hours: dict[int, float], n_workers: int) -> float:
    """Hours until the last of several workers is done, if each takes the next layer when it is free."""
    busy = [0.0] * n_workers
    for layer in sorted(hours):
        busy[busy.index(min(busy))] += hours[layer]
    return max(busy)


def joint_alone(layers: list[int], turns: int, n_steps: int) -> dict[int, float]:
    """layer -> seconds of a run's joint step; for a process beside others."""
    torch.set_num_threads(1)
    subject, prompts = build_subject()
    cache, found = subject.harvest(prompts, layers, progress=False), {}
    for layer in layers:
        joint = steps_at(subject, prompts, cache, layer, n_steps)(*RUNS)
        (times,) = in_turns(turns, lambda joint=joint: timed(joint) / len(RUNS) / n_steps / 1000)
        found[layer] = statistics.median(times)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=list(range(N_TRAINED)), metavar="L")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="per layer (5)")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="of a turn, per run (4)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes beside each other (2)")
    arguments = parser.parse_args()
    layers, n_steps = sorted(set(arguments.layers)), arguments.steps
    one_thread()
    subject, prompts = build_subject()
    cache, rate = subject.harvest(prompts, layers, progress=False), seconds_per_gflop()
    print("     ms a run's step       joint / single              FLOP  joint /")
    print(" L    single    joint   median     min     max        floor    floor", flush=True)
    seconds: dict[str, dict[int, float]] = {"single": {}, "joint": {}, "floor": {}}
    for layer in layers:
        steps = steps_at(subject, prompts, cache, layer, n_steps)
        ways = [[steps(name) for name in RUNS], [steps(*RUNS)]]
        turns = (lambda way=way: sum(map(timed, way)) / len(RUNS) / n_steps for way in ways)
        times = in_turns(arguments.turns, *turns)
        for name, column in zip(("single", "joint"), times, strict=True):
            seconds[name][layer] = statistics.median(column) / 1000
        seconds["floor"][layer] = rate * sum(gflops(subject, layer, N_SUFFIX, BATCH_SIZE))
        one, together, floor = (1000 * its[layer] for its in seconds.values())
        row = f"{one:8.0f} {together:8.0f} {spread(ratios(*reversed(times)))}     {floor:8.0f} {together / floor:8.2f}"
        print(f"{layer:2}  {row}", flush=True)
    n_masks, n_last = sum(map(masks_at, range(N_TRAINED))), masks_at(N_TRAINED)
    print(
        f"\nfloor: at {1 / rate:.0f} GFLOP/s\n\nthe paper's grid, projected: {n_masks} masks of {STEPS:,} steps on one"
    )
    print(f"thread ({n_last} more are at the last layer, where nothing can be learned):")
    for name, found in seconds.items():
        print(f"  {name:<18}{sum(hours_of(found).values()):8.1f} hours", flush=True)
    if arguments.workers > 1:
        with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
            every = pool.starmap(joint_alone, [(layers, arguments.turns, n_steps)] * arguments.workers)
        beside = {layer: statistics.mean(its[layer] for its in every) for layer in layers}
        slower = statistics.median(beside[layer] / seconds["joint"][layer] for layer in layers)
        hours = shared_out(hours_of(beside), arguments.workers)
        print(f"  joint, --workers {arguments.workers}{hours:8.1f} hours; a step takes {slower:.2f} times as long")


if __name__ == "__main__":
    main()
