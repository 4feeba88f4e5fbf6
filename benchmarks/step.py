"""Time one training step on the fast engine and on the nnsight engine, and one method beside another.

    python benchmarks/step.py                                 some ten minutes
    python benchmarks/step.py --layers 5 --methods neuron     one minute

A step is what `training.train` takes: forward, loss, backward and Adam on a batch of 16
pairs that mixes cause and isolation, on one CPU thread.  The model has GPT-2 small's shape
and random weights, and so have the SAEs, so nothing is downloaded: what a step costs depends
on shapes, for an SAE also on how many latents ever fire, for DAS on how far the rotation has
gone.  What is compared takes turns, each turn on a batch of its own and from the same
parameters; a ratio is taken within a turn, so that a machine that is busy for a while slows
both sides.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import tempfile
import time
from dataclasses import dataclass

from fixtures import build_subject, random_sae, write_sae
from machine import machine

from common.command import peak_gb
from data.intervention_data import PairBatch, index_pairs, make_pairs
from data.ravel_data_prep import Prompts
from featurizers.das import Das
from featurizers.neuron import Neuron
from featurizers.sae import Sae
from imports import torch, transformers
from masks.engines import ENGINES
from masks.scores import soft_mask
from masks.stepping import Steps
from masks.training import Job, Plan
from models import Harvest, Subject
from saes.loading import load_sae
from saes.places import release_named

BATCH_SIZE = 16
LEARNING_RATE = 1e-3
SKEW_ENTRY = 0.05  # standard deviation of DAS's parameter: a rotation well away from its start
SAES = {"sae": ("bloom", 24_576), "sae-wide": ("apollo-e2e", 46_080)}  # method -> release, latents
METHODS = ("neuron", "das", "sae", "sae-wide")
WANTED = {(0, "neuron"): 15, (5, "neuron"): 20, (10, "neuron"): 45}  # nnsight / fast
WANTED_BESIDE = {"das": 1.4, "sae-wide": 1.15}  # to the neuron's step


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
        found[name].move_to(torch.empty(d_model, d_model).normal_(0, SKEW_ENTRY, generator=generator))
    return found


# ---------------------------------------------------------------- one step


class Stepper:
    """A run of one method on one engine; every step begins at the same parameters."""

    def __init__(self, engine, featurizer, theta, batches: list[PairBatch]):
        self.engine = engine
        self.theta = theta.clone().requires_grad_()
        job = Job(engine, featurizer if featurizer.parameters else None, batches[0], 0)
        self.parameters = [self.theta, *job.parameters]
        self.start = [p.detach().clone() for p in self.parameters]
        optimizer = torch.optim.Adam(self.parameters, lr=LEARNING_RATE, fused=True)
        rows = torch.stack([torch.stack([b.base, b.source, b.label])[None] for b in batches])
        plan = Plan(rows, torch.full((len(batches), 1, BATCH_SIZE), 1 / BATCH_SIZE), torch.ones(len(batches), 1), [])
        self.steps = Steps([job], [self.theta], optimizer, plan, "fp32")

    def milliseconds(self) -> float:
        """Of its next step, on its next batch."""
        with torch.no_grad():
            for p, start in zip(self.parameters, self.start, strict=True):
                p.copy_(start)
        began = time.perf_counter()
        self.steps.advance(1)
        return 1000 * (time.perf_counter() - began)

    def logits(self, batch: PairBatch):
        with torch.no_grad():
            return self.engine.logits(batch, soft_mask(self.theta, 1.0))


@dataclass
class Case:
    """One method at one layer, on both engines."""

    layer: int
    method: str
    steppers: dict[str, Stepper]
    difference: float  # largest between the two engines' logits of a batch
    moved: float  # largest that the patch does to a logit
    l0: float | None
    preparation: float  # milliseconds to freeze the featurizer, once per run

    @classmethod
    def of(cls, subject: Subject, prompts: Prompts, harvest: Harvest, layer: int, method: str, batches) -> Case:
        found = featurizers(method, harvest.residuals[layer][:, 0], layer, subject.n_layers)
        l0 = found["fast"].l0(harvest.residuals[layer][:, 0])
        began = time.perf_counter()
        engines = {name: build(subject, prompts, harvest, layer, found[name]) for name, build in ENGINES.items()}
        preparation = 1000 * (time.perf_counter() - began)
        fast = engines["fast"]
        theta = torch.randn(fast.n_active, generator=torch.Generator().manual_seed(2))
        # The nnsight engine's theta is as wide as the featurizer; where no latent fires its value is without effect.
        thetas = {"fast": theta, "nnsight": fast.widen(theta)}
        steppers = {name: Stepper(engines[name], found[name], thetas[name], batches) for name in ENGINES}
        logits = {name: stepper.logits(batches[0]) for name, stepper in steppers.items()}
        with torch.no_grad():
            moved = float((logits["fast"] - fast.logits(batches[0], torch.zeros_like(theta))).abs().max())
        difference = float((logits["fast"] - logits["nnsight"]).abs().max())
        return cls(layer, method, steppers, difference, moved, l0, preparation)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.2f} {min(values):6.2f} {max(values):6.2f}"


def engines_in_turn(case: Case, turns: int) -> list[float]:
    """Prints a row; returns the ratios nnsight / fast."""
    times = [[stepper.milliseconds() for stepper in case.steppers.values()] for _ in range(turns)]
    fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = [plain / ours for ours, plain in times]
    n = case.steppers["fast"].engine.n_active
    print(
        f"{case.layer:2}  {case.method:8} {fast:8.0f} {slow:8.0f} {spread(ratios)}   "
        f"{case.difference:.1e}  {case.moved:.1e} {n:6}",
        flush=True,
    )
    return ratios


def methods_in_turn(cases: list[Case], turns: int) -> dict[str, list[float]]:
    """method -> ratios of its step to the neuron's, on the fast engine."""
    times = {case.method: [] for case in cases}
    for _ in range(turns):
        for case in cases:
            times[case.method].append(case.steppers["fast"].milliseconds())
    return {
        method: [one / neuron for one, neuron in zip(its, times["neuron"], strict=True)]
        for method, its in times.items()
        if method != "neuron"
    }


# ---------------------------------------------------------------- the report


HEADER = (
    "                 ms a step        nnsight / fast         logits       active\n"
    " L  method      fast  nnsight   median    min    max    differ    moved      n"
)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    # At the last block (11) a patch cannot be learned: nothing after it moves information between positions.
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 5, 10], choices=range(11), metavar="L")
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=METHODS, help=f"default: {' '.join(METHODS)}"
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="turns of the two engines (5)")
    parser.add_argument("--turns", type=int, default=25, metavar="N", help="turns of the methods (25)")
    arguments = parser.parse_args()
    if not (1 <= arguments.repeats <= 100 and 1 <= arguments.turns <= 100):
        parser.error("--repeats and --turns must be from 1 to 100")
    return arguments


def main() -> None:
    arguments = read_arguments()
    torch.set_num_threads(1)
    began, began_cpu = time.perf_counter(), time.process_time()
    print(f"{datetime.date.today()}, {machine()}, 1 thread")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, random weights, batch {BATCH_SIZE}\n")
    subject, prompts = build_subject()
    harvest = subject.harvest(prompts, arguments.layers, progress=False)
    batches = draw_batches(prompts, 1 + arguments.repeats + 1 + arguments.turns)
    verdicts, beside, l0s, freezing = [], [], {}, 0.0
    print(HEADER, flush=True)
    for layer in arguments.layers:
        cases = [Case.of(subject, prompts, harvest, layer, method, batches) for method in arguments.methods]
        for case in cases:
            for stepper in case.steppers.values():
                stepper.milliseconds()  # warm up
            ratios = engines_in_turn(case, arguments.repeats)
            if (layer, case.method) in WANTED:
                verdicts.append((f"{case.method} at L = {layer}", WANTED[layer, case.method], ratios, "least"))
            if case.l0 is not None:
                l0s.setdefault(case.method, []).append(case.l0)
            freezing = max(freezing, case.preparation)
        if "neuron" in arguments.methods:
            methods_in_turn(cases, 1)  # warm up
            for method, ratios in methods_in_turn(cases, arguments.turns).items():
                beside.append(f"{layer:2}  {method:8} {spread(ratios)}")
                if method in WANTED_BESIDE:
                    text = f"{method} / neuron at L = {layer}"
                    verdicts.append((text, WANTED_BESIDE[method], ratios, "most"))
    print("\nms: medians; ratios: of steps taken in turn; differ: the largest difference")
    print("between the engines' logits; moved: the largest change of a logit from a mask")
    print("of zeros to the random mask of every step; n: features the fast engine uses.")
    for method, found in l0s.items():
        print(f"{method}: {min(found):.0f} to {max(found):.0f} of {SAES[method][1]:,} latents fire on a vector")
    print(f"once beforehand: freezing a featurizer at most {freezing:.0f} ms")
    if beside:
        print("\n                step / neuron's step, fast\n L  method     median    min    max")
        print("\n".join(beside))
    share = (time.process_time() - began_cpu) / (time.perf_counter() - began)
    print(f"\non the processor for {share:.0%} of the time (less than 99% says it was shared)")
    print(f"this took {time.perf_counter() - began:.0f} s, peak memory {peak_gb():.2f} GB with both engines")
    for text, wanted, ratios, limit in verdicts:
        ratio = statistics.median(ratios)
        is_met = ratio >= wanted if limit == "least" else ratio <= wanted
        print(f"wanted: {text} at {limit} {wanted}: {ratio:.2f}, {'met' if is_met else 'MISSED'}")


if __name__ == "__main__":
    main()
