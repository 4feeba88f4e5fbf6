"""Keep the state of a training in a file, so that a kill loses minutes and a stop nothing.

OUTPUT/MODEL/tasks/SHARE.safetensors holds the group of runs that a share (grid.shares) was at: what
`masks.training.Training.state` gives, which runs they are, and a digest of all that decides their results.  It goes
when they are finished.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from common.files import write_atomically
from common.leases import Lease, Lost
from common.stopping import is_asked, stop_here
from imports import safetensors, safetensors_torch

EVERY = 180.0  # seconds between two


@dataclass
class Saved:
    """A training as it was saved.  digest: of what decides the results; runs: their names."""

    digest: str
    runs: list[str]
    tensors: dict


def read(path: Path, tells: bool = True) -> Saved | None:
    """The training that was saved there, if there is one; one that cannot be read is ignored, and that is said."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        saved = Saved(about["digest"], about["runs"], tensors)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        if tells:
            ignore(path, f"it cannot be read: {' '.join(str(error).split())[:80]}")
        return None
    return saved


def ignore(path: Path, why: str) -> None:
    """Say that a training is begun anew, and why."""
    print(f"note: the unfinished training in {path} is begun anew: {why}", file=sys.stderr)


@dataclass
class Keeper:
    """Saves a training between its steps, and stops there if the process was asked to.

    state: function that gives its tensors; lease: of the share, without which nothing may be written.
    """

    path: Path
    digest: str
    runs: list[str]
    state: Callable[[], dict]
    lease: Lease
    saved_at: float = field(default_factory=time.monotonic)

    def __call__(self) -> None:
        """Raises Stopped, once all is saved, and Lost if the lease is another's now."""
        if self.lease.lost:
            self.lease.require()
        if is_asked():
            with contextlib.suppress(Lost):
                self.save()
            stop_here()
        elif time.monotonic() - self.saved_at > EVERY:
            self.save()

    def save(self) -> None:
        """Raises Lost, and UserError if the disk refuses."""
        self.lease.require()
        about = {"about": json.dumps({"digest": self.digest, "runs": self.runs})}
        content = {name: tensor.cpu().contiguous().clone() for name, tensor in self.state().items()}
        write_atomically(self.path, lambda path: safetensors_torch.save_file(content, path, about))
        self.saved_at = time.monotonic()

    def remove(self) -> None:
        """Once its runs are finished."""
        self.path.unlink(missing_ok=True)
