"""Every third-party library of the project, named once.

    from imports import torch, tqdm

imports a library when a file first asks for it.  So a command that reads its flags
before it imports the files which need torch answers ``--help`` at once, and a missing
library matters only to the command that uses it.  No other product file imports a
third-party library directly.
"""

import contextlib
import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import huggingface_hub
    import huggingface_hub.constants as hub_constants
    import huggingface_hub.utils as hub_utils
    import huggingface_hub.utils.logging as hub_logging
    import matplotlib
    import matplotlib.figure as figure
    import matplotlib.lines as lines
    import matplotlib.patches as patches
    import nnsight
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as parquet
    import requests
    import sae_lens
    import sae_lens.loading.pretrained_saes_directory as sae_lens_directory
    import safetensors
    import safetensors.torch as safetensors_torch
    import scipy
    import scipy.special as scipy_special
    import scipy.stats as scipy_stats
    import sklearn
    import sklearn.linear_model as linear_model
    import sklearn.svm as svm
    import submitit
    import tokenizers
    import torch
    import torch.nn.functional as functional
    import tqdm
    import transformers
    import wandb
    import yaml

MODULES = {  # name here -> module, where the two differ
    "figure": "matplotlib.figure",
    "functional": "torch.nn.functional",
    "hub_constants": "huggingface_hub.constants",
    "hub_logging": "huggingface_hub.utils.logging",
    "hub_utils": "huggingface_hub.utils",
    "linear_model": "sklearn.linear_model",
    "lines": "matplotlib.lines",
    "np": "numpy",
    "pa": "pyarrow",
    "parquet": "pyarrow.parquet",
    "patches": "matplotlib.patches",
    "pd": "pandas",
    "sae_lens_directory": "sae_lens.loading.pretrained_saes_directory",
    "safetensors_torch": "safetensors.torch",
    "scipy_special": "scipy.special",
    "scipy_stats": "scipy.stats",
    "svm": "sklearn.svm",
}
LIBRARIES = {  # library -> what pip calls it
    **{name: name for name in ("matplotlib", "nnsight", "numpy", "requests", "safetensors", "scipy")},
    "submitit": "submitit",
    **{name: name for name in ("huggingface_hub", "tokenizers", "torch", "tqdm", "transformers", "wandb")},
    "sae_lens": "sae-lens",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# Not in requirements.txt: the versions that were tried.
OPTIONAL = {
    **{"accelerate": "1.15.0", "pandas": "3.1.1", "pyarrow": "26.0.1"},
    **{"sae_lens": "6.54.12", "submitit": "1.5.4"},
}


class MissingLibrary(ImportError):
    """A library that is not installed; its text is one line, and commands print it like a UserError."""

    def __init__(self, library: str):
        package = LIBRARIES.get(library, library)
        if library in OPTIONAL:
            text = (
                f"the optional library {package} is not installed for {sys.executable}: "
                f".venv/bin/python -m pip install {package}=={OPTIONAL[library]}"
            )
        else:
            text = (
                f"the library {package} is not installed for {sys.executable}: start through ./run.sh or "
                f".venv/bin/python (./setup.sh makes it), or pip install {package} as requirements.txt says"
            )
        super().__init__(text, name=library)


def load(module: str) -> ModuleType:
    """Import a module of a library.  Raises MissingLibrary if the library itself is not installed."""
    library = module.partition(".")[0]
    try:
        with uncollected():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise  # the library is there, something that it needs is not
        raise MissingLibrary(library) from None


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Within, Python looks for no garbage.

    While it imports torch and transformers it makes a million objects, all of which stay; to look through them again
    and again takes a fifth of that time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def require(library: str) -> None:
    """Raises MissingLibrary if a library is not installed, without the time it takes to import it."""
    if importlib.util.find_spec(library) is None:
        raise MissingLibrary(library)


def __getattr__(name: str) -> ModuleType:
    if name not in MODULES and name not in LIBRARIES:
        raise AttributeError(f"imports has no {name}")
    return load(MODULES.get(name, name))
