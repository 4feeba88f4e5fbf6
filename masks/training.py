"""Train masks: what is trained, the batches that each step is given, and the loop."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from data.pairs import PairBatch
from featurizers.base import Featurizer
from imports import torch
from masks.batching import BATCHINGS
from masks.engines import FastEngine, NnsightEngine
from masks.stepping import Steps, can_graph, steps_on

FIXED_THETA = math.inf  # sigmoid(+-inf / T) is exactly 1 or 0 at every temperature


@dataclass
class Schedule:
    """How masks are trained."""

    epochs: int
    batch_size: int
    lr: float
    temperature: tuple[float, float]  # start, end; linear over all steps
    precision: str = "fp32"
    graphed: bool = True  # replay steps as a CUDA graph where that can be done
    batching: str = "mixed"

    def epochs_of(self, pairs: PairBatch, seed: int = 0) -> Iterator[list[torch.Tensor]]:
        """Each epoch's batches, as indices of pairs; how many and how large does not depend on the seed."""
        return BATCHINGS[self.batching](pairs, self.batch_size, seed)

    def sizes(self, pairs: PairBatch) -> list[int]:
        """Of an epoch's batches.  Raises UserError if the pairs are too few for them."""
        return [len(batch) for batch in next(self.epochs_of(pairs))]

    def temperatures(self, n_steps: int) -> torch.Tensor:
        """[n_steps]; in the paper's code they are bfloat16 numbers."""
        start, end = self.temperature
        found = start + (end - start) * torch.arange(n_steps, dtype=torch.float64) / max(1, n_steps - 1)
        return found.bfloat16().double() if self.batching == "original" else found


@dataclass
class Trained:
    """theta [n_active] and how it came about."""

    theta: torch.Tensor
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0  # its share of the time that all trained beside it took


def fixed_theta(is_selected_F: torch.Tensor) -> torch.Tensor:
    """The theta whose mask, soft or hard, is 1 exactly for these features, [F] bool."""
    return torch.where(is_selected_F, FIXED_THETA, -FIXED_THETA)


def untrained(engine, fixed_mask: float | None, device: str) -> Trained:
    """A method without training: its fixed mask, or theta at its start."""
    if fixed_mask is None:
        return Trained(torch.zeros(engine.n_active, device=device))
    return Trained(fixed_theta(torch.full((engine.n_active,), bool(fixed_mask), device=device)))


class MaskRun(torch.nn.Module):
    """A mask to train: theta, the featurizer if that is trained too, and the pairs that both are trained on.

    theta: [n_active], 0 at the start; `parameters()` are theta and the featurizer's own.
    engine: bound to the featurizer; seed: of the order of the pairs.
    """

    def __init__(self, engine: FastEngine | NnsightEngine, featurizer: Featurizer | None, pairs: PairBatch, seed: int):
        super().__init__()
        self.engine, self.pairs, self.seed = engine, pairs, seed
        self.theta = torch.nn.Parameter(torch.zeros(engine.n_active, device=engine.subject.device))
        self.featurizer = featurizer  # None where it has no parameters


@dataclass
class Batches:
    """The batches of T steps for J runs, B rows each, drawn before the first step; shorter runs stop early.

    A run's pairs are cut by its seed, as the schedule's batching says.
    """

    rows: torch.Tensor  # [T, J, 3, B] int64: prompt rows of base and source, and the label
    share: torch.Tensor  # [T, J, B]: of a row in its run's mean loss; 0 where a batch is not full
    temperature: torch.Tensor  # [T, J]
    n_steps: list[int]  # of each run

    @classmethod
    def of(cls, runs: list[MaskRun], schedule: Schedule) -> Batches:
        n_steps = [schedule.epochs * len(schedule.sizes(run.pairs)) for run in runs]
        T, J, B = max(n_steps), len(runs), schedule.batch_size
        batches = cls(torch.zeros(T, J, 3, B, dtype=torch.long), torch.zeros(T, J, B), torch.ones(T, J), n_steps)
        for j, (run, n) in enumerate(zip(runs, n_steps, strict=True)):
            content = torch.stack([run.pairs.base, run.pairs.source, run.pairs.label])
            step = 0
            for epoch in itertools.islice(schedule.epochs_of(run.pairs, run.seed), schedule.epochs):
                for chosen in epoch:
                    batches.rows[step, j, :, : len(chosen)] = content[:, chosen]
                    batches.share[step, j, : len(chosen)] = 1 / len(chosen)
                    step += 1
            batches.temperature[:n, j] = schedule.temperatures(n)
        return batches

    def stretches(self):
        """(indices of runs, their batches) from one run's end to the next: while the same runs train."""
        begin = 0
        for end in sorted(set(self.n_steps)):
            running = [j for j, n in enumerate(self.n_steps) if n >= end]
            parts = (t[begin:end, running] for t in (self.rows, self.share, self.temperature))
            yield running, Batches(*parts, [end - begin] * len(running))
            begin = end


def adam(runs: list[MaskRun], lr: float, device: str) -> torch.optim.Optimizer:
    """One Adam for the parameters of all runs."""
    parameters = [parameter for run in runs for parameter in run.parameters()]
    return torch.optim.Adam(parameters, lr=lr, fused=device != "mps", capturable=device == "cuda")


def train(
    runs: list[MaskRun], schedule: Schedule, device: str, on_step=lambda **_: None, at_once: int | None = None
) -> list[Trained]:
    """Train the masks of several runs at one layer in lockstep, all their rows in one forward pass.

    Adam on theta (and the featurizer's parameters) against cross-entropy over the full
    vocabulary.  theta starts at 0, the mask is sigmoid(theta / T).  The loss is the sum of
    the runs' own, and they share no parameter: each trains as it would alone, but for
    the rounding of products over more rows (tests/masks/test_joint.py).
    at_once: steps between which nothing is read from the device; by default 1 on a CPU, an epoch elsewhere.
    on_step(runs=, loss=, accuracy=): called after each of these; the last two are means, as tensors.
    Raises UserError if a rotation diverges.
    """
    began = time.perf_counter()
    optimizer, batches = adam(runs, schedule.lr, device), Batches.of(runs, schedule)
    if at_once is None:
        reads_back = device == "cpu" or not runs[0].engine.has_static_shapes
        at_once = 1 if reads_back else max(batches.n_steps) // schedule.epochs
    records = [[] for _ in runs]  # of each run [T, 2]: mean loss and share of right answers of every step
    with in_precision(schedule.precision):
        for running, part in batches.stretches():
            graphed = schedule.graphed and can_graph(device, runs[0].engine)
            steps = steps_on(graphed, [runs[j] for j in running], optimizer, part, schedule.precision)
            _take(steps, at_once, on_step)
            for j, record in zip(running, steps.record.unbind(dim=1), strict=True):
                records[j].append(record)
    seconds = (time.perf_counter() - began) / len(runs)
    return [
        Trained(run.theta.detach(), _history(torch.cat(record), schedule.sizes(run.pairs), schedule), seconds)
        for run, record in zip(runs, records, strict=True)
    ]


def _take(steps: Steps, at_once: int, on_step) -> None:
    """All steps of a stretch, some at a time."""
    done = 0
    while done < steps.total:
        n = 1 if done < steps.warm_up else min(at_once, steps.total - done)
        steps.advance(n)
        done += n
        loss, accuracy = steps.record[done - n : done].mean(dim=(0, 1))
        on_step(runs=n * len(steps.runs), loss=loss, accuracy=accuracy)


def _history(record, sizes: list[int], schedule: Schedule) -> list[dict]:
    """A run's record [T, 2] by epoch; every pair counts once in an epoch's means."""
    per_epoch, weight = len(sizes), torch.tensor(sizes, dtype=torch.float64)[:, None]
    means = (record.cpu().double().view(schedule.epochs, per_epoch, 2) * weight).sum(1) / weight.sum()
    temperatures = schedule.temperatures(len(record))[per_epoch - 1 :: per_epoch]
    return [
        {"epoch": epoch, "loss": loss, "accuracy": accuracy, "temperature": temperature}
        for epoch, ((loss, accuracy), temperature) in enumerate(
            zip(means.tolist(), temperatures.tolist(), strict=True), 1
        )
    ]


@contextlib.contextmanager
def in_precision(precision: str):
    """In tf32: products of fp32 numbers on the tensor cores, whose factors have 10 bits of mantissa."""
    before = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
