"""Time one training step on the fast engine and on the nnsight engine, side by side.

    python benchmarks/step.py                                 minutes
    python benchmarks/step.py --layers 5 --methods neuron     one minute
    python benchmarks/step.py --wide                          an SAE of 46,080 latents as well

A step is forward, loss, backward and Adam on a batch of 16 pairs that mixes cause and
isolation, on one CPU thread.  The model has GPT-2 small's shape and random weights, and
so have the SAEs, so nothing is downloaded: what a step costs depends on shapes, for
an SAE also on how many latents ever fire, for DAS on how far the rotation has gone.  The
engines take turns (fast, nnsight, fast, ..), each turn on a batch of its own and from the
same parameters; a ratio is taken within a turn, so that a machine that is busy for a
while slows both sides.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import tempfile
import time
from dataclasses import dataclass

from fixtures import build_subject, machine, random_sae, write_sae

from command import peak_gb
from data.intervention_data import PairBatch, index_pairs, make_pairs
from data.ravel_data_prep import Prompts
from engines import ENGINES
from featurizers import Das, Neuron, Sae
from imports import functional, torch, transformers
from models import Harvest, Subject
from saes import load_sae, release_named
from training import soft_mask

BATCH_SIZE = 16
LEARNING_RATE = 1e-3
SKEW_ENTRY = 0.05  # standard deviation of DAS's parameter: a rotation well away from its start
SAES = {"sae": ("bloom", 24_576), "sae-wide": ("apollo-e2e", 46_080)}  # method -> release, latents
METHODS = ("neuron", "das", "sae")
WANTED = {"layer": 5, "ratio": 15, "methods": ("neuron", "sae")}


# ---------------------------------------------------------------- pairs


def draw_batches(prompts: Prompts, n: int) -> list[PairBatch]:
    """Batches as training draws them: 16 of the shuffled pairs of both kinds."""
    pairs = index_pairs(make_pairs(prompts, "country", "paper", "pairs", 0)["train"], prompts, "country")
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
    batches = [pairs[index] for index in order.split(BATCH_SIZE)[:n]]
    assert len(batches) == n and all(0 < batch.is_cause.sum() < BATCH_SIZE for batch in batches)
    return batches


# ---------------------------------------------------------------- featurizers


def read_back(release: str, n_latents: int, x_RD, layer: int, n_layers: int):
    """A random SAE, by way of a file in its publisher's format."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_sae(release, folder, random_sae(release, n_latents, x_RD, layer), n_layers)
        return load_sae(release_named(release).family, path, layer, d_model=x_RD.shape[1])


def featurizers(method: str, x_RD, layer: int, n_layers: int) -> dict:
    """The same featurizer for each engine, with parameters of its own where it has any."""
    d_model = x_RD.shape[1]
    if method in SAES:
        sae = read_back(*SAES[method], x_RD, layer, n_layers)
        return {name: Sae(sae) for name in ENGINES}
    if method == "neuron":
        return {name: Neuron(d_model) for name in ENGINES}
    found = {}
    for name in ENGINES:
        found[name] = Das(d_model, seed=0)
        generator = torch.Generator().manual_seed(1)
        found[name].lower.data.normal_(0, SKEW_ENTRY, generator=generator)
    return found


# ---------------------------------------------------------------- one step


class Stepper:
    """An engine with a mask to train; every step begins at the same parameters."""

    def __init__(self, engine, parameters: list, theta):
        self.engine = engine
        self.theta = theta.clone().requires_grad_()
        self.parameters = [self.theta, *parameters]
        self.start = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.Adam(self.parameters, lr=LEARNING_RATE)
        self.seconds = self.cpu_seconds = 0.0  # far apart where other processes took the processor

    def step(self, batch: PairBatch):
        """The body of training.train's loop.  Returns milliseconds and the logits [B, vocabulary]."""
        with torch.no_grad():
            for p, start in zip(self.parameters, self.start, strict=True):
                p.copy_(start)
        began, cpu_began = time.perf_counter(), time.process_time()
        logits = self.engine.logits(batch, soft_mask(self.theta, 1.0))
        loss = functional.cross_entropy(logits, batch.label)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        spent = time.perf_counter() - began
        self.seconds += spent
        self.cpu_seconds += time.process_time() - cpu_began
        return 1000 * spent, logits.detach()


@dataclass
class Case:
    """What was measured for one layer and method."""

    layer: int
    method: str
    milliseconds: dict[str, list[float]]  # engine -> one per turn
    difference: float  # largest between the two engines' logits, over all turns
    moved: float  # largest that the patch does to a logit
    alive: int  # features the fast engine computes with
    l0: float | None
    preparation: float  # milliseconds to freeze the featurizer, once per run
    seconds: float  # spent in steps, both engines
    cpu_seconds: float  # of those, on the processor

    def ratios(self) -> list[float]:
        return [slow / fast for fast, slow in zip(*(self.milliseconds[e] for e in ("fast", "nnsight")), strict=True)]

    def row(self) -> str:
        fast, slow = (statistics.median(self.milliseconds[name]) for name in ("fast", "nnsight"))
        ratios = self.ratios()
        return (
            f"{self.layer:2}  {self.method:8} {fast:8.0f} {slow:8.0f} {statistics.median(ratios):8.1f} "
            f"{min(ratios):6.1f} {max(ratios):6.1f}   {self.difference:.1e}  {self.moved:.1e} {self.alive:6}"
        )


HEADER = (
    "                 ms a step        nnsight / fast         logits       active\n"
    " L  method      fast  nnsight   median    min    max    differ    moved      n"
)


def measure(subject: Subject, prompts: Prompts, harvest: Harvest, layer: int, method: str, repeats: int) -> Case:
    """Take turns, fast first, and compare the logits that each turn computed."""
    found = featurizers(method, harvest.residuals[layer][:, 0], layer, subject.n_layers)
    l0 = found["fast"].l0(harvest.residuals[layer][:, 0])
    began = time.perf_counter()
    engines = {name: build(subject, prompts, harvest, layer, found[name]) for name, build in ENGINES.items()}
    preparation = 1000 * (time.perf_counter() - began)
    fast = engines["fast"]
    theta = torch.randn(fast.n_active, generator=torch.Generator().manual_seed(2))
    # The nnsight engine's theta is as wide as the featurizer; where no latent fires its value is without effect.
    thetas = {"fast": theta, "nnsight": fast.widen(theta)}
    steppers = {name: Stepper(engines[name], found[name].parameters, thetas[name]) for name in ENGINES}
    warm_up, *batches = draw_batches(prompts, 1 + repeats)
    with torch.no_grad():
        plain = fast.logits(warm_up, torch.zeros_like(theta))
    patched = {name: stepper.step(warm_up)[1] for name, stepper in steppers.items()}
    moved = float((patched["fast"] - plain).abs().max())
    difference = float((patched["fast"] - patched["nnsight"]).abs().max())
    milliseconds: dict[str, list[float]] = {name: [] for name in steppers}
    for batch in batches:
        logits = {}
        for name, stepper in steppers.items():
            spent, logits[name] = stepper.step(batch)
            milliseconds[name].append(spent)
        difference = max(difference, float((logits["fast"] - logits["nnsight"]).abs().max()))
    seconds, cpu_seconds = (sum(getattr(s, name) for s in steppers.values()) for name in ("seconds", "cpu_seconds"))
    return Case(*(layer, method, milliseconds, difference, moved, fast.n_active, l0, preparation, seconds, cpu_seconds))


# ---------------------------------------------------------------- the report


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    # At the last block (11) a patch cannot be learned: nothing after it moves information between positions.
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        default=[0, 5, 10],
        choices=range(11),
        metavar="L",
        help="0 to 10 (default: 0 5 10)",
    )
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=METHODS, help=f"default: {' '.join(METHODS)}"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help="turns per case after one to warm up (default: 5 at L = 5, 3 elsewhere)",
    )
    parser.add_argument("--wide", action="store_true", help="measure an SAE of 46,080 latents as well")
    arguments = parser.parse_args()
    if arguments.repeats is not None and not 1 <= arguments.repeats <= 100:
        parser.error("--repeats must be from 1 to 100")
    return arguments


def main() -> None:
    arguments = read_arguments()
    methods = [*arguments.methods, *(["sae-wide"] if arguments.wide else [])]
    torch.set_num_threads(1)
    began = time.perf_counter()
    print(f"{datetime.date.today()}, {machine()}, 1 thread")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, random weights, batch {BATCH_SIZE}\n")
    subject, prompts = build_subject()
    harvest_began = time.perf_counter()
    harvest = subject.harvest(prompts, arguments.layers, progress=False)
    harvested, peak_harvested = time.perf_counter() - harvest_began, peak_gb()
    print(HEADER, flush=True)
    cases = []
    for layer in arguments.layers:
        for method in methods:
            repeats = arguments.repeats or (5 if layer == WANTED["layer"] else 3)  # each takes up to ten seconds
            cases.append(measure(subject, prompts, harvest, layer, method, repeats))
            print(cases[-1].row(), flush=True)
    print("\nms: medians; ratios: of steps taken in turn; differ: the largest difference")
    print("between the engines' logits; moved: the largest change of a logit from a mask")
    print("of zeros to the random mask of every step; n: features the fast engine uses.")
    for method in dict.fromkeys(case.method for case in cases if case.l0 is not None):
        l0s = [case.l0 for case in cases if case.method == method]
        print(f"{method}: {min(l0s):.0f} to {max(l0s):.0f} of {SAES[method][1]:,} latents fire on a vector")
    freezing = max(case.preparation for case in cases)
    print(f"once beforehand: harvest {harvested:.1f} s, freezing a featurizer at most {freezing:.0f} ms")
    print(f"peak memory: {peak_harvested:.2f} GB after the harvest, {peak_gb():.2f} GB in all")
    share = sum(case.cpu_seconds for case in cases) / sum(case.seconds for case in cases)
    print(f"on the processor for {share:.0%} of the time in steps (less than 99% says it was shared)")
    print(f"this took {time.perf_counter() - began:.0f} s")
    for case in cases:
        if case.layer == WANTED["layer"] and case.method in WANTED["methods"]:
            ratio = statistics.median(case.ratios())
            verdict = "met" if ratio >= WANTED["ratio"] else "MISSED"
            print(f"wanted: {case.method} at L = {case.layer} at least {WANTED['ratio']} times faster: {verdict}")


if __name__ == "__main__":
    main()
