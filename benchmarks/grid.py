"""Time joint batches against single runs, layer by layer, and project the paper's grid from it.

    python benchmarks/grid.py                  all layers 0 to 10
    python benchmarks/grid.py --layers 0 5 10  some minutes; the projection interpolates

Four runs of a layer (neuron, das, openai, bloom) train together, as main.py trains them (--joint 4), and one after
the other, in turns.  The floor is what a step's products with weights take at the rate of this machine's own large
product: of the layers after L at the suffix's 8 positions, of the last layer at one, and of the head.
"""

import argparse
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
    """How many masks the paper's grid has there: at three layers two of Apollo's SAEs more."""
    return TARGETS * (len(RUNS) + 2 * (layer in APOLLO_LAYERS))


def ways_at(subject, prompts, cache, layer: int, n_steps: int) -> list:
    """Milliseconds of a run's step, with the runs one after the other and together, as functions."""
    pairs = training_pairs(prompts)[: n_steps * BATCH_SIZE]
    featurizers = {name: featurizer_of(name, cache.residuals[layer][:, 0], layer) for name in RUNS}
    engines = {name: FastEngine(subject, cache, layer, its) for name, its in featurizers.items()}

    def steps(names) -> float:
        runs = [MaskRun(engines[name], featurizers[name] if name == "das" else None, pairs, 0) for name in names]
        return timed(lambda: train(runs, SCHEDULE, "cpu")) / len(RUNS) / n_steps

    return [lambda: sum(steps([name]) for name in RUNS), lambda: steps(RUNS)]


def seconds_per_gflop() -> float:
    """Of a large product on one thread, in the form in which the steps multiply."""
    x, matrix = torch.randn(768, 768), form_for("fp32", "cpu")(torch.randn(768, 3072))
    (times,) = in_turns(30, lambda: timed(lambda: matrix.times(x)))
    return statistics.median(times) / 1000 / (2 * 768 * 768 * 3072 / 1e9)


def hours_of(seconds: dict[int, float]) -> float:
    """Of all masks, from the seconds of one's step at some layers; those left out are interpolated."""
    known, total = sorted(seconds), 0.0
    for layer in range(N_TRAINED):
        below = max((n for n in known if n <= layer), default=known[0])
        above = min((n for n in known if n >= layer), default=known[-1])
        part = (layer - below) / (above - below) if above > below else 0.0
        total += masks_at(layer) * STEPS * (seconds[below] + part * (seconds[above] - seconds[below])) / 3600
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--layers", type=int, nargs="+", default=range(N_TRAINED), choices=range(N_TRAINED), metavar="L"
    )
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="per layer (5)")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="of a turn, per run (4)")
    arguments = parser.parse_args()
    layers = sorted(set(arguments.layers))
    one_thread()
    subject, prompts = build_subject()
    cache, rate = subject.harvest(prompts, layers, progress=False), seconds_per_gflop()
    print("     ms a run's step       joint / single              FLOP  joint /")
    print(" L    single    joint   median     min     max        floor    floor", flush=True)
    seconds: dict[str, dict[int, float]] = {"single": {}, "joint": {}, "floor": {}}
    for layer in layers:
        times = in_turns(arguments.turns, *ways_at(subject, prompts, cache, layer, arguments.steps))
        one, together = map(statistics.median, times)
        floor = 1000 * rate * sum(gflops(subject, layer, N_SUFFIX))
        for found, ms in zip(seconds.values(), (one, together, floor), strict=True):
            found[layer] = ms / 1000
        row = f"{one:8.0f} {together:8.0f} {spread(ratios(*reversed(times)))}     {floor:8.0f} {together / floor:8.2f}"
        print(f"{layer:2}  {row}", flush=True)
    n_masks, n_last = sum(map(masks_at, range(N_TRAINED))), masks_at(N_TRAINED)
    print(f"\nfloor: at {1 / rate:.0f} GFLOP/s\nthe paper's grid, projected: {n_masks} masks of {STEPS:,} steps")
    print(f"({n_last} more are at the last layer, where nothing can be learned)")
    for name, found in seconds.items():
        print(f"  {name:<18}{hours_of(found):8.1f} hours")


if __name__ == "__main__":
    main()
