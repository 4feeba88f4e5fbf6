"""OpenAI's file format."""

from pathlib import Path

from common.errors import UserError
from common.tensors import read_torch
from imports import torch
from saes.autoencoder import SparseAutoencoder
from saes.family import KEYS, Family, require_keys, shown, transposed


class OpenAI(Family):
    """TopK SAEs on normalised residuals (v5); plain ReLU without normalisation in the older v1 and v4 files.

    Source: https://github.com/openai/sparse_autoencoder, sparse_autoencoder/model.py.
    """

    def weights_file(self, path: Path) -> Path:
        return path

    def read(self, path: Path, layer: int | None, raw_residual: bool) -> SparseAutoencoder:
        content = read_torch(path)
        require_keys(content, KEYS["openai"], "openai", path)
        activation, k = content.get("activation", "ReLU"), None
        if activation not in ("TopK", "ReLU"):
            raise UserError(f"{path} has the activation {shown(activation)}; known are TopK and ReLU")
        if activation == "TopK":
            state, n = content.get("activation_state_dict"), content["latent_bias"].numel()
            k = state.get("k") if isinstance(state, dict) else None
            if not (isinstance(k, int) and 1 <= k <= n):
                raise UserError(f"{path} is a TopK SAE with k = {shown(k)}; k must be from 1 to its latents, {n}")
        return SparseAutoencoder(
            *("openai", int(path.stem) if path.stem.isdecimal() else None, str(path)),
            W_enc=transposed(content["encoder.weight"]),
            b_enc=content["latent_bias"],
            W_dec=transposed(content["decoder.weight"]),
            b_dec=content["pre_bias"],
            subtract_b_dec=True,
            normalised=activation == "TopK",
            k=k,
        )

    def write(self, path: Path, sae: SparseAutoencoder, n_layers: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        n = sae.n_latents
        content = {
            "pre_bias": sae.b_dec,
            "encoder.weight": sae.W_enc.T.contiguous(),
            "latent_bias": sae.b_enc,
            "decoder.weight": sae.W_dec.T.contiguous(),
            "stats_last_nonzero": torch.zeros(n, dtype=torch.long),
            "latents_activation_frequency": torch.zeros(n),
            "latents_mean_square": torch.zeros(n),
            "activation": "TopK" if sae.k else "ReLU",
            "activation_state_dict": {"k": sae.k, "postact_fn": "ReLU"} if sae.k else {},
        }
        torch.save(content, path)
