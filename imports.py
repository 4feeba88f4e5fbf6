"""Every third-party library of the project, named once.

    from imports import torch, tqdm

gives a stand-in that costs nothing: the library itself is loaded when one of
its names is first used, so ``--help`` answers at once and a missing library
matters only to the command that needs it.  Nothing else in the project imports
a third-party library directly.
"""

import importlib
import importlib.util
import sys
from types import ModuleType


class UserError(Exception):
    """Something the user can put right: what was wrong, where, and what to do.

    Its text is one line; commands print it as ``error: ...`` and exit with 2.
    Anything else that escapes is a bug of ours and keeps its traceback.
    """


class Library(ModuleType):
    """A module that is imported when one of its public names is first read."""

    def __init__(self, name: str, package: str | None = None, version: str = ""):
        """version: of an optional library, which requirements.txt leaves out."""
        super().__init__(name)
        self._package = package or name.partition(".")[0]
        self._version = version

    # Not __getattr__, which is asked only for what the stand-in lacks: nnsight gives
    # every object a method `save`, and the stand-in for nnsight would answer with that.
    def __getattribute__(self, name: str):
        own = super().__getattribute__
        if name.startswith("_") and name != "__version__":
            return own(name)
        module = sys.modules.get(own("__name__"))  # a training step asks hundreds of times
        return getattr(own("_load")() if module is None else module, name)

    def _load(self) -> ModuleType:
        try:
            return importlib.import_module(self.__name__)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != self.__name__.partition(".")[0]:
                raise  # the library is there, something that it needs is not
            raise self._missing() from None

    def _missing(self) -> UserError:
        if self._version:
            return UserError(
                f"the optional library {self._package} is not installed for {sys.executable}: "
                f".venv/bin/python -m pip install {self._package}=={self._version}"
            )
        return UserError(
            f"the library {self._package} is not installed for {sys.executable}: start through ./run.sh or "
            f".venv/bin/python (./setup.sh makes it), or pip install {self._package} as requirements.txt says"
        )


def require(library: Library) -> None:
    """Raises UserError if a library is not installed, without the time it takes to load it."""
    if importlib.util.find_spec(library.__name__.partition(".")[0]) is None:
        raise library._missing()


np = Library("numpy")
torch = Library("torch")
functional = Library("torch.nn.functional")
transformers = Library("transformers")
tokenizers = Library("tokenizers")
nnsight = Library("nnsight")
safetensors = Library("safetensors")
safetensors_torch = Library("safetensors.torch")
yaml = Library("yaml", "pyyaml")
tqdm = Library("tqdm")
wandb = Library("wandb")
blobfile = Library("blobfile")
requests = Library("requests")
huggingface_hub = Library("huggingface_hub")
hub_constants = Library("huggingface_hub.constants")
hub_utils = Library("huggingface_hub.utils")
hub_logging = Library("huggingface_hub.utils.logging")
sae_lens = Library("sae_lens", "sae-lens", "6.54.12")
sae_lens_directory = Library("sae_lens.loading.pretrained_saes_directory", "sae-lens", "6.54.12")
matplotlib = Library("matplotlib")
figure = Library("matplotlib.figure")
lines = Library("matplotlib.lines")
patches = Library("matplotlib.patches")
