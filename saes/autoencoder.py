"""One sparse autoencoder: encode and decode, with its publisher's conventions as settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from imports import torch


@dataclass(frozen=True)
class Context:
    """What encode took off a vector and decode puts back: decode gives y * scale + mean."""

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
    k: int | None = None  # TopK: how many pre-activations are kept
    decoder_norms: dict[str, float] | None = None  # of the rows of W_dec as they are stored: see `norm_summary`

    @property
    def n_latents(self) -> int:
        return self.W_enc.shape[1]

    @property
    def d_model(self) -> int:
        return self.W_enc.shape[0]

    def prepare(self, x: torch.Tensor) -> tuple[torch.Tensor, Context]:
        """x [..., d_model], the raw residual -> what the encoder reads, and what decode needs to undo it."""
        if not (self.centred or self.normalised):
            return x, Context()
        mean = x.mean(-1, keepdim=True)
        x = x - mean
        if not self.normalised:
            return x, Context(mean)
        std = x.std(-1, keepdim=True)  # unbiased; eps is outside of it here, and absent on the way back
        return x / (std + 1e-5), Context(mean, std)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, Context]:
        """x [..., d_model], the raw residual -> latents [..., n_latents], and the context for decode."""
        x, context = self.prepare(x)
        pre = (x - self.b_dec if self.subtract_b_dec else x) @ self.W_enc + self.b_enc
        if self.k is not None:  # the k largest pre-activations first, then ReLU
            top = pre.topk(self.k, dim=-1)
            pre = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
        return pre.relu(), context

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


def norm_summary(norms: torch.Tensor) -> dict[str, float]:
    """The spread of decoder norms [n_latents], as results record it: a family's own, or the wrong file's, shows."""
    return {
        name: round(float(getattr(norms, name)()), 6) if norms.numel() else 0.0 for name in ("min", "median", "max")
    }
