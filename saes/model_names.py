"""Whether two names are of one model: SAEs call theirs as TransformerLens does, users as the hub does."""

import re

# Names of TransformerLens (transformer_lens/supported_models.py) that differ from the hub's by more than the owner.
ALIASES = {
    "gpt2-small": "gpt2",
    "gpt2-xs": "distilgpt2",
    "gpt-neo-small": "gpt-neo-125m",
    "gpt-neo-medium": "gpt-neo-1.3b",
    "gpt-neo-large": "gpt-neo-2.7b",
    "gpt-neox": "gpt-neox-20b",
    "gpt-j": "gpt-j-6b",
    "mistral-7b": "mistral-7b-v0.1",
    "mistral-7b-instruct": "mistral-7b-instruct-v0.1",
    "mixtral-8x7b": "mixtral-8x7b-v0.1",
    "opt-small": "opt-125m",
    "phi-3": "phi-3-mini-4k-instruct",
    "gpt-oss": "gpt-oss-20b",
    "olmo-2-1b": "olmo-2-0425-1b",
    "olmo-2-7b": "olmo-2-1124-7b",
    "smollm2": "smollm2-135m-instruct",
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
    """Without owner and case, by the hub's own name."""
    short = str(name).lower().rstrip("/").rpartition("/")[2]
    short = short.removeprefix("meta-").removesuffix("-hf").replace("tiny-stories", "tinystories")
    pythia = re.fullmatch(r"pythia-([\d.]+[mb])(.*)", short)
    if pythia:
        return f"pythia-{PYTHIAS.get(pythia[1], pythia[1])}{pythia[2]}"
    return ALIASES.get(short, short)
