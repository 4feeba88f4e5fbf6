"""Files: what comes from outside is read without running it, what we write appears whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

from imports import UserError, safetensors, safetensors_torch, torch, yaml


def read_torch(path: Path) -> dict:
    """A torch.save of one dict of tensors and plain values; refuses a pickle with anything else."""
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        with open(path, "rb") as file:
            is_pickle = file.read(2) in (b"PK", *(bytes([0x80, protocol]) for protocol in range(2, 6)))
        if is_pickle and ("Unsupported" in str(error) or "GLOBAL" in str(error)):
            raise UserError(
                f"{path} is a pickle with more than tensors and plain values; it was not loaded, as it could run code: "
                "get the publisher's own file"
            ) from None
        raise UserError(f"{path} is truncated or no file of torch.save; download it again") from None
    except Exception as error:  # noqa: BLE001 - damaged bytes raise whatever they happen to hit
        raise UserError(
            f"{path} is truncated or no file of torch.save ({type(error).__name__}); download it again"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors; get the publisher's own file")
    return content


def read_safetensors(path: Path) -> dict:
    try:
        return safetensors_torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is truncated or no safetensors file ({error}); download it again") from None


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
