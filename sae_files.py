"""Reading files from outside: nothing in them is run, and a bad one is one clear error."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

from imports import UserError, safetensors, safetensors_torch, torch, yaml


def read_torch(path: Path) -> dict:
    """A torch.save of one dict of tensors and plain values; refuses a pickle with anything else."""
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported operand" in str(error) or "GLOBAL" in str(error):
            raise UserError(
                f"{path} is a pickle with more than tensors and plain values; it was not loaded, as it could run code: "
                "get the publisher's own file"
            ) from None
        raise UserError(f"{path} is truncated or no file of torch.save; download it again") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError) as error:
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
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())[:120]}; download it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no settings; download it again")
    return content


def file_digest(path: str | Path) -> str:
    """A fingerprint of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def weights_file(path: Path) -> Path:
    """The file that holds an SAE's numbers, if it is a folder."""
    if not path.is_dir():
        return path
    files = sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".pt"))
    if not files:
        raise UserError(f"{path} holds no SAE weights (.safetensors or .pt); download it again")
    return max(files, key=lambda p: p.stat().st_size)
