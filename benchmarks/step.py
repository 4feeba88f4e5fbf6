"""Time one training step: fast engine and nnsight engine, method and method, this checkout and another.

    python benchmarks/step.py                                 ten minutes
    python benchmarks/step.py --layers 5 --methods neuron     one minute
    python benchmarks/step.py --against DIR                   with a checkout of another commit instead of nnsight

A step is what `masks.training.train` takes: forward, loss, backward and Adam on a batch of 16 pairs.  What is
compared takes turns, each step from the same parameters and each turn on the next batch.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from fixtures import build_subject, featurizer_of, training_pairs
from turns import BATCH_SIZE, in_turns, one_thread, ratios, shown, spread, timed, verdict

from common.command import peak_gb
from data.batches import PairBatch
from imports import torch
from masks.engines import ENGINES
from masks.scores import soft_mask
from masks.stepping import Steps
from masks.training import Batches, MaskRun, Schedule, adam

SCHEDULE = Schedule(epochs=1, batch_size=BATCH_SIZE, lr=1e-3, temperature=(1.0, 1.0))
RELEASES = {"sae": "bloom", "sae-wide": "apollo-e2e"}
METHODS = ("neuron", "das", "sae", "sae-wide")
WANTED = {(0, "neuron"): 15, (5, "neuron"): 20, (10, "neuron"): 45}  # nnsight / fast, at least
WANTED_BESIDE = {"das": 1.4, "sae-wide": 1.15}  # to the neuron's step, at most
WANTED_AGAINST = 1.35  # ours / theirs, at most


class Stepper:
    """Some runs of one method that step together on one engine; every step begins at the same parameters."""

    def __init__(self, engine, featurizer, theta, pairs: PairBatch, n_runs: int = 1):
        self.engine, self.theta = engine, theta
        runs = [MaskRun(engine, featurizer if featurizer.is_trained else None, pairs, i) for i in range(n_runs)]
        for run in runs:
            run.theta.data.copy_(theta)
        self.parameters = [p for run in runs for p in run.parameters()]
        self.start = [p.detach().clone() for p in self.parameters]
        self.steps = Steps(runs, adam(runs, SCHEDULE.lr, "cpu"), Batches.of(runs, SCHEDULE), "fp32")

    def __call__(self) -> float:
        """Milliseconds of its next step, on its next batch."""
        with torch.no_grad():
            for p, start in zip(self.parameters, self.start, strict=True):
                p.copy_(start)
        return timed(lambda: self.steps.advance(1))

    def batch(self) -> PairBatch:
        """What the first run's next step is given."""
        base, source, label = self.steps.batches[0][int(self.steps.clock), 0]
        nothing = torch.zeros_like(base)
        return PairBatch.of(base, source, label, nothing)

    def logits(self, batch: PairBatch):
        with torch.no_grad():
            return self.engine.logits(batch, soft_mask(self.theta, 1.0))


def steppers_of(subject, cache, layer: int, method: str, pairs, engines=tuple(ENGINES), n_runs=1) -> dict[str, Stepper]:
    """The same runs on each engine; fast comes first."""
    found: dict[str, Stepper] = {}
    for name in engines:
        featurizer = featurizer_of(RELEASES.get(method, method), cache.residuals[layer][:, 0], layer)
        engine = ENGINES[name](subject, cache, layer, featurizer)
        # The nnsight engine's theta is as wide as the featurizer; where no latent fires its value is without effect.
        known = found.get("fast")
        theta = known.engine.widen(known.theta) if known else torch.randn(engine.n_active)
        found[name] = Stepper(engine, featurizer, theta, pairs, n_runs)
    return found


# ---------------------------------------------------------------- another checkout

CHILD = """
import os, sys, time, types
replies = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
folder, layers, methods = sys.argv[1], [int(word) for word in sys.argv[2].split()], sys.argv[3].split()
sys.path[:0] = [folder, os.path.join(folder, "benchmarks")]
import step
from imports import torch
torch.set_num_threads(1)
subject, prompts = step.build_subject()
cache = subject.harvest(prompts, layers, progress=False)
if hasattr(step, "steppers_of"):
    pairs = step.training_pairs(prompts)
    steps = {(l, m): step.steppers_of(subject, cache, l, m, pairs, ("fast",))["fast"] for l in layers for m in methods}
else:  # commit aaecdb3 and some before
    step.time = types.SimpleNamespace(perf_counter=time.process_time)
    batches, steps = step.draw_batches(prompts, 100), {}
    for layer in layers:
        for method in methods:
            featurizer = step.featurizers(method, cache.residuals[layer][:, 0], layer, subject.n_layers)["fast"]
            engine = step.ENGINES["fast"](subject, prompts, cache, layer, featurizer)
            stepper = step.Stepper(engine, featurizer, torch.randn(engine.n_active), batches)
            steps[layer, method] = stepper.milliseconds
for line in sys.stdin:
    layer, method = line.split()
    print(steps[int(layer), method](), file=replies)
"""


def against(folder: Path, layers: list[int], turns: int, ours) -> list[str]:
    """Prints a table; returns verdicts."""
    methods, verdicts, at = ["neuron", "das"], [], str(folder.resolve())
    command = [sys.executable, "-c", CHILD, at, " ".join(map(str, layers)), " ".join(methods)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=at)

    def their_step(layer: int, method: str) -> float:
        print(layer, method, file=child.stdin, flush=True)
        line = child.stdout.readline()
        return float(line) if line else sys.exit("error: the other checkout's process has ended")

    print(f"                ms a step         ours / theirs ({folder})")
    print(" L  method     ours   theirs   median     min     max", flush=True)
    for layer in layers:
        for method in methods:
            own = ours(layer, method, ("fast",))["fast"]
            times = in_turns(turns, own, lambda which=(layer, method): their_step(*which))
            found = ratios(*times)
            print(f"{layer:2}  {method:8}{shown(times)} {spread(found)}", flush=True)
            verdicts.append(verdict(f"ours / theirs, {method} at L = {layer},", found, most=WANTED_AGAINST))
    child.communicate()
    return verdicts


# ---------------------------------------------------------------- this checkout alone


def engines_and_methods(layers: list[int], methods: list[str], repeats: int, turns: int, ours) -> list[str]:
    """Prints two tables; returns verdicts."""
    verdicts, beside = [], []
    print("                 ms a step        nnsight / fast         logits   active")
    print(" L  method     fast  nnsight   median     min     max    differ        n", flush=True)
    for layer in layers:
        cases = {method: ours(layer, method) for method in methods}
        for method, case in cases.items():
            fast, plain = case.values()
            times, batch = in_turns(repeats, fast, plain), fast.batch()
            differ, found = float((fast.logits(batch) - plain.logits(batch)).abs().max()), ratios(*reversed(times))
            print(f"{layer:2}  {method:8}{shown(times)} {spread(found)}   {differ:.1e} {len(fast.theta):8}", flush=True)
            if (layer, method) in WANTED:
                verdicts.append(verdict(f"nnsight / fast at L = {layer}", found, least=WANTED[layer, method]))
        times = dict(zip(methods, in_turns(turns, *(case["fast"] for case in cases.values())), strict=True))
        for method in methods if "neuron" in methods else ():
            found = ratios(times[method], times["neuron"])
            beside.append(f"{layer:2}  {method:8}{shown([times[method]])} {spread(found)}")
            if method in WANTED_BESIDE:
                verdicts.append(verdict(f"{method} / neuron at L = {layer}", found, most=WANTED_BESIDE[method]))
    print("\n                 ms    step / neuron's step, fast\n L  method     fast   median     min     max")
    print(*beside, sep="\n")
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    # At the last layer (11) a patch cannot be learned: nothing after it moves information between positions.
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 5, 10], choices=range(11), metavar="L")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, help=" ".join(METHODS))
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="turns of the two engines (3)")
    parser.add_argument("--turns", type=int, default=25, metavar="N", help="turns of methods or checkouts (25)")
    parser.add_argument("--against", type=Path, metavar="DIR", help="a checkout of another commit")
    arguments = parser.parse_args()
    one_thread()
    subject, prompts = build_subject()
    cache = subject.harvest(prompts, arguments.layers, progress=False)
    pairs = training_pairs(prompts)

    def ours(layer: int, method: str, engines=tuple(ENGINES)) -> dict[str, Stepper]:
        return steppers_of(subject, cache, layer, method, pairs, engines)

    if arguments.against:
        verdicts = against(arguments.against, arguments.layers, arguments.turns, ours)
    else:
        verdicts = engines_and_methods(arguments.layers, arguments.methods, arguments.repeats, arguments.turns, ours)
    print(f"\npeak memory {peak_gb():.2f} GB, all engines of this process together")
    print(*verdicts, sep="\n")


if __name__ == "__main__":
    main()
