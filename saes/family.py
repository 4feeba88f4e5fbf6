"""What the publishers' file formats share."""

from pathlib import Path

from common.errors import UserError
from common.files import file_digest
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
        """The SAE at a path, its weights as stored; `loading.load_sae` checks them.  Raises UserError."""
        raise NotImplementedError

    def write(self, path: Path, sae: SparseAutoencoder, n_layers: int) -> None:
        raise NotImplementedError

    def digest(self, path: Path) -> str:
        """A fingerprint of whatever decides what the SAE at a path computes."""
        return file_digest(self.weights_file(path))


def transposed(weight: torch.Tensor) -> torch.Tensor:
    return weight.T if weight.ndim == 2 else weight  # other shapes are refused in load_sae


def first_keys(content: dict) -> str:
    return ", ".join(str(key) for key in list(content)[:3]) or "none"


def looks_like(content: dict, asked: str) -> str:
    """'; it looks like NAME's', or '' if the tensors are of no other family."""
    looks = {name: all(key in content for key in keys) for name, keys in KEYS.items()}
    looks["apollo"] = any(layer_of_hook_point(str(key)) is not None for key in content)
    found = [name for name in ("openai", "apollo", "bloom") if looks[name] and name != asked]
    return f"; it looks like {found[0]}'s" if found else ""


def agreed(told: int | None, layer: int | None, refusal: str) -> int | None:
    """The layer that a file tells, or else that is expected.  Raises UserError if they differ."""
    if None not in (layer, told) and told != layer:
        raise UserError(refusal)
    return told if layer is None else layer


def require_keys(content: dict, keys: tuple[str, ...], family: str, path: Path) -> None:
    """Raises UserError unless all of these are tensors."""
    missing = [key for key in keys if not isinstance(content.get(key), torch.Tensor)]
    if missing:
        raise UserError(
            f"{path} is not an {family} SAE: it has no tensor {missing[0]} (it has {first_keys(content)})"
            f"{looks_like(content, family)}; name the right file"
        )
