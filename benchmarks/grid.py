"""Time joint batches against single runs, layer by layer, and project the paper's grid from it.

    python benchmarks/grid.py                  all layers 0 to 10: a quarter of an hour
    python benchmarks/grid.py --layers 0 5 10  some minutes; the projection interpolates

Four runs of a layer (neuron, das, openai with 32,768 latents, bloom with 24,576) take
training steps together, as main.py trains them (--joint 4), and one after the other, in
turns, on one CPU thread; GPT-2 small's shape with random weights, batches of 16.  A layer's
ratio is the median of the turns' ratios.  The nnsight engine takes one step of a neuron
run beside them, for what the grid would take with it.  Then two processes of one thread
each take the joint steps at the same time, as --workers 2 does, each layer on both at once.

FLOPs are counted for what a step cannot do without: every product with a weight in the
blocks after L and with lm_head, once forward and once for the gradient of what enters it.
The floor is their time at the rate of this machine's own large matrix product, measured in
every turn.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import statistics
import time

from fixtures import N_CITIES, build_subject, random_sae
from machine import machine

from data.intervention_data import index_pairs, make_pairs
from decoder.products import form_for
from featurizers.das import Das
from featurizers.neuron import Neuron
from featurizers.sae import Sae
from imports import torch, transformers
from masks.engines import ENGINES
from masks.training import Job, Schedule, train

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
        away = torch.randn(subject.d_model, subject.d_model, generator=torch.Generator().manual_seed(1))
        self.featurizers["das"].move_to(0.05 * away)  # from its start
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
    d, vocabulary, S = subject.d_model, subject.model.config.vocab_size, 8
    # multiplications at one position: c_attn, c_proj, the MLP's two
    attention, output, mlp = 3 * d * d, d * d, 8 * d * d
    last = attention + output + mlp  # its keys' and values' weights meet one vector each (blocks.last_block)
    first = attention + S * (output + mlp)  # only the city's vector is new to its c_attn
    n_blocks = subject.n_layers - 1 - layer
    if n_blocks == 1:
        blocks = 2 * d * d + output + mlp  # keys and values of the city's vector; the query is known
    else:
        blocks = first + (n_blocks - 2) * S * (attention + output + mlp) + last
    moved = 1 - 1 / N_CITIES  # a city patched with itself, one pair of 40, needs no blocks
    return 2 * 2 * BATCH_SIZE * (moved * blocks + d * vocabulary)  # a product is two FLOPs; forward, and the gradient


def rate() -> float:
    """FLOPs per second of a large product on one thread, in the form in which the steps multiply."""
    x, weight = torch.randn(768, 768), torch.randn(768, 3072)
    matrix = form_for("fp32", "cpu")(weight)
    found = []
    for _ in range(30):
        began = time.perf_counter()
        matrix.times(x)
        found.append(2 * 768 * 768 * 3072 / (time.perf_counter() - began))
    return statistics.median(found)


def hours_of(seconds: dict[int, float]) -> dict[int, float]:
    """layer -> hours of its masks, from the seconds of one's step at each; layers left out are interpolated."""
    known = sorted(seconds)
    found = {}
    for layer in range(11):  # at the last block nothing is trained
        below = max((n for n in known if n <= layer), default=known[0])
        above = min((n for n in known if n >= layer), default=known[-1])
        part = (layer - below) / (above - below) if above > below else 0.0
        step = seconds[below] + part * (seconds[above] - seconds[below])
        found[layer] = TARGETS * (len(RUNS) + 2 * (layer in APOLLO_LAYERS)) * STEPS * step / 3600
    return found


def shared_out(hours: dict[int, float], n_workers: int) -> float:
    """Hours until the last of several workers is done, if each takes the next layer when it is free (workers.py)."""
    busy = [0.0] * n_workers
    for layer in sorted(hours):
        busy[busy.index(min(busy))] += hours[layer]
    return max(busy)


# ---------------------------------------------------------------- several processes


def work_beside(layers: list[int], turns: int, n_steps: int, start, line) -> None:
    """One of several processes that take the same joint steps at the same time; sends seconds of a run's step."""
    torch.set_num_threads(1)
    subject, prompts = build_subject()
    harvest = subject.harvest(prompts, layers, progress=False)
    found = {}
    for layer in layers:
        bench = Bench(subject, prompts, harvest, layer)
        bench.seconds(RUNS, 1)  # warm up
        start.wait()
        taken = [bench.seconds(RUNS, n_steps) / len(RUNS) / n_steps for _ in range(turns)]
        found[layer] = statistics.median(taken)
    line.send(found)


def beside_each_other(n_workers: int, *what) -> dict[int, float]:
    """layer -> seconds of a run's joint step while so many processes take them, their mean."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(n_workers)
    lines = []
    for _ in range(n_workers):
        ours, theirs = context.Pipe()
        context.Process(target=work_beside, args=(*what, start, theirs), daemon=True).start()
        lines.append(ours)
    found = [line.recv() for line in lines]
    return {layer: statistics.mean(its[layer] for its in found) for layer in found[0]}


# ---------------------------------------------------------------- the report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, nargs="+", default=list(range(11)), choices=range(11), metavar="L")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="per layer (5)")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="of a turn, per run (4)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes beside each other (2)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{datetime.date.today()}, {machine()}, 1 thread")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, random weights, batch {BATCH_SIZE}\n")
    subject, prompts = build_subject()
    layers = sorted(set(arguments.layers))
    harvest = subject.harvest(prompts, layers, progress=False)
    print("     ms a run's step       joint / single        nnsight   FLOP  joint /")
    print(" L    single    joint   median    min    max          ms  floor    floor", flush=True)
    seconds: dict[str, dict[int, float]] = {"joint": {}, "single": {}, "nnsight": {}, "floor": {}}
    shares, rates, all_ratios = [], [], []
    for layer in layers:
        bench = Bench(subject, prompts, harvest, layer)
        bench.seconds(RUNS, 1)  # warm up
        joint, single, speeds = [], [], []
        for _ in range(arguments.turns):
            began_cpu, began = time.process_time(), time.perf_counter()
            joint.append(bench.seconds(RUNS, arguments.steps) / len(RUNS) / arguments.steps)
            single.append(sum(bench.seconds((name,), arguments.steps) for name in RUNS) / len(RUNS) / arguments.steps)
            speeds.append(rate())
            shares.append((time.process_time() - began_cpu) / (time.perf_counter() - began))
        seconds["nnsight"][layer] = bench.seconds(("neuron",), 1, bench.plain)
        seconds["joint"][layer], seconds["single"][layer] = statistics.median(joint), statistics.median(single)
        seconds["floor"][layer] = flops(subject, layer) / statistics.median(speeds)
        rates += speeds
        ratios = [a / b for a, b in zip(joint, single, strict=True)]
        all_ratios.append(statistics.median(ratios))
        one, together, plain, floor = (1000 * seconds[name][layer] for name in ("single", "joint", "nnsight", "floor"))
        ratio = f"{statistics.median(ratios):8.2f} {min(ratios):6.2f} {max(ratios):6.2f}"
        row = f"{layer:2}  {one:8.0f} {together:8.0f} {ratio}    {plain:8.0f} {floor:6.0f} {together / floor:8.2f}"
        print(row, flush=True)
    speed, slowest, fastest = (f(rates) / 1e9 for f in (statistics.median, min, max))
    print(f"\nfloor: the products that a step needs, at {speed:.0f} GFLOP/s ({slowest:.0f} to {fastest:.0f})")
    print(f"joint / single, median of the layers: {statistics.median(all_ratios):.2f}")
    print(f"\nthe paper's whole grid (108 masks of {STEPS:,} steps), projected, one thread:")
    for name, found in seconds.items():
        print(f"  {name:<18}{sum(hours_of(found).values()):8.1f} hours")
    share = statistics.median(shares)
    print(f"on the processor for {share:.0%} of the time (less than 99% says it was shared)", flush=True)
    if arguments.workers > 1:
        beside = beside_each_other(arguments.workers, layers, arguments.turns, arguments.steps)
        slower = statistics.median(beside[layer] / seconds["joint"][layer] for layer in layers)
        hours = shared_out(hours_of(beside), arguments.workers)
        print(f"  joint, --workers {arguments.workers}{hours:8.1f} hours; a step takes {slower:.2f} times as long")


if __name__ == "__main__":
    main()
