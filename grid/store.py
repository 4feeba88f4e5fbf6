"""Result files: where they lie, and when one counts as done.

    OUTPUT/MODEL/TARGET/METHOD/layerLL-seedS.json         scores, settings, versions
    OUTPUT/MODEL/TARGET/METHOD/layerLL-seedS.safetensors  theta [n_features]; das: rotation
    OUTPUT/MODEL/TARGET/pairs-MODE-SPLIT-seedS.json       the pairs of train, validation, test
    OUTPUT/MODEL/cities.json                              who takes part, and why others do not

Each file is written under a temporary name and renamed, the json of a run last: a
run whose json is there is done.
"""

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from common.errors import UserError
from common.files import remove_leftovers, write_atomically, write_json
from common.paths import HOME

LONGEST_NAME = 200


@dataclass(frozen=True)
class Run:
    """One cell of the grid."""

    target: str
    method: str
    layer: int
    seed: int

    def __str__(self) -> str:
        method = self.method.replace("/", "--")
        if len(method.encode()) > LONGEST_NAME:  # a path; a folder's name may have 255 bytes
            method = f"{hashlib.sha256(method.encode()).hexdigest()[:16]}--{method[-40:]}"
        return f"{self.target}/{method}/layer{self.layer:02d}-seed{self.seed}"


class Store:
    """The results of one model under one output folder."""

    def __init__(self, output: str | Path, model: str):
        if os.path.isdir(model):  # one name for x and x/; and . and .. are no names of folders in OUTPUT
            model = os.path.normpath(model)
            model = os.path.abspath(model) if model.startswith(".") else model
        self.root = Path(output) / model.replace("/", "--")

    def json_path(self, run: Run) -> Path:
        return self.root / f"{run}.json"

    def tensors_path(self, run: Run) -> Path:
        return self.root / f"{run}.safetensors"

    def pairs_path(self, target: str, mode: str, split: str, seed: int) -> Path:
        return self.root / target / f"pairs-{mode}-{split}-seed{seed}.json"

    def is_done(self, run: Run) -> bool:
        return self.json_path(run).exists() and self.tensors_path(run).exists()

    def read(self, run: Run) -> dict:
        """Raises UserError if the file is there but broken."""
        path = self.json_path(run)
        try:
            content = json.loads(path.read_text())
            if not isinstance(content.get("config"), dict):
                raise ValueError("it has no config")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"cannot read the result {path} ({error}); remove it, or redo it with --force") from None
        return content

    def write(self, run: Run, result: dict, tensors: dict) -> None:
        from imports import safetensors_torch  # here, as to read results and draw them needs no torch

        content = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(self.tensors_path(run), lambda path: safetensors_torch.save_file(content, path))
        write_json(self.json_path(run), result)

    def require_writable(self) -> None:
        """Raises UserError if the folder could not be made, without making it."""
        ancestor = self.root.absolute()
        while not ancestor.exists():
            ancestor = ancestor.parent
        if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
            raise UserError(f"cannot write to {self.root}: {ancestor} is no folder one can write to; use --output")

    def prepare(self) -> None:
        """Make the folder and clear away what a killed process left.  Raises UserError if it cannot be written to."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
            remove_leftovers(self.root)
        except OSError as error:
            raise UserError(
                f"cannot write to {self.root}: {error.strerror}; name another folder with --output"
            ) from None

    def stale(self, target: str, pairs_name: str, digest: str, redone: set[Run]) -> list[str]:
        """Results that refer to this pair file but were made with other pairs, and will not be redone."""
        found = []
        again = {str(self.json_path(run)) for run in redone}
        for path in sorted((self.root / target).glob("*/layer*.json")):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                content = json.loads(path.read_text())
                differs = content.get("config", {}).get("pairs_digest") != digest
                if content.get("pairs") == pairs_name and differs and str(path) not in again:
                    found.append(str(path))
        return found


def difference(old: dict, new: dict) -> str:
    """How two configs differ: 'epochs 20 there, 3 now; lr ...', or '' if they do not."""
    new = json.loads(json.dumps(new))  # as it would come back from the file
    keys = [key for key in (*new, *(k for k in old if k not in new)) if old.get(key) != new.get(key)]
    telling = [key for key in keys if not key.endswith("_digest")]  # digests follow from other settings, if any differ
    return "; ".join(
        f"{key} {json.dumps(old.get(key))} there, {json.dumps(new.get(key))} now" for key in telling or keys
    )


def provenance(device: str) -> dict:
    """Versions of what computes, the commit of this checkout, and the device."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "transformers", "nnsight", "numpy", "safetensors"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {"versions": versions, "commit": _commit(), "device": device}


def _commit() -> str | None:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HOME, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
