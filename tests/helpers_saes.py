"""The published SAEs, read from their files without the project's code."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file


@dataclass
class Latents:
    """Latents of vectors, and how to get back: decode(latents, which of the vectors they replace).

    above: by how much each is above the threshold at which it fires.
    """

    z: torch.Tensor
    decode: Callable
    above: torch.Tensor


def openai_latents(root: Path, x: torch.Tensor, layer: int, raw: bool) -> Latents:
    file = root / f"{layer}.pt"
    w = torch.load(file, weights_only=True)
    mean = x.mean(1, keepdim=True)
    std = ((x - mean).pow(2).sum(1, keepdim=True) / (x.shape[1] - 1)).sqrt()
    pre = ((x - mean) / (std + 1e-5) - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"]
    assert w["activation"] == "TopK"
    lowest_kept = pre.sort(dim=1, descending=True).values[:, w["activation_state_dict"]["k"] - 1, None]
    kept = pre >= lowest_kept
    z = torch.where(kept & (pre > 0), pre, torch.zeros(()))
    decode = lambda z, i: (z @ w["decoder.weight"].T + w["pre_bias"]) * std[i] + mean[i]  # noqa: E731
    return Latents(z, decode, pre.where(kept, torch.tensor(-1.0)))


def apollo_latents(root: Path, x: torch.Tensor, layer: int, raw: bool) -> Latents:
    (file,) = (root / f"layer{layer:02d}").glob("samples_*.pt")
    config = yaml.safe_load((file.parent / "final_config.yaml").read_text())
    hooks = f"blocks.{layer + 1}.hook_resid_pre", f"blocks.{layer}.hook_resid_post"  # of the last block
    assert config["saes"]["sae_positions"][0] in hooks
    w = {key.split(".", 1)[1]: value for key, value in torch.load(file, weights_only=True).items()}
    decoder = w["decoder.weight"]
    mean = torch.zeros(len(x), 1)
    if not raw:
        mean = x.mean(1, keepdim=True)
        decoder = decoder / decoder.pow(2).sum(0).sqrt()
    pre = (x - mean) @ w["encoder.0.weight"].T + w["encoder.0.bias"]
    return Latents(pre.clamp(min=0), lambda z, i: z @ decoder.T + w["decoder.bias"] + mean[i], pre)


def bloom_latents(root: Path, x: torch.Tensor, layer: int, raw: bool) -> Latents:
    folders = (root / f"blocks.{layer + 1}.hook_resid_pre", root / f"blocks.{layer}.hook_resid_post")
    w = load_file(next(folder for folder in folders if folder.exists()) / "sae_weights.safetensors")
    mean = torch.zeros(len(x), 1) if raw else x.mean(1, keepdim=True)
    pre = (x - mean - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    return Latents(pre.clamp(min=0), lambda z, i: z @ w["W_dec"] + w["b_dec"] + mean[i], pre)


READERS = {
    "openai": openai_latents,
    "apollo-e2e": apollo_latents,
    "apollo-e2e+ds": apollo_latents,
    "bloom": bloom_latents,
}
