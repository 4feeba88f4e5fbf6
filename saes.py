"""The three published SAE formats, read into one `SparseAutoencoder`.

    sae = load_sae("openai", "saved_models/saes/openai/5.pt")
    latents, context = sae.encode(x)          # x [..., d_model], the raw Hugging Face residual
    x_hat = sae.decode(latents, context)      # back in the raw residual's own space

    python saes.py check --help               are the files whole, and fed the right stream?

A family is one class and one entry of formats.FAMILIES; what was published, where, and
under which name it is kept, is one entry of `RELEASES`.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

from autoencoder import SparseAutoencoder, norm_summary
from formats import FAMILIES, Family, hook_point
from imports import UserError, torch
from saelens import LibrarySae, SaeLens, find, is_finite, is_own


@dataclass(frozen=True)
class Release:
    """A set of published SAEs, one per layer: its family, the layers there are for GPT-2 small, and where.

    address: of one SAE; {layer}, {hook} (its hook point) and {run} (one of `runs`) are filled in.
    mirror: of the same, where one is known to hold the same run: for the layers in `mirrored`.
    """

    family: str
    layers: tuple[int, ...]
    address: str = ""
    runs: tuple[str, ...] = ()  # of Weights & Biases, one per layer
    mirror: str = ""
    mirrored: tuple[int, ...] = ()
    end_to_end: bool = False  # trained for the model's answers; a reconstruction may be far off

    def address_of(self, layer: int, n_layers: int, mirror: bool = False) -> str:
        run = self.runs[self.layers.index(layer)] if self.runs else ""
        pattern = self.mirror if mirror else self.address
        return pattern.format(layer=layer, next=layer + 1, hook=hook_point(layer, n_layers), run=run)


# The runs of Apollo are those of Chaudhary & Geiger 2024.  The mirrors are named after "similar L0";
# by the tables of Apollo's own analysis (e2e_sae/scripts/analysis/utils.py, SIMILAR_L0_RUNS) that is
# the same run at layers 1 and 5 and another at layer 9 (8crnit9h, cvj5um2h).
RELEASES = {
    "openai": Release(
        "openai",
        tuple(range(12)),
        "az://openaipublic/sparse-autoencoder/gpt2-small/resid_post_mlp_v5_32k/autoencoders/{layer}.pt",
    ),
    "apollo-e2e": Release(
        "apollo",
        (1, 5, 9),
        "wandb://sparsify/gpt2/{run}",
        runs=("bst0prdd", "tvj2owza", "vnfh4vpi"),
        mirror="hf://neuronpedia/gpt2-small__res_sle-ajt/{next}-res_sle-ajt",
        mirrored=(1, 5),
        end_to_end=True,
    ),
    "apollo-e2e+ds": Release(
        "apollo",
        (1, 5, 9),
        "wandb://sparsify/gpt2/{run}",
        runs=("e26jflpq", "2lzle2f0", "u50mksr8"),
        mirror="hf://neuronpedia/gpt2-small__res_slefr-ajt/{next}-res_slefr-ajt",
        mirrored=(1, 5),
        end_to_end=True,
    ),
    "bloom": Release(
        "bloom",
        tuple(range(12)),
        "hf://jbloom/GPT2-Small-SAEs-Reformatted@57d08a4fd333fbf18caf3fbea63ceeb88e2f50d9/{hook}",
    ),
}


def release_named(name: str) -> Release:
    """A published release, or what a user's own SAE ``sae:..`` amounts to.  Raises UserError if that is broken."""
    return Release(name, (find(name).layer,)) if is_own(name) else RELEASES[name]


def family_named(name: str) -> Family | SaeLens:
    """By a release's `family`.  Raises UserError if there is none of this name."""
    if is_own(name):
        return SaeLens(name)
    if name not in FAMILIES:
        raise UserError(f"unknown SAE family {name!r}; known are {', '.join(FAMILIES)}, or sae:FOLDER")
    return FAMILIES[name]


def locate(release: str, root: str | Path, layer: int, n_layers: int) -> Path:
    """Where a release's SAE of this layer is kept: ROOT/RELEASE/ and then the publisher's own name."""
    return family_named(release_named(release).family).locate(Path(root) / release, layer, n_layers)


def load_sae(
    family: str, path: str | Path, layer: int | None = None, raw_residual: bool = False, d_model: int | None = None
) -> SparseAutoencoder | LibrarySae:
    """Read a published SAE as downloaded, check it, and convert it to fp32.

    family: openai, apollo or bloom, or the name of a release; or sae:FOLDER, whose path is that
    folder.  path: the file, or (apollo, bloom) its folder.  layer, d_model: which layer and width to expect.
    raw_residual: do as the original experiment did: no centring, and Apollo's decoder
    columns as stored.

    Raises UserError if the file is missing, truncated, of another family, layer or
    width, not finite, or a pickle with more than tensors and plain values.
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
    if sae.layer is not None and sae.layer < 0:
        raise UserError(f"{sae.path} reads the embeddings, before block 0; name an SAE of a block's output")
    if isinstance(sae, SparseAutoencoder):  # the library has looked at its own
        _check_weights(sae)
    if d_model is not None and sae.d_model != d_model:
        raise UserError(
            f"{sae.path} reads vectors of width {sae.d_model}, the model's are {d_model} wide; name another with --saes"
        )
    return sae


def _check_weights(sae: SparseAutoencoder) -> None:
    """Shapes against each other, values, k; converts to fp32 and records the decoder's norms.  Raises UserError."""
    n, d = sae.b_enc.numel(), sae.b_dec.numel()
    shapes = {"W_enc": (d, n), "b_enc": (n,), "W_dec": (n, d), "b_dec": (d,)}
    for name, shape in shapes.items():
        weight = getattr(sae, name)
        is_plain = weight.layout == torch.strided and not weight.is_meta and weight.is_floating_point()
        if tuple(weight.shape) != shape or not is_plain:
            raise UserError(
                f"{sae.path}: {name} has the shape {list(weight.shape)} ({weight.dtype}), expected floating-point "
                f"numbers of shape {list(shape)} from its biases; the file is damaged or of another format"
            )
        weight = weight.float()
        if not is_finite(weight):
            raise UserError(f"{sae.path}: {name} holds NaN or infinite values; download it again")
        setattr(sae, name, weight)
    if sae.k is not None and sae.k > n:
        raise UserError(f"{sae.path} is a TopK SAE with k = {sae.k}; k must be a number from 1 to its latents, {n}")
    if sae.decoder_norms is None:
        sae.decoder_norms = norm_summary(sae.W_dec.norm(dim=1))


def save_sae(family: str, path: str | Path, sae: SparseAutoencoder, n_layers: int) -> None:
    """Write an SAE in its publisher's own format (for tests and the toy world)."""
    FAMILIES[family].write(Path(path), sae, n_layers)


if __name__ == "__main__":
    if sys.argv[1:2] != ["check"]:
        sys.exit("usage: python saes.py check [--help]")
    check_saes = importlib.import_module("check_saes")  # which needs all that needs this file
    sys.exit(check_saes.main(sys.argv[2:]))
