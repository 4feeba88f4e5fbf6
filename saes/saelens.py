"""A user's own SAE, read and computed by SAELens's library, which is needed for these methods only."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

from common.errors import UserError
from common.files import file_digest
from common.tensors import is_finite, read_safetensors
from imports import torch
from saes.autoencoder import Context, norm_summary
from saes.source import CONFIG, WEIGHTS, Source, download, find


class SaeLens:
    """The family of one ``sae:`` method; the other families' counterpart (family.py)."""

    def __init__(self, name: str):
        self.name = name

    def weights_file(self, path: Path) -> Path:
        source = find(self.name)
        if source.hub:
            repository, folder = source.hub
            return download(repository, f"{folder}/{WEIGHTS}".lstrip("/"))
        if not (path / WEIGHTS).is_file():
            raise UserError(f"{path / WEIGHTS} is missing; name a folder that SAELens's save_model wrote")
        return path / WEIGHTS

    def digest(self, path: Path) -> str:
        """Of the weights, and of the settings that say how they are to be read."""
        source = find(self.name)
        settings = json.dumps([source.config, source.scaling], sort_keys=True).encode()
        return f"{file_digest(self.weights_file(path))}-{hashlib.sha256(settings).hexdigest()[:16]}"

    def read(self, path: Path, layer: int | None, raw_residual: bool) -> LibrarySae:
        """Raises UserError for whatever the library cannot make an SAE of."""
        source = find(self.name)
        if layer not in (None, source.layer):
            raise UserError(f"{self.name} is an SAE of layer {source.layer}, not of layer {layer}")
        file = self.weights_file(path)
        tensors = read_safetensors(file)
        for name, tensor in tensors.items():
            if not tensor.is_floating_point() or not is_finite(tensor):
                raise UserError(f"{file}: {name} holds NaN, infinite or no real numbers; write or download it again")
        scaling = tensors.pop("scaling_factor", None)
        if scaling is not None and not torch.all(scaling == 1):
            raise UserError(f"{file} has a scaling_factor other than 1, which SAELens 6 no longer knows; fold it in")
        return LibrarySae(source, file, tensors, source.centred and not raw_residual)


class LibrarySae:
    """An SAE whose computation is SAELens's, with the interface of `autoencoder.SparseAutoencoder`.

    The library keeps a vector's norm or statistics from encode to decode in the object; here they
    are in the Context, since what is decoded may replace another vector than was encoded.
    """

    def __init__(self, source: Source, file: Path, tensors: dict[str, torch.Tensor], centred: bool):
        self.family = self.name = source.name
        self.path = str(file)
        self.layer = source.layer
        self.centred = centred
        self.normalisation = source.normalisation
        self.normalised = self.normalisation == "layer_norm"
        if "W_dec" in tensors and tensors["W_dec"].ndim == 2:
            self.decoder_norms = norm_summary(tensors["W_dec"].float().norm(dim=1))
        self.library = self._built(source, tensors).requires_grad_(False)
        if source.scaling is not None and self.normalisation == "expected_average_only_in":
            self.library.fold_activation_norm_scaling_factor(source.scaling)
        self.k = getattr(self.library.cfg, "k", None)
        self.n_latents, self.d_model = self.library.W_dec.shape
        if self.k is not None and not (isinstance(self.k, int) and 1 <= self.k <= self.n_latents):
            raise UserError(f"{file}: k = {self.k!r}; k must be a number from 1 to its latents, {self.n_latents}")
        if getattr(self.library.cfg, "rescale_acts_by_decoder_norm", False):
            self.library.fold_W_dec_norm()  # then latents @ W_dec is all there is to decoding
        self.W_dec, self.b_dec = self.library.W_dec, self.library.b_dec  # [n_latents, d_model], [d_model]
        self._normalise = self.library.run_time_activation_norm_fn_in
        self.library.run_time_activation_norm_fn_in = self.library.run_time_activation_norm_fn_out = _identity
        self._require_linear_decoder()

    def _built(self, source: Source, tensors: dict[str, torch.Tensor]):
        from imports import sae_lens

        def converter(*_, **__):  # in place of the library's own reading of files
            return {**source.config, "device": "cpu", "dtype": "float32"}, {k: t.float() for k, t in tensors.items()}

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the model should be loaded as the SAE's was: done here
                return sae_lens.SAE.load_from_disk(source.folder, device="cpu", dtype="float32", converter=converter)
        except Exception as error:  # noqa: BLE001 - it raises whatever the file's content happens to hit
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"SAELens cannot make an SAE of {self.path} and its {CONFIG} ({type(error).__name__}: {reason}); "
                "write or download it again"
            ) from None

    def _require_linear_decoder(self) -> None:
        """Patches mix latents and decode them by W_dec alone: see that the library does as much."""
        z = torch.rand(2, self.n_latents, generator=torch.Generator().manual_seed(0))
        expected, found = self.library.decode(z), z @ self.W_dec + self.b_dec
        if expected.shape != found.shape or not torch.allclose(expected, found, rtol=1e-3, atol=1e-3):
            raise UserError(f"{self.path}: its decoder is not linear in the latents; this experiment needs one that is")

    def prepare(self, x: torch.Tensor) -> tuple[torch.Tensor, Context]:
        """x [..., d_model], the raw residual -> what the encoder reads, and what decode needs to undo it."""
        mean = scale = None
        if self.centred:
            mean = x.mean(-1, keepdim=True)
            x = x - mean
        x = self._normalise(x)
        if self.normalisation == "constant_norm_rescale":
            scale = 1 / self.library.x_norm_coeff
        elif self.normalisation == "layer_norm":
            mean = self.library.ln_mu if mean is None else self.library.ln_mu + mean
            scale = self.library.ln_std
        return x, Context(mean, scale)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, Context]:
        """x [..., d_model], the raw residual -> latents [..., n_latents], and the context for decode."""
        x, context = self.prepare(x)
        return self.library.encode(x), context

    def decode(self, latents: torch.Tensor, context: Context) -> torch.Tensor:
        """latents [..., n_latents] -> x_hat [..., d_model] in the raw residual's space."""
        return context.restore(self.library.decode(latents))

    def finish(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        """Add decode's bias to latents @ W_dec and return to the raw residual's space."""
        return context.restore(x + self.b_dec)

    def to(self, device: str) -> LibrarySae:
        self.library.to(device)
        return self


def _identity(x: torch.Tensor) -> torch.Tensor:
    return x
