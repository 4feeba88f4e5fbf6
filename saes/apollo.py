"""Apollo Research's file format, and the mirror of its runs in SAELens's layout."""

import re
from pathlib import Path

from common.errors import UserError
from common.files import read_config
from common.tensors import read_safetensors, read_torch
from imports import torch, yaml
from saes.autoencoder import SparseAutoencoder
from saes.family import KEYS, Family, has_instead, hooks_of, require_keys, shown, transposed
from saes.names import hook_point, layer_of_hook_point

PARTS = ("encoder.0.weight", "encoder.0.bias", "decoder.weight", "decoder.bias")
RATIO = 60  # latents per dimension in all runs that are mirrored
OWN_RUN = "download Apollo's own run with ./setup.sh apollo"


class Apollo(Family):
    """End-to-end SAEs on the mean-centred residual, decoder columns normalised in the forward pass.

    Source: https://github.com/ApolloResearch/e2e_sae, e2e_sae/models/sparsifiers.py.

    A folder holds Apollo's own run (samples_N.pt) or, without one, the mirror of it in
    SAELens's layout (cfg.json, sae_weights.safetensors).
    """

    def read(self, path: Path, layer: int | None, raw_residual: bool) -> SparseAutoencoder:
        file = self.weights_file(path)
        if self.is_mirror(path):
            return self._read_mirror(file, raw_residual)
        content = read_torch(file)
        hooks = hooks_of(content, file)
        if not hooks:
            raise UserError(
                f"{file} is not an apollo SAE: its keys do not begin with a hook point such as "
                f"blocks-6-hook_resid_pre{has_instead(content, 'apollo', file)}"
            )
        if layer is None and len(hooks) > 1:
            raise UserError(f"{file} holds SAEs of the layers {sorted(hooks)}; say which with layer=")
        layer = layer if layer in hooks else min(hooks)  # which load_sae compares with the one that is wanted
        names = tuple(f"{hooks[layer]}.{part}" for part in PARTS)
        require_keys(content, names, "apollo", file)
        W_enc, b_enc, W_dec, b_dec = (content[name] for name in names)
        return SparseAutoencoder(
            *("apollo", layer, str(file), transposed(W_enc), b_enc, transposed(W_dec), b_dec),
            subtract_b_dec=False,
            centred=not raw_residual,
            unit_decoder=not raw_residual,
        )

    def weights_file(self, path: Path) -> Path:
        if not path.is_dir():
            return path
        steps = {int(m[1]): p for p in path.glob("samples_*.pt") if (m := re.fullmatch(r"samples_(\d+)\.pt", p.name))}
        mirror = path / "sae_weights.safetensors"
        if not steps and mirror.exists():
            return mirror
        if not steps:
            raise UserError(f"{path} has no samples_N.pt; {OWN_RUN}")
        config = path / "final_config.yaml"
        if config.exists() and not isinstance(read_config(config).get("saes"), dict):
            raise UserError(f"{config} has no section saes; download Apollo's run again")
        return steps[max(steps)]

    def is_mirror(self, path: Path) -> bool:
        """Whether an SAE is the copy in SAELens's layout, not Apollo's own file."""
        return path.is_dir() and self.weights_file(path).suffix == ".safetensors"

    def _read_mirror(self, file: Path, raw_residual: bool) -> SparseAutoencoder:
        """Read the mirror: SAELens's layout, the rows of W_dec [n_latents, d_model] already of length 1.

        What a file leaves out of cfg.json is as SAELens's own loader takes it (SAELens 6,
        sae_lens/loading/pretrained_sae_loaders.py).  Raises UserError if the rows of W_dec
        are not of length 1, neither as stored nor with the norms stored beside them.
        """
        about = file.parent / "cfg.json"
        config = read_config(about)
        hook = str(config.get("hook_name") or config.get("hook_point") or "no hook point")
        layer = layer_of_hook_point(hook, about)
        if layer is None:
            raise UserError(f"{file.parent} is an SAE at {shown(hook)}, which is no layer; put the right folder there")
        plain = {"architecture": "standard", "activation_fn": "relu", "activation_fn_str": "relu"}
        for key, value in (plain | {"normalize_activations": "none"}).items():
            if config.get(key) not in (None, False, value):
                raise UserError(f"{about} says {key} {shown(config[key])}; an apollo SAE has {value!r}")
        if raw_residual:
            raise UserError(
                f"{file} is the mirror, without the decoder as stored; leave out --raw-residual, or {OWN_RUN}"
            )
        content = read_safetensors(file)
        require_keys(content, KEYS["bloom"], "apollo", file)
        n, d = content["b_enc"].numel(), content["b_dec"].numel()
        if n != RATIO * d:  # Bloom's SAEs differ in nothing else
            raise UserError(
                f"{file} has {n} latents for vectors of width {d}, Apollo's have {RATIO * d}; it is another family's, "
                "put the right folder there"
            )
        return SparseAutoencoder(
            *("apollo", layer, str(file)),
            **{key: content[key] for key in ("W_enc", "b_enc", "b_dec")},
            W_dec=_unit_rows(content, file),
            subtract_b_dec=bool(config.get("apply_b_dec_to_input", True)),
            centred=True,
        )

    def write(self, path: Path, sae: SparseAutoencoder, n_layers: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        hook = hook_point(sae.layer, n_layers)
        tensors = (sae.W_enc.T.contiguous(), sae.b_enc, sae.W_dec.T.contiguous(), sae.b_dec)
        content = {f"{hook.replace('.', '-')}.{part}": t for part, t in zip(PARTS, tensors, strict=True)}
        torch.save(content, path / "samples_400000.pt")
        settings = {"saes": {"sae_positions": [hook], "dict_size_to_input_ratio": sae.n_latents / sae.d_model}}
        (path / "final_config.yaml").write_text(yaml.safe_dump(settings))


def _unit_rows(content: dict, file: Path, margin: float = 1e-3) -> torch.Tensor:
    """Return W_dec [n_latents, d_model] with rows of length 1, by the norms stored beside it if there are any.

    scaling_factor: SAELens's factor on each latent before decoding.  decoder_norm: what
    the rows still have to be divided by.
    """
    decoder = content["W_dec"].float()
    for key, power in (("scaling_factor", 1), ("finetuning_scaling_factor", 1), ("decoder_norm", -1)):
        if key in content:
            if content[key].shape != decoder.shape[:1]:
                shapes = f"{key} has shape {list(content[key].shape)}, W_dec {list(decoder.shape)}"
                raise UserError(f"{file}: {shapes}; get it anew")
            decoder = (decoder.T * content[key].float().pow(power)).T
    lengths = decoder.norm(dim=-1)
    if not torch.all((lengths - 1).abs() <= margin):  # NaN too
        raise UserError(
            f"{file}: the decoder's vectors have lengths from {lengths.min():.3g} to {lengths.max():.3g}, not 1, and "
            f"no norms beside them make it 1; {OWN_RUN}"
        )
    return decoder
