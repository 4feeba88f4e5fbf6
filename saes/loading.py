"""Read and write SAEs of every published format as one `SparseAutoencoder`."""

from pathlib import Path

from common.errors import UserError
from common.tensors import is_finite
from imports import torch
from saes.apollo import Apollo
from saes.autoencoder import SparseAutoencoder
from saes.bloom import Bloom
from saes.family import Family
from saes.names import is_own
from saes.openai import OpenAI
from saes.releases import RELEASES
from saes.saelens import LibrarySae, SaeLens

FAMILIES = {"openai": OpenAI(), "apollo": Apollo(), "bloom": Bloom()}


def family_named(name: str) -> Family:
    """Return the reader of a family (`Release.family`).  Raises UserError if there is none of this name."""
    if is_own(name):
        return SaeLens(name)
    if name not in FAMILIES:
        raise UserError(f"unknown SAE family {name!r}; known are {', '.join(FAMILIES)}, or sae:FOLDER")
    return FAMILIES[name]


def is_mirror(family: str, path: Path) -> bool:
    """Whether an SAE is a copy in SAELens's layout, not its publisher's own file."""
    return family == "apollo" and FAMILIES[family].is_mirror(path)


def load_sae(
    family: str, path: str | Path, layer: int | None = None, raw_residual: bool = False, d_model: int | None = None
) -> SparseAutoencoder:
    """Read a published SAE as downloaded, check it, and convert it to fp32.

    family: openai, apollo or bloom, or the name of a release; or sae:FOLDER, whose path is that
    folder.  path: the file, or (apollo, bloom) its folder.  layer, d_model: which layer and width to expect.
    raw_residual: do as the original experiment did: no centring, and Apollo's decoder
    columns as stored.

    Raises UserError if the file is missing, truncated, of another family, layer or
    width, not finite or too large to compute with, or a pickle with more than tensors
    and plain values.
    """
    if family in RELEASES:
        family = RELEASES[family].family
    reader = family_named(family)
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"there is no {family} SAE at {path}; ./setup.sh {family} downloads GPT-2 small's, or name its folder with "
            "--saes"
        )
    sae = reader.read(path, layer, raw_residual)
    if layer is not None and sae.layer not in (None, layer):
        raise UserError(
            f"{sae.path} is of layer {sae.layer}, not of layer {layer}; put the right file or the right folder there"
        )
    sae.layer = layer if sae.layer is None else sae.layer
    if sae.layer is not None and sae.layer < 0:
        raise UserError(f"{sae.path} reads the embeddings, before block 0; name an SAE of a block's output")
    if not isinstance(sae, LibrarySae):  # the library has looked at its own
        _check_weights(sae)
    _check_sizes(sae)
    if d_model is not None and sae.d_model != d_model:
        raise UserError(
            f"{sae.path} reads vectors of width {sae.d_model}, the model's are {d_model} wide; name another with --saes"
        )
    return sae


def _check_weights(sae: SparseAutoencoder) -> None:
    """Check shapes and values, convert to fp32, normalise the decoder where its family does.  Raises UserError."""
    n, d = sae.b_enc.numel(), sae.b_dec.numel()
    for name, shape in {"W_enc": (d, n), "b_enc": (n,), "W_dec": (n, d), "b_dec": (d,)}.items():
        weight = getattr(sae, name)
        if tuple(weight.shape) != shape or not weight.is_floating_point():
            raise UserError(
                f"{sae.path}: {name} has the shape {list(weight.shape)} ({weight.dtype}), expected floating-point "
                f"numbers of shape {list(shape)} from its biases; the file is damaged or of another format"
            )
        weight = weight.float()
        if not is_finite(weight):
            raise UserError(f"{sae.path}: {name} holds NaN or infinite values; download it again")
        setattr(sae, name, weight)
    lengths = sae.note_decoder_norms()
    if sae.unit_decoder:
        sae.W_dec = sae.W_dec / lengths.clamp_min(1e-12)[:, None]  # as torch's normalize


def _check_sizes(sae: SparseAutoencoder) -> None:
    """Encode and decode a vector of unit scale and its negative, which fires other latents.  Raises UserError."""
    x = torch.randn(sae.d_model, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents, context = sae.encode(torch.stack([x, -x]))
        parts = (latents, sae.decode(latents, context), torch.tensor(list(sae.decoder_norms.values())))
    if not all(map(is_finite, parts)):
        raise UserError(f"{sae.path}: its weights are so large that they overflow; the file is damaged, get it anew")


def save_sae(family: str, path: str | Path, sae: SparseAutoencoder, n_layers: int) -> None:
    """Write an SAE in its publisher's own format (for tests and the toy world)."""
    FAMILIES[family].write(Path(path), sae, n_layers)
