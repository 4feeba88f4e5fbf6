"""What the publishers' file formats share."""

from pathlib import Path

from common.errors import UserError
from common.files import file_digest
from common.text import shortened
from imports import torch
from saes.autoencoder import SparseAutoencoder
from saes.names import layer_of_hook_point

KEYS = {  # family -> the tensors that its files hold under these names; apollo's names begin with a hook point
    "openai": ("pre_bias", "encoder.weight", "latent_bias", "decoder.weight"),
    "bloom": ("W_enc", "b_enc", "W_dec", "b_dec"),
}


class Family:
    """How one publisher keeps an SAE: in which file, and in which tensors."""

    def weights_file(self, path: Path) -> Path:
        """The file that holds an SAE's numbers.  Raises UserError if it is missing."""
        raise NotImplementedError

    def read(self, path: Path, layer: int | None, raw_residual: bool) -> SparseAutoencoder:
        """Read the SAE at a path, its weights as stored; `loading.load_sae` checks them.  Raises UserError.

        layer: which to take of a file with several.
        """
        raise NotImplementedError

    def write(self, path: Path, sae: SparseAutoencoder, n_layers: int) -> None:
        raise NotImplementedError

    def digest(self, path: Path) -> str:
        """A fingerprint of whatever decides what the SAE at a path computes."""
        return file_digest(self.weights_file(path))


def transposed(weight: torch.Tensor) -> torch.Tensor:
    return weight.T if weight.ndim == 2 else weight  # other shapes are refused in load_sae


def hooks_of(content: dict, file: Path) -> dict[int, str]:
    """Map each layer to the hook point that begins the names of its tensors, as in Apollo's files."""
    names = (key for key in content if isinstance(key, str))
    hooks = (name.partition(".encoder.")[0].partition(".decoder.")[0] for name in names)
    return {layer: hook for hook in hooks if (layer := layer_of_hook_point(hook, file)) is not None}


def require_keys(content: dict, keys: tuple[str, ...], family: str, file: Path) -> None:
    """Raises UserError unless all of these are tensors."""
    missing = [key for key in keys if not isinstance(content.get(key), torch.Tensor)]
    if missing:
        raise UserError(
            f"{file} is not an {family} SAE: it has no tensor {missing[0]}{has_instead(content, family, file)}"
        )


def has_instead(content: dict, asked: str, file: Path) -> str:
    """Say, at the end of an error, what a file holds instead and whose format that is."""
    looks = [name for name, keys in KEYS.items() if all(key in content for key in keys)]
    looks += ["apollo"] if hooks_of(content, file) else []
    likely = "".join(f"; it looks like {name}'s" for name in looks if name != asked)
    return f" (it has {', '.join(shown(key) for key in list(content)[:3]) or 'none'}){likely}; name the right file"


def shown(value: object) -> str:
    """Shorten a value of a file for an error."""
    return shortened(" ".join(repr(value).split()), 60)
