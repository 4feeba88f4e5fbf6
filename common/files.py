"""Read settings files without running what is in them; write files so that they appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError
from imports import safetensors, yaml


def read_config(path: Path) -> dict:
    """A small json or yaml file of settings; yaml.safe_load builds plain values only."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())[:120]}; download it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no settings; download it again")
    return content


def file_digest(path: str | Path) -> str:
    """A fingerprint of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


# ---------------------------------------------------------------- writing


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it.  Raises UserError if that fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # safetensors would let only the owner read
        os.replace(temporary, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(
            f"cannot write {path}: {getattr(error, 'strerror', None) or error}; make room or rights there and run "
            "the same command again (what is finished is kept)"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_json(path: Path, content) -> None:
    """Write json, unless exactly that is there already."""
    text = json.dumps(content, indent=1) + "\n"
    with contextlib.suppress(OSError, ValueError):
        if path.read_text() == text:
            return
    write_atomically(path, lambda temporary: temporary.write_text(text))


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of `write_atomically` below a folder whose process is gone."""
    for path in folder.rglob(".*.tmp"):
        pid = path.name.split(".")[-2]
        if not (pid.isdecimal() and is_running(int(pid))):
            path.unlink(missing_ok=True)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    return mask
