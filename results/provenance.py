"""What a result was made with: how two configurations differ, and which versions, commit and device computed it."""

import contextlib
import json
import platform
import subprocess
from importlib import metadata

from common.paths import HOME


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
    return {"versions": versions(), "commit": _commit(), "device": device}


def versions() -> dict[str, str]:
    """Of Python and of the libraries that compute, those that are installed."""
    found = {"python": platform.python_version()}
    for package in ("torch", "transformers", "nnsight", "numpy", "scipy", "scikit-learn", "safetensors", "sae-lens"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _commit() -> str | None:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HOME, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
