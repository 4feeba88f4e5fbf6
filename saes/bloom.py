"""Joseph Bloom's file format: SAELens's old layout."""

import json
from pathlib import Path

from common.errors import UserError
from common.files import read_config
from common.tensors import read_safetensors
from imports import safetensors_torch, torch
from saes.autoencoder import SparseAutoencoder
from saes.family import KEYS, Family, require_keys, shown
from saes.names import hook_point, layer_of_hook_point


class Bloom(Family):
    """ReLU SAEs on the mean-centred residual, in SAELens's old layout.

    Source: https://huggingface.co/jbloom/GPT2-Small-SAEs-Reformatted and SAELens's
    pretrained_saes.yaml (model_from_pretrained_kwargs: center_writing_weights).
    """

    def weights_file(self, path: Path) -> Path:
        file = path / "sae_weights.safetensors" if path.is_dir() else path
        if not file.exists():
            raise UserError(f"{file} is missing; download the SAE's whole folder")
        return file

    def read(self, path: Path, layer: int | None, raw_residual: bool) -> SparseAutoencoder:
        file = self.weights_file(path)
        content = read_safetensors(file)
        require_keys(content, KEYS["bloom"], "bloom", file)
        scaling, n = content.get("scaling_factor"), content["b_enc"].numel()
        if scaling is not None and not torch.all(scaling == 1):
            raise UserError(f"{file} has a scaling_factor other than 1, which this family never uses; get it anew")
        about = file.parent / "cfg.json"
        config = read_config(about) if about.exists() else {}
        if config.get("d_sae", n) != n:
            raise UserError(
                f"{file} has {n} latents (b_enc), its cfg.json says d_sae = {shown(config['d_sae'])}; get both anew"
            )
        hook = str(config.get("hook_point") or config.get("hook_name") or file.parent.name)
        return SparseAutoencoder(
            *("bloom", layer_of_hook_point(hook, about), str(file)),
            **{key: content[key] for key in KEYS["bloom"]},
            subtract_b_dec=True,
            centred=not raw_residual,
        )

    def write(self, path: Path, sae: SparseAutoencoder, n_layers: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        hook = hook_point(sae.layer, n_layers)
        layer = int(hook.split(".")[1])
        config = {"hook_point": hook, "hook_point_layer": layer, "d_in": sae.d_model, "d_sae": sae.n_latents}
        (path / "cfg.json").write_text(json.dumps(config, indent=1))
        tensors = {key: getattr(sae, key).contiguous() for key in KEYS["bloom"]}
        safetensors_torch.save_file(tensors, path / "sae_weights.safetensors")
        safetensors_torch.save_file({"sparsity": torch.zeros(sae.n_latents)}, path / "sparsity.safetensors")
