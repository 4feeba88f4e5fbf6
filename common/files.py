"""Read settings files without running what is in them; write files so that they appear whole or not at all."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import imports  # and no name from it: --help, which loads this file, needs neither yaml nor safetensors
from common.errors import UserError
from common.processes import machine, started

FORGOTTEN = 86400.0  # seconds after which another machine's temporary file is taken for forgotten


def read_config(path: Path) -> dict:
    """A small json or yaml file of settings; yaml.safe_load builds plain values only."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else imports.yaml.safe_load(text)
    except Exception as error:  # noqa: BLE001 - yaml's constructors raise whatever a scalar happens to hit
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise UserError(f"cannot read {path} ({reason}); download it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no settings; download it again")
    return content


def file_digest(path: str | Path) -> str:
    """A fingerprint of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


# ---------------------------------------------------------------- writing


@contextlib.contextmanager
def writing(what: str, remedy: str = " and run the same command again (what is finished is kept)") -> Iterator[None]:
    """Turn what a disk refuses into a UserError: cannot WHAT: ..; make room or rights thereREMEDY."""
    try:
        yield
    except (OSError, imports.safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot {what}: {reason}; make room or rights there{remedy}") from None


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it.  Raises UserError if that fails."""
    temporary = temporary_beside(path)
    try:
        with writing(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            temporary.chmod(0o666 & ~umask())  # safetensors would let only the owner read
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def temporary_beside(path: Path) -> Path:
    """A temporary name for a file of this process: .NAME.MACHINE.PID.tmp; `remove_leftovers` knows it."""
    return path.with_name(f".{path.name}.{machine()}.{os.getpid()}.tmp")


def write_json(path: Path, content) -> None:
    """Write json, unless exactly that is there already."""
    text = json.dumps(content, indent=1) + "\n"
    with contextlib.suppress(OSError, ValueError):
        if path.read_text() == text:
            return
    write_atomically(path, lambda temporary: temporary.write_text(text))


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files below a folder that nobody writes any more.

    Of this machine: those whose process is gone.  Another machine's process cannot be looked up, and it may be
    writing: its files go once nobody has touched them for a day.
    """
    for path in folder.rglob(".*.tmp"):
        *_, where, pid, _ = path.name.split(".")
        with contextlib.suppress(OSError):  # its writer has renamed it just now, or it is another user's
            if where == machine() and pid.isdecimal():
                is_forgotten = started(int(pid)) is None
            else:
                is_forgotten = time.time() - path.stat().st_mtime > FORGOTTEN
            if is_forgotten:
                path.unlink()


def umask() -> int:
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    return mask
