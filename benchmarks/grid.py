"""Time joint batches against single runs, layer by layer, and project the paper's grid from it.

    python benchmarks/grid.py                  all layers 0 to 10: some ten minutes
    python benchmarks/grid.py --layers 0 5 10  three minutes; the projection interpolates

Four runs of a layer (neuron, das, openai with 32,768 latents, bloom with 24,576) take
training steps together, as main.py trains them (--joint 4), and one after the other, in
turns, on one CPU thread; GPT-2 small's shape with random weights, batches of 16.  A layer's
ratio is the median of the turns' ratios.  The nnsight engine takes one step of a neuron
run beside them, for what the grid would take with it.

FLOPs are counted for what a step cannot do without: every product with a weight in the
blocks after L and with lm_head, once forward and once for the gradient of what enters it.
The floor is their time at the rate of this machine's own large matrix product, measured here.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time

from fixtures import build_subject, machine, random_sae

from data.intervention_data import index_pairs, make_pairs
from engines import ENGINES
from featurizers import Das, Neuron, Sae
from imports import torch, transformers
from training import Job, Schedule, train

BATCH_SIZE = 16
RUNS = ("neuron", "das", "openai", "bloom")
WIDTHS = {"openai": 32_768, "bloom": 24_576}
TARGETS = 2
APOLLO_LAYERS = (1, 5, 9)  # where two more masks a target are trained: 2 x (12 x 4 + 3 x 2) = 108
STEPS = 2_800  # of one mask: 20 epochs of 2,240 training pairs, 16 at a time
SCHEDULE = Schedule(epochs=1, batch_size=BATCH_SIZE, lr=1e-3, temperature=(10.0, 0.1))


class Bench:
    """The four runs at one layer."""

    def __init__(self, subject, prompts, harvest, layer: int):
        self.pairs = index_pairs(make_pairs(prompts, "country", "paper", "pairs", 0)["train"], prompts, "country")
        x_RD = harvest.residuals[layer][:, 0]
        self.featurizers = {"neuron": Neuron(subject.d_model), "das": Das(subject.d_model, seed=0)}
        with torch.no_grad():  # a rotation well away from its start
            self.featurizers["das"].lower.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
        for release, width in WIDTHS.items():
            self.featurizers[release] = Sae(random_sae(release, width, x_RD, layer))
        self.engines = {
            name: ENGINES["fast"](subject, prompts, harvest, layer, its) for name, its in self.featurizers.items()
        }
        self.plain = ENGINES["nnsight"](subject, prompts, harvest, layer, self.featurizers["neuron"])

    def seconds(self, names: tuple[str, ...], n_steps: int, engine=None) -> float:
        """Of so many steps of `train` with these runs beside each other."""
        jobs = []
        for seed, name in enumerate(names):
            order = torch.randperm(len(self.pairs), generator=torch.Generator().manual_seed(seed))
            few = self.pairs[order[: n_steps * BATCH_SIZE]]
            rotation = self.featurizers[name] if name == "das" else None
            jobs.append(Job(engine or self.engines[name], rotation, few, seed))
        began = time.perf_counter()
        train(jobs, SCHEDULE, "cpu")
        return time.perf_counter() - began


def flops(subject, layer: int) -> float:
    """Of one run's step: the products with the weights of the blocks after `layer`, and with lm_head."""
    d, vocabulary = subject.d_model, subject.model.config.vocab_size
    per_position = 2 * 12 * d * d  # c_attn 3 d^2, c_proj d^2, the MLP 8 d^2; a multiplication and an addition
    n_blocks = subject.n_layers - 1 - layer
    keys_and_values = 2 * 2 * d * d  # all that the last block does for the seven positions which nothing reads after it
    blocks = (n_blocks - 1) * 8 * per_position + per_position + 7 * keys_and_values
    return 2 * BATCH_SIZE * (blocks + 2 * d * vocabulary)  # forward, and the gradient of what enters


def rate() -> float:
    """FLOPs per second of a large matrix product on one thread."""
    a, b = torch.randn(768, 768), torch.randn(768, 3072)
    found = []
    for _ in range(30):
        began = time.perf_counter()
        a @ b
        found.append(2 * 768 * 768 * 3072 / (time.perf_counter() - began))
    return statistics.median(found)


def projection(seconds: dict[int, float]) -> float:
    """Hours of the whole grid, from the seconds of a mask's step at each layer; missing layers are interpolated."""
    known = sorted(seconds)
    total = 0.0
    for layer in range(11):  # at the last block nothing is trained
        below = max((n for n in known if n <= layer), default=known[0])
        above = min((n for n in known if n >= layer), default=known[-1])
        part = (layer - below) / (above - below) if above > below else 0.0
        step = seconds[below] + part * (seconds[above] - seconds[below])
        total += TARGETS * (len(RUNS) + 2 * (layer in APOLLO_LAYERS)) * STEPS * step
    return total / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=list(range(11)), choices=range(11), metavar="L")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="per layer (5)")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="of a turn, per run (4)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{datetime.date.today()}, {machine()}, 1 thread")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, random weights, batch {BATCH_SIZE}\n")
    subject, prompts = build_subject()
    layers = sorted(set(arguments.layers))
    harvest = subject.harvest(prompts, layers, progress=False)
    speed = rate()
    print("     ms a run's step       joint / single        nnsight   FLOP floor")
    print(" L    single    joint   median    min    max          ms           ms", flush=True)
    seconds: dict[str, dict[int, float]] = {"joint": {}, "single": {}, "nnsight": {}}
    shares = []
    for layer in layers:
        bench = Bench(subject, prompts, harvest, layer)
        bench.seconds(RUNS, 1)  # warm up
        joint, single = [], []
        for _ in range(arguments.turns):
            began_cpu, began = time.process_time(), time.perf_counter()
            joint.append(bench.seconds(RUNS, arguments.steps) / len(RUNS) / arguments.steps)
            single.append(sum(bench.seconds((name,), arguments.steps) for name in RUNS) / len(RUNS) / arguments.steps)
            shares.append((time.process_time() - began_cpu) / (time.perf_counter() - began))
        seconds["nnsight"][layer] = bench.seconds(("neuron",), 1, bench.plain)
        seconds["joint"][layer], seconds["single"][layer] = statistics.median(joint), statistics.median(single)
        ratios = [a / b for a, b in zip(joint, single, strict=True)]
        one, together, plain = (1000 * seconds[name][layer] for name in ("single", "joint", "nnsight"))
        ratio = f"{statistics.median(ratios):8.2f} {min(ratios):6.2f} {max(ratios):6.2f}"
        floor = 1000 * flops(subject, layer) / speed
        print(f"{layer:2}  {one:8.0f} {together:8.0f} {ratio}    {plain:8.0f}     {floor:8.0f}", flush=True)
    print(f"\nfloor: the products that a step needs, at {speed / 1e9:.0f} GFLOP/s")
    print(f"the paper's whole grid (108 masks of {STEPS:,} steps), projected, one thread:")
    for name, found in seconds.items():
        print(f"  {name:<8}{projection(found):8.1f} hours")
    print(f"on the processor for {statistics.median(shares):.0%} of the time (less than 99% says it was shared)")


if __name__ == "__main__":
    main()
