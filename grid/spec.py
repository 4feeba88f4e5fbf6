"""What a grid's training needs: the runs to do, their settings and pairs."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.leases import look
from data.batches import PairBatch
from featurizers.methods import CAUSE, ORIGINAL, method_named
from grid.inputs import Inputs
from grid.settings import Settings
from grid.shares import Share, shared_out
from grid.work import Work
from masks.training import Schedule
from results.pairs import NamedPairs
from results.run import Run
from results.shapes import is_amount
from results.store import Store
from verify.check import Verified, Ways


def is_original(run: Run) -> bool:
    """Whether a run is of an SAE as the paper's code ran it."""
    return method_named(run.method).kind == ORIGINAL


def schedule_of(settings: Settings) -> Schedule:
    s = settings
    return Schedule(s.epochs, s.batch_size, s.lr, tuple(s.temperature), s.precision, batching=s.batching)


@dataclass
class Pairs:
    """The pairs of one target and seed.

    names: as their file has them; parts: the same as rows of prompts; tests: the pairs of each test, for intervals.
    """

    names: dict[str, list]
    parts: dict[str, PairBatch]
    tests: dict[str, NamedPairs]
    digest: str
    file: Path


@dataclass
class GridSpec(Work):
    """What is to be trained, and everything that it needs."""

    settings: Settings
    inputs: Inputs
    store: Store
    pairs: dict[tuple[str, int], Pairs]  # by target and seed
    configs: dict[Run, dict]  # of the runs to do, in this sequence
    provenance: dict
    wandb_mode: str | None = None
    verified: Verified | None = None  # None where nothing is trained
    replaced: dict[Run, tuple] = field(default_factory=dict)  # with --force: stamps of results that do not count
    done_before: dict[Run, dict] = field(default_factory=dict)  # configs of the grid's other runs
    seen: set[Run] = field(default_factory=set)  # runs that are known to be done

    @property
    def ways(self) -> Ways:
        return self.verified.ways if self.verified else Ways()

    @property
    def schedule(self) -> Schedule:
        return replace(schedule_of(self.settings), graphed=self.ways.graphed)

    def layers(self) -> list[int]:
        return sorted({run.layer for run in self.configs})

    def of_layer(self, layer: int) -> list[Run]:
        return [run for run in self.configs if run.layer == layer]

    @functools.cached_property
    def by_share(self) -> dict[Share, list[Run]]:
        return shared_out(self.configs, self.settings.per)

    def size(self) -> tuple[int, int]:
        return len(self.configs), self.steps(self.configs)

    def is_done(self, run: Run) -> bool:
        if run not in self.seen and self.store.stamp(run) not in (None, self.replaced.get(run)):
            self.seen.add(run)  # a shared folder is slow to ask
        return run in self.seen

    def count(self) -> tuple[int, int, float | None, float | None]:
        """Read from the results and leases that lie there."""
        done = {run for run in self.configs if self.is_done(run)}
        steps, loss, accuracy = 0, None, None
        for share, of_share in self.by_share.items():
            finished = self.steps(run for run in of_share if run in done)
            found = look(self.store.lease_path(share))
            told = found.owner.progress if found is not None and found.owner is not None else {}
            told = {name: value for name, value in told.items() if is_amount(value)}  # anyone may have written it
            at_work = int(told.get("steps", 0))
            steps += min(max(finished, at_work), self.steps(of_share))
            loss, accuracy = told.get("loss", loss), told.get("accuracy", accuracy)
        return len(done), steps, loss, accuracy

    def is_trained(self, run: Run) -> bool:
        """At the last block nothing can be learned: the gradient is exactly 0."""
        return method_named(run.method).is_trained and run.layer < self.inputs.subject.n_layers - 1

    def training_pairs(self, run: Run) -> PairBatch:
        """The pairs that a run is trained on, or fitted to: those of its target and seed, perhaps cause pairs alone."""
        pairs = self.pairs[run.target, run.seed].parts["train"]
        return pairs[pairs.is_cause] if method_named(run.method).kind == CAUSE else pairs

    def steps(self, runs: Iterable[Run]) -> int:
        """Of Adam, over all these runs."""
        trained = (self.training_pairs(run) for run in runs if self.is_trained(run))
        return sum(self.settings.epochs * len(self.schedule.sizes(pairs)) for pairs in trained)
