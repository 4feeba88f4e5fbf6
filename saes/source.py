"""Where a user's own SAE is and what it reads, by SAELens's cfg.json: the methods ``sae:FOLDER`` and ``sae:HUB_ID``.

    --methods sae:runs/mine                               a folder with cfg.json and sae_weights.safetensors
    --methods sae:owner/repo/folder/in/repo               the same on the Hugging Face hub
    --methods sae:gpt2-small-res-jb/blocks.8.hook_resid_pre   by the names of SAELens's own list

cfg.json says what the SAE reads: its hook point is the layer, and the kwargs with which its
model was loaded say whether the residual was mean-centred.
"""

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.files import read_config
from imports import huggingface_hub, require
from saes.names import OWN, normalised

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"  # sae_lens/constants.py

# Encoders that look at one vector at a time, with a decoder that is linear in the latents. Not among them:
# matching_pursuit (iterates), temporal (reads other positions), transcoders (write elsewhere than they read).
ARCHITECTURES = ("standard", "topk", "jumprelu", "gated", "abstopk")
NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")

# What TransformerLens may have done to the model's weights, or with the model. Of these only centring changes
# the residual stream (HookedTransformer.from_pretrained): it takes each vector's mean off, as every writer is centred.
# That leaves the model's answers as they are only where its norms are LayerNorms; TransformerLens skips it elsewhere.
CENTRES = "center_writing_weights"
HARMLESS = {
    *("fold_ln", "center_unembed", "fold_value_biases", "refactor_factored_attn_matrices", "dtype", "torch_dtype"),
    *("device", "n_devices", "move_to_device", "default_prepend_bos", "default_padding_side", "local_files_only"),
    *("n_ctx", "trust_remote_code", "cache_dir", "token", "low_cpu_mem_usage", "attn_implementation"),
}


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
        return [f"{self.name}: {line} (eval_sae.py --check compares)" for line in found]


def find(name: str) -> Source:
    """Read where a ``sae:`` method's SAE is and what its cfg.json says, fetching that from the hub if need be.

    Raises UserError if there is none, or if it is of a kind that this experiment cannot use.
    """
    what = normalised(name).removeprefix(OWN)
    path = Path(what).expanduser()
    if os.path.isdir(path):  # unlike Path's own it takes a name of any length
        if not (path / CONFIG).is_file():
            raise UserError(f"{path} holds no {CONFIG}; name a folder that SAELens's save_model wrote")
        require("sae_lens")
        return _described(name, path, {}, None, None)
    if os.path.exists(path) or what.startswith((".", "/", "~")) or "/" not in what:
        raise UserError(f"{name}: {path} is not a folder; name one that SAELens's save_model wrote, or a hub id")
    require("sae_lens")
    repository, folder, overrides, scaling = _listed(what)
    file = download(repository, f"{folder}/{CONFIG}".lstrip("/"))
    return _described(name, file.parent, overrides, (repository, folder), scaling)


@functools.cache
def _listed(what: str) -> tuple[str, str, dict, float | None]:
    """(repository, folder, settings to add, scaling factor) of a hub id, or of SAELens's RELEASE/ID.

    A hub id that is in SAELens's list gets what the list knows of it: some files do not
    say themselves that their model was centred.
    """
    from imports import sae_lens_directory

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
def download(repository: str, file: str) -> Path:
    """One file of a repository on the hub, in the local cache."""
    try:
        return Path(huggingface_hub.hf_hub_download(repository, file))
    except Exception as error:  # noqa: BLE001 - it raises many kinds, none of which says what to do
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"cannot get {file} of {repository} from the Hugging Face hub ({type(error).__name__}: {reason}); check "
            f"the name, which is {OWN}OWNER/REPOSITORY/FOLDER, or name a local folder"
        ) from None


def _settings(config: dict) -> dict:
    """Where the file is from SAELens 6 or later, what concerns the model is under `metadata`; else beside the rest."""
    metadata = config.get("metadata")
    return {**config, **(metadata if isinstance(metadata, dict) else {})}


def _layer_read(hook: str) -> int | None:
    """L of a place in the residual stream, by TransformerLens's names or Hugging Face's; -1: before layer 0.

    blocks.5.hook_resid_pre and blocks.4.hook_out are the same place, and model.layers.4 is its layer in
    transformers, also under another family's name such as transformer.h.4.
    """
    match = re.fullmatch(r"blocks\.(\d+)\.hook_(resid_pre|resid_post|in|out)", hook)
    if match:
        return int(match[1]) - (match[2] in ("resid_pre", "in"))
    match = re.fullmatch(r"(?:[a-z]\w*\.)*(?:layers|h)\.(\d+)(?:\.(input|output))?", hook)
    return int(match[1]) - (match[2] == "input") if match else None


def _described(name: str, folder: Path, overrides: dict, hub, scaling: float | None) -> Source:
    config = read_config(folder / CONFIG)
    if overrides:
        key = "metadata" if isinstance(config.get("metadata"), dict) else None
        config = {**config, key: {**config[key], **overrides}} if key else {**config, **overrides}
    about = _settings(config)

    def refuse(text: str):
        raise UserError(f"{name}: {folder / CONFIG} says {text}")

    hook = str(about.get("hook_name") or about.get("hook_point") or about.get("hf_hook_name"))
    layer = _layer_read(hook)
    if layer is None:
        refuse(f"it reads {hook}; this experiment patches the residual stream, blocks.N.hook_resid_pre or _post")
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
