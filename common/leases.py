"""Who is at work on what, among processes and machines that share nothing but a folder.

A lease is a small json file.  One process can create it (by a hard link or O_EXCL, which are atomic on NFS too), its
owner renews it every few seconds, and whoever wants it next may steal it once its owner is gone: on the same machine,
if the process does not live any more; on another one, if the file was not renewed for some minutes by the file
server's own clock.
There is no flock, which some shared folders ignore and others refuse.

Two processes can hold a lease at once for a moment (one was suspended, or cut off from the folder, for minutes): so
an owner calls `require` before it writes what the lease is for.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common.errors import UserError
from common.files import temporary_beside
from common.processes import machine, started

EVERY = 5.0  # seconds between two renewals
SOON = 0.5  # until the first, and twice that until the next, so that a status tells early how far a work is
STALE = 180.0  # seconds without one, after which the owner is taken for gone
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)  # what file systems without hard links say


class Lost(Exception):
    """The lease is another's now; its text says whose."""


@dataclass
class Owner:
    """What a lease says of its owner.

    started: of the process, as `common.processes.started` says; since: when it took the lease, in seconds since 1970;
    log: where its output goes; progress: what it tells of its work; error: why it gave up, which frees the lease.
    """

    machine: str
    pid: int
    started: str | None
    since: float
    token: str = ""
    log: str | None = None
    progress: dict = field(default_factory=dict)
    error: str | None = None

    def __post_init__(self):
        """Raises TypeError for what no lease says: the file is anyone's."""
        texts = (self.machine, self.token, self.started or "", self.log or "", self.error or "")
        numbers = isinstance(self.pid, int) and isinstance(self.since, int | float) and 0 <= self.since < 1e11
        if not (all(isinstance(text, str) for text in texts) and numbers and isinstance(self.progress, dict)):
            raise TypeError("no owner of a lease")

    def __str__(self) -> str:
        host = self.machine.rpartition("-")[0]
        return f"{host} (process {self.pid}) since {time.strftime('%d %b %H:%M', time.localtime(self.since))}"


@dataclass(frozen=True)
class Found:
    """A lease as it lies there: its owner, None where the file is not whole; its bytes; when it was renewed."""

    owner: Owner | None
    content: bytes
    renewed: float  # by the clock of the file server
    folder: Path

    @property
    def age(self) -> float:
        """Seconds since its renewal; to ask the file server takes a while."""
        return _clock(self.folder) - self.renewed

    @property
    def is_free(self) -> bool:
        """Whether its owner has given up or is gone."""
        owner = self.owner
        if owner is not None and owner.error is not None:
            return True
        if owner is not None and owner.machine == machine():
            return owner.started is None or started(owner.pid) != owner.started
        return abs(self.age) > STALE  # one of the future is nobody's either


def look(path: Path) -> Found | None:
    """The lease at a place, if there is one."""
    try:
        content, renewed = path.read_bytes(), path.stat().st_mtime
    except OSError:
        return None
    try:
        owner = Owner(**json.loads(content))
    except (ValueError, TypeError):
        owner = None
    return Found(owner, content, renewed, path.parent)


class Lease:
    """A lease that this process holds, for a `with` block; got by `take`.

    An error within the block is told in the file, which then stays and is free.
    """

    def __init__(self, path: Path, owner: Owner, every: float, error_before: str | None = None):
        self.path, self.owner, self.every = path, owner, every
        self.error_before = error_before  # why the last owner gave up
        self.lost: str | None = None  # whose it is now
        self._ended = threading.Event()
        self._beat = threading.Thread(target=self._renew_often, daemon=True)

    @classmethod
    def take(cls, path: Path, log: str | None = None, every: float | None = None) -> Lease | None:
        """Take a lease that nobody holds; None if somebody does.  every: seconds between renewals, by default EVERY.

        Raises OSError if the folder refuses, UserError if another thing stands in the lease's place.
        """
        owner = Owner(machine(), os.getpid(), started(os.getpid()), time.time(), uuid.uuid4().hex, log)
        if path.is_dir():
            raise UserError(f"{path} is a folder where a file is to be; remove it")
        found = look(path)
        before = None
        if found is not None:
            if not found.is_free:
                return None
            before = found.owner and found.owner.error
            _set_aside(path, found.content)
        return cls(path, owner, every or EVERY, before) if _create(path, owner) else None

    def __enter__(self) -> Lease:
        self._beat.start()
        return self

    def let_go(self) -> None:
        """Remove the file, if it is still ours."""
        self._end()
        with contextlib.suppress(OSError, Lost):
            self.require()
            self.path.unlink(missing_ok=True)

    def __exit__(self, kind, error, _) -> None:
        why = None
        if isinstance(error, KeyboardInterrupt):  # we were stopped, and learned nothing of the last owner's error
            why = self.error_before
        elif isinstance(error, Exception) and not isinstance(error, Lost):
            why = " ".join(str(error).split()) or kind.__name__
        if why is not None:
            self._end()
            self.owner.error = why[:500]
            with contextlib.suppress(OSError, Lost):  # the folder is gone or full: then the lease grows old
                self._renew()
        else:
            self.let_go()
            with contextlib.suppress(OSError):  # not the last there
                self.path.parent.rmdir()

    def _end(self) -> None:
        """Renew it no more."""
        self._ended.set()
        self._beat.join()

    def require(self) -> None:
        """Raises Lost if the lease is another's now."""
        found = look(self.path) if self.lost is None else None
        if found is not None and found.owner is not None and found.owner.token != self.owner.token:
            self.lost = str(found.owner)
        if self.lost is not None:
            raise Lost(self.lost)

    def _renew(self) -> None:
        """Write the file anew, also if somebody has removed it.  Raises Lost, OSError."""
        self.require()
        temporary = temporary_beside(self.path)
        try:
            temporary.write_text(_text(self.owner))
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def _renew_often(self) -> None:
        pause = min(SOON, self.every)
        while not self._ended.wait(pause):
            pause = min(2 * pause, self.every)
            with contextlib.suppress(OSError):  # a folder that is away for a while: next time
                try:
                    self._renew()
                except Lost:
                    return


@contextlib.contextmanager
def alone(path: Path, pause: float = 0.2) -> Iterator[None]:
    """Hold a lease within; while another process has it, wait, looking every `pause` seconds.

    It goes whatever happens within, and so does its folder, if it was made for it.
    """
    is_new = not path.parent.exists()
    while (lease := Lease.take(path)) is None:
        time.sleep(pause)
    lease.__enter__()
    try:
        yield
    finally:
        lease.let_go()
        if is_new:
            with contextlib.suppress(OSError):  # not the last there
                path.parent.rmdir()


def _text(owner: Owner) -> str:
    return json.dumps(asdict(owner), indent=1) + "\n"


def _create(path: Path, owner: Owner) -> bool:
    """Whether it was us who created the lease."""
    for _ in range(100):
        with contextlib.suppress(FileExistsError):  # it was there, and gone when mkdir looked whether it is a folder
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _put(path, _text(owner))
        except FileNotFoundError:  # whoever held the folder's last lease removed it just now
            continue
    return False


def _put(path: Path, text: str) -> bool:
    """Write a file that is not there yet; False if it is.  It is whole at once, where there are hard links."""
    temporary = temporary_beside(path)
    try:
        temporary.write_text(text)
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _put_by_name(path, text)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _put_by_name(path: Path, text: str) -> bool:
    """The same on a file system without hard links; for a moment the file is empty."""
    try:
        with open(path, "x") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _set_aside(path: Path, judged: bytes) -> None:
    """Remove a lease whose owner is gone, unless it is no longer the one that was judged: then put it back."""
    aside = temporary_beside(path)
    with contextlib.suppress(OSError):
        if path.read_bytes() != judged:
            return
        os.rename(path, aside)
        if aside.read_bytes() != judged:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()


def _clock(folder: Path) -> float:
    """The time now as the folder's file server has it; our own where nothing can be written."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"now")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
