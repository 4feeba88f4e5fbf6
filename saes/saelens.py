"""A user's own SAE, read and computed by SAELens's library, which is needed for these methods only."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from common.files import file_digest
from common.tensors import is_finite, read_safetensors
from imports import torch
from saes.autoencoder import Context, SparseAutoencoder
from saes.family import Family, shown
from saes.source import CONFIG, WEIGHTS, Source, download, find


@dataclass
class LibrarySae(SparseAutoencoder):
    """An SAE whose latents SAELens computes; preparing and decoding are those of every SAE here."""

    library: torch.nn.Module | None = field(default=None, repr=False)  # sae_lens.SAE

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        return self.library.encode(x)

    def to(self, device: str) -> LibrarySae:
        self.library.to(device)  # and with it W_dec and the others, which are its parameters
        return self


class SaeLens(Family):
    """How an SAE in SAELens's format is kept: a family for one ``sae:`` method."""

    def __init__(self, name: str):
        self.name = name

    def weights_file(self, path: Path) -> Path:
        source = find(self.name)
        if source.hub:
            return download(*source.hub, WEIGHTS)
        if not (path / WEIGHTS).is_file():
            raise UserError(f"{path / WEIGHTS} is missing; name a folder that SAELens's save_model wrote")
        return path / WEIGHTS

    def digest(self, path: Path) -> str:
        """Fingerprint the weights and the settings that say how to read them."""
        source = find(self.name)
        settings = json.dumps([source.config, source.scaling], sort_keys=True).encode()
        return f"{file_digest(self.weights_file(path))}-{hashlib.sha256(settings).hexdigest()[:16]}"

    def read(self, path: Path, layer: int | None, raw_residual: bool) -> LibrarySae:
        """Raises UserError for whatever the library cannot make an SAE of."""
        source, file = find(self.name), self.weights_file(path)
        tensors = read_safetensors(file)
        for name, tensor in tensors.items():
            if not tensor.is_floating_point() or not is_finite(tensor):
                raise UserError(f"{file}: {name} holds NaN, infinite or no real numbers; write or download it again")
        scaling = tensors.pop("scaling_factor", None)
        if scaling is not None and not torch.all(scaling == 1):
            raise UserError(f"{file} has a scaling_factor other than 1, which SAELens 6 no longer knows; fold it in")
        library = _built(source, file, tensors)
        k, n = getattr(library.cfg, "k", None), library.cfg.d_sae
        if k is not None and not (isinstance(k, int) and 1 <= k <= n):
            raise UserError(f"{file}: k = {shown(k)}; k must be a number from 1 to its latents, {n}")
        sae = LibrarySae(
            *(self.name, source.layer, str(file)),
            *(library.W_enc, getattr(library, "b_enc", None), library.W_dec, library.b_dec),
            subtract_b_dec=library.cfg.apply_b_dec_to_input,
            centred=bool(source.centred) and not raw_residual,
            normalised=source.normalisation == "layer_norm",
            rescaled=source.normalisation == "constant_norm_rescale",
            k=k,
            library=library,
        )
        sae.note_decoder_norms()
        if source.scaling is not None and source.normalisation == "expected_average_only_in":
            library.fold_activation_norm_scaling_factor(source.scaling)
        if getattr(library.cfg, "rescale_acts_by_decoder_norm", False):
            library.fold_W_dec_norm()  # then latents @ W_dec is all there is to decoding
        _require_linear_decoder(sae)
        return sae


def _built(source: Source, file: Path, tensors: dict[str, torch.Tensor]):
    """Build the library's SAE without input normalisation, which `SparseAutoencoder.prepare` does."""
    from imports import sae_lens

    def converter(*_, **__):  # in place of the library's own reading of files
        config = source.config | {"device": "cpu", "dtype": "float32", "normalize_activations": "none"}
        return config, {name: tensor.float() for name, tensor in tensors.items()}

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the model should be loaded as the SAE's was: done here
            library = sae_lens.SAE.load_from_disk(source.folder, device="cpu", dtype="float32", converter=converter)
    except Exception as error:  # noqa: BLE001 - it raises whatever the file's content happens to hit
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"SAELens cannot make an SAE of {file} and its {CONFIG} ({type(error).__name__}: {reason}); write or "
            "download it again"
        ) from None
    return library.requires_grad_(False)


def _require_linear_decoder(sae: LibrarySae) -> None:
    """Compare the library's decoder with W_dec and b_dec alone, by which patches decode.  Raises UserError."""
    z = torch.rand(2, sae.n_latents, generator=torch.Generator().manual_seed(0))
    expected, found = sae.library.decode(z), sae.decode(z, Context())
    if is_finite(expected) and not torch.allclose(expected, found, rtol=1e-3, atol=1e-3):
        raise UserError(f"{sae.path}: its decoder is not linear in the latents; this experiment needs one that is")
