"""The three published file formats: a class each, which finds, reads and writes one SAE.

`h[L]`, the residual after block L, is called ``blocks.{L+1}.hook_resid_pre`` or
``blocks.{L}.hook_resid_post`` by the publishers; here everything is indexed by L.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from autoencoder import SparseAutoencoder, norm_summary
from files import file_digest, read_config, read_safetensors, read_torch
from imports import UserError, safetensors_torch, torch, yaml


def hook_point(layer: int, n_layers: int) -> str:
    """TransformerLens's name of h[L]: the next block's input, or the last block's output."""
    return f"blocks.{layer + 1}.hook_resid_pre" if layer + 1 < n_layers else f"blocks.{layer}.hook_resid_post"


def layer_of_hook_point(name: str) -> int | None:
    """L of ``blocks.5.hook_resid_pre`` (dots or hyphens): 4; of a resid_post: its own number; else None."""
    match = re.search(r"blocks[.-](\d+)[.-]hook_resid_(pre|post)", name)
    return int(match[1]) - (match[2] == "pre") if match else None


# ---------------------------------------------------------------- families


class Family:
    """How one publisher keeps its SAEs: where, and in which tensors.

    Each has locate, weights_file, read and write.
    """

    def weights_file(self, path: Path) -> Path:
        """The file that holds an SAE's numbers.  Raises UserError if it is missing."""
        raise NotImplementedError

    def digest(self, path: Path) -> str:
        """A fingerprint of whatever decides what the SAE at a path computes."""
        return file_digest(self.weights_file(path))


class OpenAI(Family):
    """TopK SAEs on normalised residuals (v5); plain ReLU without normalisation in the older v1 and v4 files.

    Source: https://github.com/openai/sparse_autoencoder, sparse_autoencoder/model.py.
    """

    keys = ("pre_bias", "encoder.weight", "latent_bias", "decoder.weight")

    def locate(self, folder: Path, layer: int, n_layers: int) -> Path:
        return folder / f"{layer}.pt"

    def weights_file(self, path: Path) -> Path:
        return path

    def read(self, path: Path, layer: int | None, raw_residual: bool) -> SparseAutoencoder:
        content = read_torch(path)
        _require_keys(content, self.keys, "openai", path)
        is_topk = content.get("activation") == "TopK"
        if content.get("activation", "ReLU") not in ("TopK", "ReLU"):
            raise UserError(f"{path} has the activation {content['activation']!r}; known are TopK and ReLU")
        k = None
        if is_topk:
            state = content.get("activation_state_dict")
            k = state.get("k") if isinstance(state, dict) else None
            if not isinstance(k, int) or k < 1:
                raise UserError(f"{path} is a TopK SAE with k = {k!r}; k must be a number from 1 to its latents")
        told = int(path.stem) if path.stem.isdecimal() else None
        if None not in (layer, told) and told != layer:
            raise UserError(f"{path} is an SAE of layer {told} by its name, not of layer {layer}; name the right file")
        layer = told if layer is None else layer
        return SparseAutoencoder(
            *("openai", layer, str(path)),
            W_enc=_transposed(content["encoder.weight"]),
            b_enc=content["latent_bias"],
            W_dec=_transposed(content["decoder.weight"]),
            b_dec=content["pre_bias"],
            subtract_b_dec=True,
            normalised=is_topk,
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


class Apollo(Family):
    """End-to-end SAEs on the mean-centred residual, decoder columns normalised in the forward pass.

    Source: https://github.com/ApolloResearch/e2e_sae, e2e_sae/models/sparsifiers.py.

    A folder holds Apollo's own run (samples_N.pt) or, without one, the mirror of it in
    SAELens's layout (cfg.json, sae_weights.safetensors).
    """

    parts = ("encoder.0.weight", "encoder.0.bias", "decoder.weight", "decoder.bias")

    ratio = 60  # latents per dimension in all runs that are mirrored

    def locate(self, folder: Path, layer: int, n_layers: int) -> Path:
        return folder / f"layer{layer:02d}"

    def read(self, path: Path, layer: int | None, raw_residual: bool) -> SparseAutoencoder:
        file = self.weights_file(path)
        if is_mirror("apollo", path):
            return self._read_mirror(file, layer, raw_residual)
        content = read_torch(file)
        hooks = {key[: -len(part) - 1] for part in self.parts for key in content if str(key).endswith("." + part)}
        at = {layer_of_hook_point(hook): hook for hook in hooks}
        if not hooks or None in at:
            found = at.get(None) or _first_keys(content)
            raise UserError(
                f"{file} is not an apollo SAE: its keys ({found}) do not begin with a hook point such as "
                f"blocks-6-hook_resid_pre{_looks_like(content, 'apollo')}"
            )
        if layer is None and len(at) > 1:
            raise UserError(f"{file} holds SAEs of the layers {sorted(at)}; say which with layer=")
        layer = next(iter(at)) if layer is None else layer
        if layer not in at:
            raise UserError(f"{file} holds an SAE of layer {min(at)}, not of layer {layer}; put the right file there")
        weights = {part: f"{at[layer]}.{part}" for part in self.parts}
        _require_keys(content, tuple(weights.values()), "apollo", file)
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
            W_enc=_transposed(content[weights["encoder.0.weight"]]),
            b_enc=content[weights["encoder.0.bias"]],
            W_dec=_transposed(decoder),
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
        _require_keys(content, Bloom.keys, "apollo", file)
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


class Bloom(Family):
    """ReLU SAEs on the mean-centred residual, in SAELens's old layout.

    Source: https://huggingface.co/jbloom/GPT2-Small-SAEs-Reformatted and SAELens's
    pretrained_saes.yaml (model_from_pretrained_kwargs: center_writing_weights).
    """

    keys = ("W_enc", "b_enc", "W_dec", "b_dec")

    def locate(self, folder: Path, layer: int, n_layers: int) -> Path:
        return folder / hook_point(layer, n_layers)

    def weights_file(self, path: Path) -> Path:
        file = path / "sae_weights.safetensors" if path.is_dir() else path
        if not file.exists():
            raise UserError(f"{file} is missing; download the SAE's whole folder")
        return file

    def read(self, path: Path, layer: int | None, raw_residual: bool) -> SparseAutoencoder:
        file = self.weights_file(path)
        folder = file.parent
        content = read_safetensors(file)
        _require_keys(content, self.keys, "bloom", file)
        scaling = content.get("scaling_factor")
        if scaling is not None and not torch.all(scaling == 1):
            raise UserError(f"{file} has a scaling_factor other than 1, which this family never uses; get it anew")
        if (folder / "cfg.json").exists():
            config = read_config(folder / "cfg.json")
            told = layer_of_hook_point(str(config.get("hook_point") or config.get("hook_name") or folder.name))
            n_latents = content["b_enc"].numel()
            if config.get("d_sae", n_latents) != n_latents:
                raise UserError(
                    f"{file} has {n_latents} latents by the shape of b_enc, its cfg.json says d_sae = "
                    f"{config['d_sae']!r}; get both anew"
                )
        else:
            told = layer_of_hook_point(folder.name)
        if None not in (layer, told) and told != layer:
            raise UserError(f"{folder} holds an SAE of layer {told}, not of layer {layer}; put the right folder there")
        return SparseAutoencoder(
            *("bloom", told if layer is None else layer, str(file)),
            **{key: content[key] for key in self.keys},
            subtract_b_dec=True,
            centred=not raw_residual,
        )

    def write(self, path: Path, sae: SparseAutoencoder, n_layers: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        hook = hook_point(sae.layer, n_layers)
        layer = int(hook.split(".")[1])
        config = {"hook_point": hook, "hook_point_layer": layer, "d_in": sae.d_model, "d_sae": sae.n_latents}
        (path / "cfg.json").write_text(json.dumps(config, indent=1))
        tensors = {key: getattr(sae, key).contiguous() for key in self.keys}
        safetensors_torch.save_file(tensors, path / "sae_weights.safetensors")
        safetensors_torch.save_file({"sparsity": torch.zeros(sae.n_latents)}, path / "sparsity.safetensors")


FAMILIES = {"openai": OpenAI(), "apollo": Apollo(), "bloom": Bloom()}


# ---------------------------------------------------------------- what they share


def _transposed(weight: torch.Tensor) -> torch.Tensor:
    return weight.T if weight.ndim == 2 else weight  # other shapes are refused in load_sae


def is_mirror(family: str, path: Path) -> bool:
    """Whether an SAE is a copy in SAELens's layout, not its publisher's own file."""
    return family == "apollo" and path.is_dir() and FAMILIES[family].weights_file(path).suffix == ".safetensors"


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


def _first_keys(content: dict) -> str:
    return ", ".join(str(key) for key in list(content)[:3]) or "none"


def _looks_like(content: dict, asked: str) -> str:
    for name, family in FAMILIES.items():
        if name == asked:
            continue
        known = getattr(family, "keys", None)
        if (known and all(key in content for key in known)) or (
            name == "apollo" and any(layer_of_hook_point(str(key)) is not None for key in content)
        ):
            return f"; it looks like {name}'s"
    return ""


def _require_keys(content: dict, keys: tuple[str, ...], family: str, path: Path) -> None:
    missing = [key for key in keys if not isinstance(content.get(key), torch.Tensor)]
    if missing:
        raise UserError(
            f"{path} is not an {family} SAE: it has no tensor {missing[0]} (it has {_first_keys(content)})"
            f"{_looks_like(content, family)}; name the right file"
        )
