"""One sparse autoencoder: encode and decode, with its publisher's conventions as settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from imports import torch


@dataclass(frozen=True)
class Context:
    """What encode removed from a vector and decode restores: decode gives y * scale + mean."""

    mean: torch.Tensor | None = None  # [..., 1]
    scale: torch.Tensor | None = None  # [..., 1]

    def rows(self, index) -> Context:
        return Context(*(None if t is None else t[index] for t in (self.mean, self.scale)))

    def restore(self, y: torch.Tensor) -> torch.Tensor:
        """y [..., d_model], what a decoder gives -> the raw residual's space."""
        if self.scale is not None:
            y = y * self.scale
        return y if self.mean is None else y + self.mean


@dataclass
class SparseAutoencoder:
    """An SAE with its publisher's conventions: z = act((x' - bias?) W_enc + b_enc), x_hat = z W_dec + b_dec."""

    family: str
    layer: int | None  # L, where the file or its name tells
    path: str
    W_enc: torch.Tensor = field(repr=False)  # [d_model, n_latents]
    b_enc: torch.Tensor = field(repr=False)  # [n_latents]
    W_dec: torch.Tensor = field(repr=False)  # [n_latents, d_model]
    b_dec: torch.Tensor = field(repr=False)  # [d_model]
    subtract_b_dec: bool  # before encoding
    centred: bool = False  # reads x - mean(x)
    normalised: bool = False  # reads (x - mean(x)) / (std(x) + 1e-5)
    rescaled: bool = False  # reads x (or x - mean(x)) at the length sqrt(d_model)
    unit_decoder: bool = False  # decodes with the rows of W_dec at length 1
    k: int | None = None  # TopK: how many pre-activations are kept
    decoder_norms: dict[str, float] = field(default_factory=dict)  # of the rows of W_dec as stored: min, median, max

    @property
    def n_latents(self) -> int:
        return self.W_enc.shape[1]

    @property
    def d_model(self) -> int:
        return self.W_enc.shape[0]

    def prepare(self, x: torch.Tensor) -> tuple[torch.Tensor, Context]:
        """Centre and scale x [..., d_model], the raw residual, for the encoder; returns it and what undoes that."""
        mean = scale = None
        if self.centred or self.normalised:
            mean = x.mean(-1, keepdim=True)
            x = x - mean
        if self.normalised:
            scale = x.std(-1, keepdim=True)  # unbiased
            x = x / (scale + 1e-5)  # eps is outside of it here, and absent on the way back
        elif self.rescaled:
            scale = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
            x = x / scale
        return x, Context(mean, scale)

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        """Compute latents [..., n_latents] of a prepared x [..., d_model]."""
        pre = (x - self.b_dec if self.subtract_b_dec else x) @ self.W_enc + self.b_enc
        if self.k is not None:  # the k largest pre-activations first, then ReLU
            top = pre.topk(self.k, dim=-1)
            pre = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
        return pre.relu()

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, Context]:
        """x [..., d_model], the raw residual -> latents [..., n_latents], and the context for decode."""
        x, context = self.prepare(x)
        return self.activate(x), context

    def decode(self, latents: torch.Tensor, context: Context) -> torch.Tensor:
        """latents [..., n_latents] -> x_hat [..., d_model] in the raw residual's space.

        context: that of the vector which the result replaces.
        """
        return self.finish(latents @ self.W_dec, context)

    def finish(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        """Add decode's bias to latents @ W_dec and return to the raw residual's space."""
        return context.restore(x + self.b_dec)

    def to(self, device: str) -> SparseAutoencoder:
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def note_decoder_norms(self) -> torch.Tensor:
        """Set `decoder_norms` from the rows of W_dec; returns their norms [n_latents]."""
        norms = self.W_dec.norm(dim=1)
        measures = (norms.min, norms.median, norms.max)
        self.decoder_norms = {m.__name__: round(float(m()), 6) if norms.numel() else 0.0 for m in measures}
        return norms
