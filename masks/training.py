"""Train masks: what is trained, the batches that each step is given, and the loop."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from data.batches import PairBatch
from featurizers.base import Featurizer
from imports import torch
from masks.batching import BATCHINGS
from masks.engines import FastEngine, NnsightEngine
from masks.stepping import Steps, can_graph, steps_on

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what Adam keeps of a parameter
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
    engine: bound to the featurizer; seed: of the order of the pairs; fixed: a theta [n_active] that stays as it is,
    where the featurizer alone is trained.
    """

    def __init__(
        self,
        engine: FastEngine | NnsightEngine,
        featurizer: Featurizer | None,
        pairs: PairBatch,
        seed: int,
        fixed: torch.Tensor | None = None,
    ):
        super().__init__()
        self.engine, self.pairs, self.seed = engine, pairs, seed
        if fixed is None:
            self.theta = torch.nn.Parameter(torch.zeros(engine.n_active, device=engine.subject.device))
        else:
            self.register_buffer("theta", fixed)
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


class Training:
    """Several runs in training at one layer, in lockstep; what its steps change can be saved and taken up.

    at_once: steps between which nothing is read from the device; by default 1 on a CPU, an epoch elsewhere.
    """

    def __init__(self, runs: list[MaskRun], schedule: Schedule, device: str, at_once: int | None = None):
        self.runs, self.schedule, self.device = runs, schedule, device
        self.optimizer, self.batches = adam(runs, schedule.lr, device), Batches.of(runs, schedule)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if at_once is None:
            reads_back = device == "cpu" or not runs[0].engine.has_static_shapes
            at_once = 1 if reads_back else max(self.batches.n_steps) // schedule.epochs
        self.at_once = at_once
        self.done = 0  # steps since the first
        # mean loss and share of right answers of every step
        self.record_TJ2 = torch.zeros(max(self.batches.n_steps), len(runs), 2, device=runs[0].theta.device)
        self.seconds = 0.0
        self._began = time.perf_counter()

    def take_steps(self, on_step=lambda **_: None, between=lambda: None) -> None:
        """Take all steps that are left.

        on_step(runs=, loss=, accuracy=): called after each chunk; the last two are means, as tensors.
        between(): called after that, where the state is that of a whole number of steps and may be saved.
        Raises UserError if a rotation diverges.
        """
        begin = 0
        with in_precision(self.schedule.precision):
            for running, part in self.batches.stretches():
                total = len(part.rows)
                if self.done < begin + total:
                    runs = [self.runs[j] for j in running]
                    graphed = self.schedule.graphed and can_graph(self.device, runs[0].engine)
                    steps = steps_on(graphed, runs, self.optimizer, part, self.schedule.precision)
                    if self.done > begin:
                        steps.go_on_after(self.done - begin)
                    self._take(steps, running, begin, on_step, between)
                begin += total

    def _take(self, steps: Steps, running: list[int], begin: int, on_step, between) -> None:
        """The steps that are left of a stretch which began with this step, some at a time."""
        while (done := self.done - begin) < steps.total:
            n = 1 if done < steps.warm_up else min(self.at_once, steps.total - done)
            steps.advance(n)
            record_nj2 = steps.record[done : done + n]
            self.record_TJ2[self.done : self.done + n, running] = record_nj2
            self.done += n
            loss, accuracy = record_nj2.mean(dim=(0, 1))
            on_step(runs=n * len(steps.runs), loss=loss, accuracy=accuracy)
            between()

    def steps_taken(self) -> int:
        """So far, by all runs together."""
        return sum(min(n, self.done) for n in self.batches.n_steps)

    def trained(self) -> list[Trained]:
        """The masks, all steps taken."""
        seconds = (self.seconds + time.perf_counter() - self._began) / len(self.runs)
        return [
            Trained(
                run.theta.detach(),
                _history(self.record_TJ2[:n, j], run, self.schedule),
                seconds,
            )
            for j, (run, n) in enumerate(zip(self.runs, self.batches.n_steps, strict=True))
        ]

    # ------------------------------------------------------------ saved and taken up

    def state(self) -> dict[str, torch.Tensor]:
        """All that the steps so far have changed, by name; the tensors of the training itself, not copies."""
        moments = {
            f"moment.{i}.{name}": value
            for i, parameter in enumerate(self.parameters)
            for name, value in self.optimizer.state.get(parameter, {}).items()
        }
        return {
            "done": torch.tensor(self.done),
            "seconds": torch.tensor(self.seconds + time.perf_counter() - self._began, dtype=torch.float64),
            "record": self.record_TJ2,
            **{f"parameter.{i}": parameter.detach() for i, parameter in enumerate(self.parameters)},
            **moments,
            "bounds": torch.tensor([b.kept for b in self._norm_bounds()], dtype=torch.float64),
        }

    def take_up(self, state: dict[str, torch.Tensor]) -> None:
        """Be as the training was that had this state: the steps to come are the same, to the last bit.

        Before any step.  Raises ValueError, and changes nothing, if it is no state of a training of these runs.
        """
        moments = [name for name in state if name.startswith("moment.")]
        expected = {**self.state(), **{name: self._like_moment(name) for name in moments}}
        if {name: t.shape for name, t in state.items()} != {name: t.shape for name, t in expected.items()}:
            raise ValueError("it does not fit these runs")
        if not 0 <= int(state["done"]) <= len(self.record_TJ2):
            raise ValueError("it has more steps than these runs")
        self.done, self.seconds = int(state["done"]), float(state["seconds"])
        self.record_TJ2.copy_(state["record"])
        for bound, reach in zip(self._norm_bounds(), state["bounds"].tolist(), strict=True):
            bound.keep(reach)
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(state[f"parameter.{i}"])
        kept: dict[int, dict] = {}
        for name in moments:
            _, i, moment = name.split(".")
            kept.setdefault(int(i), {})[moment] = state[name]
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": kept, "param_groups": groups})

    def _like_moment(self, name: str) -> torch.Tensor:
        """A tensor of the shape that a moment of this name has.  Raises ValueError if there can be none."""
        _, number, moment = name.split(".", 2)
        if not number.isdecimal() or int(number) >= len(self.parameters) or moment not in MOMENTS:
            raise ValueError("it holds what is none of Adam's")
        return torch.zeros(()) if moment == "step" else self.parameters[int(number)]

    def _norm_bounds(self) -> list:
        return [run.featurizer.norm_bound for run in self.runs if run.featurizer is not None]


def train(
    runs: list[MaskRun], schedule: Schedule, device: str, on_step=lambda **_: None, at_once: int | None = None
) -> list[Trained]:
    """Train the masks of several runs at one layer in lockstep, all their rows in one forward pass.

    Adam on theta (and the featurizer's parameters) against cross-entropy over the full
    vocabulary.  theta starts at 0, the mask is sigmoid(theta / T).  The loss is the sum of
    the runs' own, and they share no parameter: each trains as it would alone, but for
    the rounding of products over more rows (tests/masks/test_joint.py).
    at_once, on_step: as `Training` and its `take_steps` have them.
    Raises UserError if a rotation diverges.
    """
    training = Training(runs, schedule, device, at_once)
    training.take_steps(on_step)
    return training.trained()


def _history(record, run: MaskRun, schedule: Schedule) -> list[dict]:
    """A run's record [T, 2] by epoch; every pair counts once in an epoch's means.

    Where theta is fixed the temperature plays no part and is left out.
    """
    sizes = schedule.sizes(run.pairs)
    per_epoch, weight = len(sizes), torch.tensor(sizes, dtype=torch.float64)[:, None]
    means = (record.cpu().double().view(schedule.epochs, per_epoch, 2) * weight).sum(1) / weight.sum()
    temperatures = schedule.temperatures(len(record))[per_epoch - 1 :: per_epoch]
    history = [
        {"epoch": epoch, "loss": loss, "accuracy": accuracy, "temperature": temperature}
        for epoch, ((loss, accuracy), temperature) in enumerate(
            zip(means.tolist(), temperatures.tolist(), strict=True), 1
        )
    ]
    if not isinstance(run.theta, torch.nn.Parameter):
        for row in history:
            del row["temperature"]
    return history


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
