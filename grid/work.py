"""Do the shares of some work, each under a lease: what one process of one machine does, wherever it was launched.

Processes that work on one OUTPUT share nothing but that folder.  Each takes a share that nobody holds and skips what
is done; when all that is left is held by others it waits for them, as they may die.
"""

import contextlib
import random
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from common.errors import UserError
from common.leases import Lease, Lost, look
from common.processes import machine
from common.progress import say
from grid import checkpoints
from grid.launching import PER
from grid.progress import Progress
from grid.settings import InputSettings
from grid.shares import Share, shared_out, take
from results.store import Store

PAUSE = 0.5  # seconds between two looks at shares that others hold


class Worker(Protocol):
    """What does the shares of some work in one process."""

    def do(self, share: Share, progress: Progress, lease: Lease) -> None:
        """Do what is not done of a share.  Raises Stopped, and Lost if the lease is another's now."""


@dataclass
class Work:
    """What is to be done, and everything that it needs; a process of its own can be sent it.

    inputs: of grid.inputs.Inputs.  What a subclass adds are its cells, and how they are done.
    """

    settings: InputSettings
    inputs: object
    store: Store

    @property
    def by_share(self) -> dict[Share, list]:
        """The cells that are to be done, by share, in the order in which these are best taken."""
        raise NotImplementedError

    def look(self) -> None:
        """See what others have done, where that is not seen cell by cell."""

    def is_done(self, cell) -> bool:
        """Whether somebody has done a cell since this work began; known as of the last `look`."""
        raise NotImplementedError

    def unfinished(self, share: Share) -> list:
        """The cells of a share that nobody has done."""
        return [cell for cell in self.by_share[share] if not self.is_done(cell)]

    def left(self) -> list[Share]:
        """The shares of which some cell is not done."""
        self.look()
        return [share for share, cells in self.by_share.items() if not all(map(self.is_done, cells))]

    def size(self) -> tuple[int, int]:
        """Cells, and training steps, in all."""
        raise NotImplementedError

    def count(self) -> tuple[int, int, float | None, float | None]:
        """Cells done and steps taken, by whomever; loss and accuracy of a share in training, if there is one."""
        raise NotImplementedError


class Job(Protocol):
    """Some work before anything of it is read: what a launcher is given.

    worker: makes what does it, of the work and whether to show how its preparation goes.
    """

    settings: InputSettings
    store: Store
    worker: Callable[[Work, bool], Worker]

    def prepare(self) -> Work:
        """Read and check everything; write what all shares need.  Raises UserError."""

    def left(self) -> list[Share]:
        """The shares that are not done, as far as the folder tells."""

    def again(self, share: Share) -> Callable[[], "Job"]:
        """What makes the job of this share alone in a process of another machine; it can be pickled."""


def do_shares(
    work: Work, worker: Callable[[Work, bool], Worker], progress: Progress, log: str | None = None, every=None
) -> None:
    """Do all shares that nobody does.  Returns when every cell is done, by us or by others.

    log: the file where this process's output goes; every: seconds between renewals of a lease, as `Lease.take` has it.
    Raises UserError, Stopped, and MissingLibrary.
    """
    ours, told = None, set()
    while shares := work.left():
        lease, share = _take_first(work, shares, log, every)
        if lease is None:
            if progress.shown:
                say_who(work, told)
            time.sleep(PAUSE * random.uniform(0.8, 1.2))  # two that made room for each other do not do so again
            continue
        try:
            with lease:
                work.look()
                if work.unfinished(share):  # its last owner may have finished just before he let go
                    ours = ours or worker(work, progress.shown)
                    ours.do(share, progress, lease)
        except Lost as other:
            say(f"{share.name} was taken over by {other}, as this process was not heard of for minutes")
    progress.found(*work.count())


def _take_first(
    work: Work, shares: list[Share], log: str | None, every: float | None
) -> tuple[Lease | None, Share | None]:
    for share in shares:
        lease = take(share, work.store, log, every)
        if lease is not None:
            return lease, share
    return None, None


def say_who(work: Work, told: set[str], ours: Iterable[int] = ()) -> None:
    """Say of each other command that is at a share of this work, once, that we wait for it.

    told: what was told, by tokens of leases, or names of shares whose lease cannot be read.
    ours: processes of this machine that belong to this command.
    """
    for share in work.by_share:
        found = look(work.store.lease_path(share))
        token = None if found is None else str(share) if found.owner is None else found.owner.token
        if token is None or token in told or found.is_free:
            continue
        told.add(token)
        if found.owner is None:
            say(f"{share.name}: {work.store.lease_path(share)} cannot be read; waiting some minutes for its owner")
        elif not (found.owner.machine == machine() and found.owner.pid in ours):
            say(f"{share.name} is being done by {found.owner}; waiting for it, or for its end")


def clear_away(store: Store, cells: Collection = (), work: str = "") -> None:
    """Remove what a process left that was killed after it had finished a share: its lease, and its last training.

    cells: of which nothing is left to do, so that whatever is left of their shares can go; as `shared_out` takes them,
    and work too.
    """
    done = [share for per in PER for share in shared_out(cells, per, work)]
    names = set(map(str, done))
    for share in done:
        store.forget_job(share)
    for lease_path, state in store.tasks_left():
        with contextlib.suppress(UserError):  # a stranger's folder stands there
            lease = Lease.take(lease_path)
            if lease is None:
                continue
            with lease:
                saved = checkpoints.read(state, tells=False)
                all_done = saved and all((store.root / f"{name}.json").exists() for name in saved.runs)
                if all_done or (saved is None and state.stem in names):
                    state.unlink(missing_ok=True)
