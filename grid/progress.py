"""How far a grid is: a bar in a terminal, a line a minute in a file, and a few numbers in the lease of its share."""

import sys
import time

from common.leases import Lease
from common.progress import bar, describe, say
from common.text import duration

PAUSE = 60.0  # seconds between two lines where stderr is no terminal


class Progress:
    """Counts cells and training steps, and shows them.

    cells, steps: of the whole work, of which some has no steps; shown: on stderr, not only in leases.
    """

    LOOK = 0.2  # seconds between two looks at the loss: to read it makes a GPU wait

    def __init__(self, cells: int, steps: int, shown: bool = True):
        self.cells, self.steps = cells, steps
        self.cells_done = self.steps_done = 0
        self.loss = self.accuracy = None
        self._began = time.monotonic()
        self._lease: Lease | None = None  # of the share at hand
        self._before = 0  # steps when that was begun, less those of the share that were done by then
        self._of_share = 0  # steps of the share in all
        self._share_began, self._share_given = self._began, 0
        self._given = 0  # steps that others took
        self.shown = shown
        self._looked = 0.0
        self._said, self._line = self._began, ""
        self._bar = None
        if shown and sys.stderr.isatty():
            layout = "{desc} {percentage:3.0f}% [{elapsed}<{remaining}{postfix}]"  # fits 80 columns
            self._bar = bar(total=steps or cells, bar_format=layout, smoothing=0.02, leave=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind, *_) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.shown and kind is None:
            self._write()

    def begin_share(self, lease: Lease, steps: int, steps_done: int) -> None:
        """From now on tell it in this lease.  steps: of the share; steps_done: of these, taken by others."""
        self._lease, self._of_share, self._before = lease, steps, self.steps_done
        self._share_began, self._share_given = time.monotonic(), 0
        self.give(steps_done)

    def give(self, steps: int) -> None:
        """Count steps that others took, or this command when it ran before."""
        self._given += steps
        self._share_given += steps
        self.steps_done += steps

    def begin(self, text: str) -> None:
        """Say what is done next."""
        if self._bar is not None:
            describe(self._bar, text)
        self._tell(at=text)

    def step(self, runs: int, loss, accuracy) -> None:
        """After training steps of so many runs together; loss and accuracy: their means, as tensors."""
        self.steps_done += runs
        now = time.monotonic()
        if now - self._looked >= self.LOOK:
            self._looked = now
            self.loss, self.accuracy = float(loss), float(accuracy)
            steps = self.steps_done - self._before
            self._tell(steps=steps, of=self._of_share, loss=round(self.loss, 4), accuracy=round(self.accuracy, 4))
            self._tell(left=_left(self._share_began, steps - self._share_given, self._of_share - steps))
        self._show()

    def cell(self) -> None:
        """After a cell is finished."""
        self.cells_done += 1
        self._show()

    def found(self, cells: int, steps: int, loss: float | None = None, accuracy: float | None = None) -> None:
        """So much is done by now, by whomever."""
        self.cells_done, self.steps_done = cells, steps
        self.loss, self.accuracy = loss, accuracy
        self._show()

    def _tell(self, **about) -> None:
        if self._lease is not None:
            self._lease.owner.progress = {**self._lease.owner.progress, **about}

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update((self.steps_done if self.steps else self.cells_done) - self._bar.n)
            if self.loss is not None:
                self._bar.set_postfix(loss=f"{self.loss:.2f}", acc=f"{self.accuracy:.2f}", refresh=False)
        elif self.shown and time.monotonic() - self._said >= PAUSE:
            self._write()

    def _write(self) -> None:
        """A line with the time, unless the last one said the same."""
        line = f"cells {self.cells_done}/{self.cells}"
        if self.steps:
            line += f", steps {self.steps_done}/{self.steps}"
        if line != self._line:
            self._said, self._line = time.monotonic(), line
            loss = "" if self.loss is None else f", loss {self.loss:.3f}"
            left = _left(self._began, self.steps_done - self._given, self.steps - self.steps_done)
            say(f"{time.strftime('%H:%M:%S')} {line}{loss}" + (f", about {duration(left)} left" if left else ""))


def _left(began: float, taken: int, to_take: int) -> float | None:
    """Seconds until the rest is done at the pace so far; None if there is no pace or no rest."""
    return (time.monotonic() - began) * to_take / taken if taken > 0 and to_take > 0 else None
