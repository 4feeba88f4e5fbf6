"""SAEs in SAELens's own format, read through its library: the methods ``sae:FOLDER`` and ``sae:HUB_ID``.

    --methods sae:runs/mine                               a folder with cfg.json and sae_weights.safetensors
    --methods sae:owner/repo/folder/in/repo               the same on the Hugging Face hub
    --methods sae:gpt2-small-res-jb/blocks.8.hook_resid_pre   by the names of SAELens's own list

cfg.json says what the SAE reads: its hook point is the layer, and the kwargs with which its
model was loaded say whether the residual was mean-centred.  Encode, decode and
normalisation are the library's; it is needed for these methods only.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from autoencoder import Context, norm_summary
from files import file_digest, read_config, read_safetensors
from imports import UserError, huggingface_hub, require, sae_lens, sae_lens_directory, torch

PREFIX = "sae:"
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"  # sae_lens/constants.py

# Encoders that look at one vector at a time, with a decoder that is linear in the latents. Not among them:
# matching_pursuit (iterates), temporal (reads other positions), transcoders (write elsewhere than they read).
ARCHITECTURES = ("standard", "topk", "jumprelu", "gated", "abstopk")
NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")

# What TransformerLens may have done to the model's weights, or with the model. Of these only centring changes
# the residual stream (HookedTransformer.from_pretrained): it takes each vector's mean off, as every writer is centred.
CENTRES = "center_writing_weights"
HARMLESS = {
    *("fold_ln", "center_unembed", "fold_value_biases", "refactor_factored_attn_matrices", "dtype", "torch_dtype"),
    *("device", "n_devices", "move_to_device", "default_prepend_bos", "default_padding_side", "local_files_only"),
    *("n_ctx", "trust_remote_code", "cache_dir", "token", "low_cpu_mem_usage", "attn_implementation"),
}


def is_own(name: str) -> bool:
    """Whether a method's name is that of a user's own SAE."""
    return name.startswith(PREFIX)


def normalised(name: str) -> str:
    """One name for sae:x and sae:x/.  Raises UserError if it names nothing."""
    what = name.removeprefix(PREFIX)
    if not what.strip("/ ") and not what.startswith("/"):
        raise UserError(f"{name!r} names no SAE; give a folder or a hub id, as in {PREFIX}runs/mine")
    return PREFIX + (what.rstrip("/") or "/")


# ---------------------------------------------------------------- where it is, and what it reads


@dataclass(frozen=True)
class Source:
    """One SAE's place and settings; its weights need not be there yet."""

    name: str
    folder: Path
    config: dict  # cfg.json, with what SAELens's list adds
    layer: int  # L, the block whose output it reads
    centred: bool
    model: str | None  # which it was trained on, where it tells
    hub: tuple[str, str] | None = None  # (repository, folder in it)
    scaling: float | None = None  # of the input, where SAELens's list has one

    @property
    def normalisation(self) -> str:
        """Of the input, by SAELens's name; older files say true or false."""
        value = self.config.get("normalize_activations") or "none"
        return "expected_average_only_in" if value is True else value

    def remarks(self) -> list[str]:
        """What a user should know before trusting the numbers."""
        found = []
        if _settings(self.config).get("model_from_pretrained_kwargs") is None:
            found.append(f"{CONFIG} does not say whether its model was centred; it gets the raw residual")
        if self.normalisation == "expected_average_only_in" and self.scaling is None:
            found.append("its inputs were scaled in training and the factor is not in the file; they are not scaled")
        return [f"{self.name}: {line} (./saes.py check compares)" for line in found]


def find(name: str) -> Source:
    """Read where a ``sae:`` method's SAE is and what its cfg.json says, fetching that from the hub if need be.

    Raises UserError if there is none, or if it is of a kind that this experiment cannot use.
    """
    what = normalised(name).removeprefix(PREFIX)
    path = Path(what).expanduser()
    if os.path.isdir(path):  # unlike Path's own it takes a name of any length
        if not (path / CONFIG).is_file():
            raise UserError(f"{path} holds no {CONFIG}; name a folder that SAELens's save_model wrote")
        require(sae_lens)
        return _described(name, path, {}, None, None)
    if os.path.exists(path) or what.startswith((".", "/", "~")) or "/" not in what:
        raise UserError(f"{name}: {path} is not a folder; name one that SAELens's save_model wrote, or a hub id")
    require(sae_lens)
    repository, folder, overrides, scaling = _listed(what)
    file = _download(repository, f"{folder}/{CONFIG}".lstrip("/"))
    return _described(name, file.parent, overrides, (repository, folder), scaling)


@functools.cache
def _listed(what: str) -> tuple[str, str, dict, float | None]:
    """(repository, folder, settings to add, scaling factor) of a hub id, or of SAELens's RELEASE/ID.

    A hub id that is in SAELens's list gets what the list knows of it: some files do not
    say themselves that their model was centred.
    """
    directory = sae_lens_directory.get_pretrained_saes_directory()
    release, _, sae_id = what.partition("/")
    if release in directory:
        if sae_id not in directory[release].saes_map:
            some = ", ".join(list(directory[release].saes_map)[:3])
            raise UserError(f"SAELens's list has no {sae_id} in {release}; it has {some}, ..")
    else:
        words = what.split("/")
        repository, folder = "/".join(words[:2]), "/".join(words[2:])
        found = [
            (key, sae_id)
            for key, about in directory.items()
            if about.repo_id == repository
            for sae_id, path in about.saes_map.items()
            if path == folder
        ]
        if not found:
            return repository, folder, {}, None
        release, sae_id = found[0]
    about = directory[release]
    if about.conversion_func not in (None, "sae_lens"):
        raise UserError(
            f"{what} is not in SAELens's own format ({about.conversion_func}); load it with SAELens, save it with "
            "save_model, and name that folder"
        )
    scaling = sae_lens_directory.get_norm_scaling_factor(release, sae_id)
    return about.repo_id, about.saes_map[sae_id], dict(about.config_overrides or {}), scaling


@functools.cache
def _download(repository: str, file: str) -> Path:
    """One file of a repository on the hub, in the local cache."""
    try:
        return Path(huggingface_hub.hf_hub_download(repository, file))
    except Exception as error:  # noqa: BLE001 - it raises many kinds, none of which says what to do
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"cannot get {file} of {repository} from the Hugging Face hub ({type(error).__name__}: {reason}); check "
            f"the name, which is {PREFIX}OWNER/REPOSITORY/FOLDER, or name a local folder"
        ) from None


def _settings(config: dict) -> dict:
    """Where the file is from SAELens 6 or later, what concerns the model is under `metadata`; else beside the rest."""
    metadata = config.get("metadata")
    return {**config, **(metadata if isinstance(metadata, dict) else {})}


def _described(name: str, folder: Path, overrides: dict, hub, scaling: float | None) -> Source:
    config = read_config(folder / CONFIG)
    if overrides:
        key = "metadata" if isinstance(config.get("metadata"), dict) else None
        config = {**config, key: {**config[key], **overrides}} if key else {**config, **overrides}
    about = _settings(config)

    def refuse(text: str):
        raise UserError(f"{name}: {folder / CONFIG} says {text}")

    hook = str(about.get("hook_name") or about.get("hook_point"))
    match = re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", hook)
    if not match:
        refuse(f"it reads {hook}; this experiment patches the residual stream, blocks.N.hook_resid_pre or _post")
    layer = int(match[1]) - (match[2] == "pre")
    if layer < 0:
        refuse(f"it reads {hook}, the embeddings before block 0; name an SAE of a block's output")
    writes = about.get("hook_name_out")
    if writes not in (None, hook):
        refuse(f"it reads {hook} and writes {writes}; a transcoder cannot replace what it read")
    if about.get("hook_head_index") is not None or about.get("hook_point_head_index") is not None:
        refuse("it reads one attention head; this experiment patches the whole residual stream")
    if about.get("reshape_activations") not in (None, "none"):
        refuse(f"reshape_activations is {about['reshape_activations']}; this experiment patches plain vectors")
    architecture = about.get("architecture", "standard")
    if architecture not in ARCHITECTURES:
        refuse(f"its architecture is {architecture}; known are {', '.join(ARCHITECTURES)}")
    activation = about.get("activation_fn") or about.get("activation_fn_str") or "relu"
    if activation not in ("relu", "topk"):
        refuse(f"its activation is {activation}; known are relu and topk")
    kwargs = about.get("model_from_pretrained_kwargs")
    if not isinstance(kwargs, dict | None):
        refuse(f"model_from_pretrained_kwargs is {kwargs!r}; it should be a table of settings")
    strange = [key for key, value in (kwargs or {}).items() if key not in {CENTRES, *HARMLESS} and value is not None]
    if strange:
        refuse(
            f"its model was loaded with {strange[0]}={kwargs[strange[0]]!r}; what that does to the residual is unknown"
        )
    centred = bool((kwargs or {}).get(CENTRES))
    source = Source(name, folder, config, layer, centred, about.get("model_name"), hub, scaling)
    if source.normalisation not in NORMALISATIONS:
        refuse(
            f"normalize_activations is {source.normalisation}, which SAELens applies only once it is folded into the "
            "weights; fold and save it again"
        )
    return source


def is_trained_on(source_model: str | None, model: str) -> bool:
    """Whether an SAE's model, by the name in its file, can be the one the user asked for.

    A local folder's name tells nothing, so there any GPT-2's SAE is let through and its width decides.
    """

    def short(name: str) -> str:
        name = name.lower().removeprefix("openai-community/").removeprefix("gpt2/")
        return {"gpt2-small": "gpt2"}.get(name, name)

    if source_model is None:
        return True
    theirs, ours = short(str(source_model)), short(model)
    if os.path.isdir(model) or model == "toy":
        return theirs.startswith("gpt2") or theirs in (ours, os.path.basename(os.path.normpath(model)).lower())
    return theirs == ours


# ---------------------------------------------------------------- the family


class SaeLens:
    """The family of one ``sae:`` method; the other families' counterpart (saes.py)."""

    def __init__(self, name: str):
        self.name = name

    def locate(self, folder: Path, layer: int, n_layers: int) -> Path:
        """The SAE's own folder, wherever the others are kept; at another layer than its own there is none."""
        source = find(self.name)
        return source.folder if layer == source.layer else source.folder / f"no SAE of layer {layer}"

    def weights_file(self, path: Path) -> Path:
        source = find(self.name)
        if source.hub:
            repository, folder = source.hub
            return _download(repository, f"{folder}/{WEIGHTS}".lstrip("/"))
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
        self._normalise = self.library.run_time_activation_norm_fn_in
        self.library.run_time_activation_norm_fn_in = self.library.run_time_activation_norm_fn_out = _identity
        self._require_linear_decoder()

    def _built(self, source: Source, tensors: dict[str, torch.Tensor]):
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

    @property
    def W_dec(self) -> torch.Tensor:
        """[n_latents, d_model]"""
        return self.library.W_dec

    @property
    def b_dec(self) -> torch.Tensor:
        """[d_model]"""
        return self.library.b_dec

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


def is_finite(tensor: torch.Tensor) -> bool:
    """Without a second tensor of its size."""
    return all(bool(torch.isfinite(part).all()) for part in tensor.split(4096))
