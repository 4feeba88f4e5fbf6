"""Apollo Research's file format, and the mirror of its runs in SAELens's layout."""

import re
from pathlib import Path

from common.errors import UserError
from common.files import read_config
from common.tensors import read_safetensors, read_torch
from imports import torch, yaml
from saes.autoencoder import SparseAutoencoder, norm_summary
from saes.family import KEYS, Family, first_keys, looks_like, require_keys, transposed
from saes.names import hook_point, layer_of_hook_point


class Apollo(Family):
    """End-to-end SAEs on the mean-centred residual, decoder columns normalised in the forward pass.

    Source: https://github.com/ApolloResearch/e2e_sae, e2e_sae/models/sparsifiers.py.

    A folder holds Apollo's own run (samples_N.pt) or, without one, the mirror of it in
    SAELens's layout (cfg.json, sae_weights.safetensors).
    """

    parts = ("encoder.0.weight", "encoder.0.bias", "decoder.weight", "decoder.bias")

    ratio = 60  # latents per dimension in all runs that are mirrored

    def read(self, path: Path, layer: int | None, raw_residual: bool) -> SparseAutoencoder:
        file = self.weights_file(path)
        if self.is_mirror(path):
            return self._read_mirror(file, layer, raw_residual)
        content = read_torch(file)
        hooks = {key[: -len(part) - 1] for part in self.parts for key in content if str(key).endswith("." + part)}
        at = {layer_of_hook_point(hook): hook for hook in hooks}
        if not hooks or None in at:
            found = at.get(None) or first_keys(content)
            raise UserError(
                f"{file} is not an apollo SAE: its keys ({found}) do not begin with a hook point such as "
                f"blocks-6-hook_resid_pre{looks_like(content, 'apollo')}"
            )
        if layer is None and len(at) > 1:
            raise UserError(f"{file} holds SAEs of the layers {sorted(at)}; say which with layer=")
        layer = next(iter(at)) if layer is None else layer
        if layer not in at:
            raise UserError(f"{file} holds an SAE of layer {min(at)}, not of layer {layer}; put the right file there")
        weights = {part: f"{at[layer]}.{part}" for part in self.parts}
        require_keys(content, tuple(weights.values()), "apollo", file)
        decoder = content[weights["decoder.weight"]]
        norms = None
        if decoder.is_floating_point() and decoder.layout == torch.strided and not decoder.is_meta:
            decoder = decoder.float().contiguous()
            lengths = decoder.norm(dim=0, keepdim=True)
            norms = norm_summary(lengths)
            if not raw_residual:
                decoder /= lengths.clamp_min(1e-12)  # in place: as torch's normalize, without a copy
        return SparseAutoencoder(
            *("apollo", layer, str(file)),
            W_enc=transposed(content[weights["encoder.0.weight"]]),
            b_enc=content[weights["encoder.0.bias"]],
            W_dec=transposed(decoder),
            b_dec=content[weights["decoder.bias"]],
            subtract_b_dec=False,
            centred=not raw_residual,
            decoder_norms=norms,
        )

    def weights_file(self, path: Path) -> Path:
        if not path.is_dir():
            return path
        steps = {int(m[1]): p for p in path.glob("samples_*.pt") if (m := re.fullmatch(r"samples_(\d+)\.pt", p.name))}
        mirror = path / "sae_weights.safetensors"
        if not steps and mirror.exists():
            return mirror
        if not steps:
            raise UserError(f"{path} has no samples_N.pt; ./setup.sh apollo downloads Apollo's run into it")
        config = path / "final_config.yaml"
        if config.exists() and not isinstance(read_config(config).get("saes"), dict):
            raise UserError(f"{config} has no section saes; download Apollo's run again")
        return steps[max(steps)]

    def is_mirror(self, path: Path) -> bool:
        """Whether an SAE is the copy in SAELens's layout, not Apollo's own file."""
        return path.is_dir() and self.weights_file(path).suffix == ".safetensors"

    def _read_mirror(self, file: Path, layer: int | None, raw_residual: bool) -> SparseAutoencoder:
        """The same SAE in SAELens's layout: W_dec [n_latents, d_model], its rows already of length 1.

        What a file leaves out of cfg.json is as SAELens's own loader takes it (SAELens 6,
        sae_lens/loading/pretrained_sae_loaders.py).  Raises UserError if the rows of W_dec
        are not of length 1, neither as stored nor with the norms stored beside them.
        """
        config = read_config(file.parent / "cfg.json")
        hook = str(config.get("hook_name") or config.get("hook_point") or "no hook point")
        told = layer_of_hook_point(hook)
        if told is None or layer not in (None, told):
            raise UserError(
                f"{file.parent} is an SAE at {hook}, not of layer {layer if layer is not None else 'L'}; put the right "
                "folder there"
            )
        plain = {"architecture": "standard", "activation_fn": "relu", "activation_fn_str": "relu"}
        for key, value in (plain | {"normalize_activations": "none"}).items():
            if config.get(key) not in (None, False, value):
                raise UserError(f"{file.parent}/cfg.json says {key} {config[key]!r}; an apollo SAE has {value!r}")
        if raw_residual:
            raise UserError(
                f"{file} is the mirror, which does not have the decoder as Apollo stored it; leave out --raw-residual, "
                "or get Apollo's run with ./setup.sh apollo"
            )
        content = read_safetensors(file)
        require_keys(content, KEYS["bloom"], "apollo", file)
        n_latents, width = content["b_enc"].numel(), content["b_dec"].numel()
        if n_latents != self.ratio * width:  # Bloom's SAEs differ in nothing else
            raise UserError(
                f"{file} has {n_latents} latents for vectors of width {width}, Apollo's have {self.ratio * width}; "
                "it is another family's, put the right folder there"
            )
        return SparseAutoencoder(
            *("apollo", told, str(file)),
            **{key: content[key] for key in ("W_enc", "b_enc", "b_dec")},
            W_dec=_unit_rows(content, file),
            subtract_b_dec=bool(config.get("apply_b_dec_to_input", True)),
            centred=True,
        )

    def write(self, path: Path, sae: SparseAutoencoder, n_layers: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        hook = hook_point(sae.layer, n_layers)
        tensors = (sae.W_enc.T.contiguous(), sae.b_enc, sae.W_dec.T.contiguous(), sae.b_dec)
        content = {f"{hook.replace('.', '-')}.{part}": t for part, t in zip(self.parts, tensors, strict=True)}
        torch.save(content, path / "samples_400000.pt")
        settings = {"saes": {"sae_positions": [hook], "dict_size_to_input_ratio": sae.n_latents / sae.d_model}}
        (path / "final_config.yaml").write_text(yaml.safe_dump(settings))


def _unit_rows(content: dict, file: Path, margin: float = 1e-3) -> torch.Tensor:
    """W_dec [n_latents, d_model] with rows of length 1, by the norms stored beside it if there are any.

    scaling_factor: SAELens's factor on each latent before decoding.  decoder_norm: what
    the rows still have to be divided by.
    """
    decoder = content["W_dec"]
    if decoder.ndim != 2 or not decoder.is_floating_point():
        return decoder  # refused in load_sae
    decoder = decoder.float()
    for key, power in (("scaling_factor", 1), ("finetuning_scaling_factor", 1), ("decoder_norm", -1)):
        norms = content.get(key)
        if norms is None:
            continue
        if norms.shape != decoder.shape[:1]:
            raise UserError(f"{file}: {key} has shape {list(norms.shape)}, W_dec {list(decoder.shape)}; get it anew")
        decoder = decoder * norms.float().pow(power)[:, None]
    lengths = decoder.norm(dim=1)
    if not torch.all((lengths - 1).abs() <= margin):  # NaN too
        raise UserError(
            f"{file}: the decoder's vectors have lengths from {lengths.min():.3g} to {lengths.max():.3g}, not 1, and "
            "no norms beside them that make it 1; get Apollo's own run with ./setup.sh apollo"
        )
    return decoder
