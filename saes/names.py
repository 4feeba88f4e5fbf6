"""Names of SAEs, of the places in a model that they read, and of models; imports nothing heavy.

`h[L]`, the residual after block L, is called ``blocks.{L+1}.hook_resid_pre`` or
``blocks.{L}.hook_resid_post`` by the publishers; here everything is indexed by L.
"""

import os
import re
from pathlib import Path

from common.errors import UserError

OWN = "sae:"  # the names of a user's own SAEs begin with it

HOOK_POINT = re.compile(
    r"blocks[.-]([0-9]+)[.-]hook_(resid_pre|resid_post|in|out)"  # TransformerLens's names
    r"|(?:[a-z]\w*\.)*(?:layers|h)\.([0-9]+)(?:\.(input|output))?"  # Hugging Face's
)


def hook_point(layer: int, n_layers: int) -> str:
    """Return TransformerLens's name of h[L]: the next block's input, or the last block's output."""
    return f"blocks.{layer + 1}.hook_resid_pre" if layer + 1 < n_layers else f"blocks.{layer}.hook_resid_post"


def layer_of_hook_point(name: str, file: Path | str = "the file") -> int | None:
    """Return L of a place in the residual stream: -1 before block 0, None for any other kind of place.

    blocks.5.hook_resid_pre, blocks-5-hook_in, blocks.4.hook_out and model.layers.4 (or
    transformer.h.4) are all of layer 4.  file: what says so, for the error.

    Raises UserError if the number cannot be a layer's.
    """
    match = HOOK_POINT.fullmatch(name)
    if not match:
        return None
    block, where = match[1] or match[3], match[2] or match[4]
    if len(block) > 4:  # beyond 4,300 digits int() itself refuses
        raise UserError(f"{file} is damaged: a hook point in it has a number of {len(block)} digits; get it anew")
    return int(block) - (where in ("resid_pre", "in", "input"))


def is_own(name: str) -> bool:
    """Whether a method's name is that of a user's own SAE."""
    return name.startswith(OWN)


def normalised(name: str) -> str:
    """One name for an SAE, however its folder is written: sae:x/ and sae:./x are sae:x.

    A folder below the current one is named from there, any other by its whole path; what stands behind it, as in
    sae:x@64 or sae:x:random, stays.
    Raises UserError if the name is empty.
    """
    what = name.removeprefix(OWN)
    if not what.strip("/ ") and not what.startswith("/"):
        raise UserError(f"{name!r} names no SAE; give a folder or a hub id, as in {OWN}runs/mine")
    cuts = [i for i in range(1, len(what)) if what[i] in "@:" and _is_folder(what[:i])]
    if cuts and not _is_folder(what):
        return f"{OWN}{_one_name(what[: cuts[-1]])}{what[cuts[-1] :]}"
    return OWN + (_one_name(what) if _is_folder(what) else what.rstrip("/") or "/")


def _is_folder(path: str) -> bool:
    return os.path.isdir(os.path.expanduser(path))  # unlike Path's own it takes a name of any length


def _one_name(folder: str) -> str:
    path = os.path.abspath(os.path.expanduser(folder))
    here = os.path.join(os.getcwd(), "")
    return path.removeprefix(here)


# ---------------------------------------------------------------- models

# Names of TransformerLens (transformer_lens/supported_models.py) that differ from the hub's by more than the owner.
ALIASES = {
    **{
        "gpt2-small": "gpt2",
        "gpt2-xs": "distilgpt2",
        "gpt-neo-small": "gpt-neo-125m",
        "gpt-neo-medium": "gpt-neo-1.3b",
    },
    **{"gpt-neo-large": "gpt-neo-2.7b", "gpt-neox": "gpt-neox-20b", "gpt-j": "gpt-j-6b", "opt-small": "opt-125m"},
    **{"mistral-7b": "mistral-7b-v0.1", "mistral-7b-instruct": "mistral-7b-instruct-v0.1"},
    **{"mixtral-8x7b": "mixtral-8x7b-v0.1", "phi-3": "phi-3-mini-4k-instruct", "gpt-oss": "gpt-oss-20b"},
    **{"olmo-2-1b": "olmo-2-0425-1b", "olmo-2-7b": "olmo-2-1124-7b", "smollm2": "smollm2-135m-instruct"},
}
# Pythia's models were named anew when their sizes were counted with the embeddings.
PYTHIAS = {
    **{"19m": "70m", "125m": "160m", "350m": "410m", "800m": "1b", "1.3b": "1.4b", "2.7b": "2.8b"},
    **{"6.7b": "6.9b", "13b": "12b"},
}


def can_be_same(theirs: str, ours: str) -> bool:
    """Whether an SAE's model, by the name in its file, is the one that the user asked for.

    The toy world is no published model and has GPT-2's architecture: SAEs that call it so are let through.
    """
    theirs, ours = _plain(theirs), _plain(ours)
    return theirs == ours or (ours == "toy" and theirs.startswith("gpt2"))


def _plain(name: str) -> str:
    """Return a model's name on the hub, without owner and in lower case."""
    short = str(name).lower().rstrip("/").rpartition("/")[2]
    short = short.removeprefix("meta-").removesuffix("-hf").replace("tiny-stories", "tinystories")
    pythia = re.fullmatch(r"pythia-([\d.]+[mb])(.*)", short)
    if pythia:
        return f"pythia-{PYTHIAS.get(pythia[1], pythia[1])}{pythia[2]}"
    return ALIASES.get(short, short)
