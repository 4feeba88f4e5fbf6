"""Names of SAEs and of the places in a model that they read; imports nothing heavy.

`h[L]`, the residual after block L, is called ``blocks.{L+1}.hook_resid_pre`` or
``blocks.{L}.hook_resid_post`` by the publishers; here everything is indexed by L.
"""

import re

from common.errors import UserError

OWN = "sae:"  # the names of a user's own SAEs begin with it


def hook_point(layer: int, n_layers: int) -> str:
    """TransformerLens's name of h[L]: the next block's input, or the last block's output."""
    return f"blocks.{layer + 1}.hook_resid_pre" if layer + 1 < n_layers else f"blocks.{layer}.hook_resid_post"


def layer_of_hook_point(name: str) -> int | None:
    """L of ``blocks.5.hook_resid_pre`` (dots or hyphens): 4; of a resid_post: its own number; else None."""
    match = re.search(r"blocks[.-](\d+)[.-]hook_resid_(pre|post)", name)
    return int(match[1]) - (match[2] == "pre") if match else None


def is_own(name: str) -> bool:
    """Whether a method's name is that of a user's own SAE."""
    return name.startswith(OWN)


def normalised(name: str) -> str:
    """One name for sae:x and sae:x/.  Raises UserError if it names nothing."""
    what = name.removeprefix(OWN)
    if not what.strip("/ ") and not what.startswith("/"):
        raise UserError(f"{name!r} names no SAE; give a folder or a hub id, as in {OWN}runs/mine")
    return OWN + (what.rstrip("/") or "/")
