"""Features that are an SAE's latents."""

from decoder.products import Product, form_for
from featurizers.base import BoundFeaturizer, Featurizer
from imports import torch
from saes.autoencoder import SparseAutoencoder

CHUNK = 64  # vectors encoded at once: all latents of all of them would be large


class Sae(Featurizer):
    """The latents of a frozen SAE.

    The decoded vector replaces x_base, reconstruction error and all, as in the
    original experiment; with error_term the error of x_base is added back.
    order: [n_latents] int64, the row of the decoder that each latent writes, if not its own.
    """

    def __init__(self, sae: SparseAutoencoder, error_term: bool = False, order: torch.Tensor | None = None):
        super().__init__(sae.n_latents)
        self.sae = sae
        W_dec = sae.W_dec.detach()  # a library's is a parameter, which torch would take for one of ours, to be trained
        self.W_dec = W_dec if order is None else W_dec[order.to(W_dec.device)]
        self.error_term = error_term

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple]:
        latents, context = self.sae.encode(x)
        error = x - self.sae.finish(latents @ self.W_dec, context) if self.error_term else None
        return latents, (context, error)

    def decode(self, features: torch.Tensor, context: tuple) -> torch.Tensor:
        context, error = context
        x_hat = self.sae.finish(features @ self.W_dec, context)
        return x_hat if error is None else x_hat + error

    def l0(self, x_RD: torch.Tensor) -> float:
        with torch.no_grad():
            counts = [(self.sae.encode(chunk)[0] != 0).sum(-1) for chunk in x_RD.split(CHUNK)]
        return round(torch.cat(counts).cpu().double().mean().item(), 3)

    def freeze(self, x_RD: torch.Tensor) -> BoundFeaturizer:
        """Keeps only the latents that fire on some vector of the table, and nothing of the SAE but their decoder rows.

        This is exact: a latent that never fires contributes nothing, its gradient
        is always 0, and Adam does not move from zero moments.
        """
        with torch.no_grad():
            alive, latents_RF = self._alive_latents(x_RD)
            _, context = self.sae.prepare(x_RD)
            matrix = form_for("fp32", x_RD.device.type)(self.W_dec[alive].contiguous())
            decode = Product(matrix, self.sae.b_dec.clone())
            errors = x_RD - context.restore(decode(latents_RF)) if self.error_term else None

        def patch(base, source, mask):  # refers to no SAE: the whole one can be let go
            f_base, f_source = latents_RF[base], latents_RF[source]
            x_hat = context.rows(base).restore(decode(f_base + mask * (f_source - f_base)))
            return x_hat if errors is None else x_hat + errors[base]

        return BoundFeaturizer(patch, alive, latents_RF)

    def _alive_latents(self, x_RD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Which latents fire on some vector [R, d_model], ascending, and their values [R, n_alive]."""
        found = []  # (latents, values) of each chunk: the latents that fire in it
        for chunk in x_RD.split(CHUNK):
            latents, _ = self.sae.encode(chunk)
            fires = (latents != 0).any(0).nonzero()[:, 0]
            found.append((fires, latents[:, fires]))
        alive = torch.cat([fires for fires, _ in found]).unique()
        latents_RF = x_RD.new_zeros(len(x_RD), len(alive))
        for rows, (fires, values) in zip(latents_RF.split(CHUNK), found, strict=True):
            rows[:, torch.searchsorted(alive, fires)] = values
        return alive, latents_RF
