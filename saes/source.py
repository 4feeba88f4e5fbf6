"""Where a user's own SAE is and what it reads, by SAELens's cfg.json: the methods ``sae:FOLDER`` and ``sae:HUB_ID``.

    --methods sae:runs/mine                               a folder with cfg.json and sae_weights.safetensors
    --methods sae:owner/repo/folder/in/repo               the same on the Hugging Face hub
    --methods sae:gpt2-small-res-jb/blocks.8.hook_resid_pre   by the names of SAELens's own list

cfg.json says what the SAE reads: its hook point is the layer, and the kwargs with which its
model was loaded say whether the residual was mean-centred.
"""

import functools
import math
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.files import read_config
from common.text import shortened
from imports import require
from saes.names import OWN, layer_of_hook_point, normalised

CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"  # sae_lens/constants.py

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
    centred: bool | None  # None: the file does not say
    model: str | None  # which it was trained on, where it tells
    normalisation: str  # of the input, by SAELens's name
    hub: tuple[str, str] | None  # (repository, folder in it)
    scaling: float | None  # of the input, where it is known

    def remarks(self, model: str | None = None) -> list[str]:
        """List what cfg.json leaves open, with a command that checks it.  model: the --model given, if any."""
        found = []
        if self.centred is None:
            found.append(f"{CONFIG} does not say whether its model was centred; it gets the raw residual")
        if self.normalisation == "expected_average_only_in" and self.scaling is None:
            found.append(
                "its inputs were scaled in training by a factor that is not in the file; they are not scaled (a "
                f"checkpoint's factor is in {SCALER}, which is read where it lies beside {CONFIG} in a local folder)"
            )
        flags = ["--check", *(("--model", model) if model else ()), "--methods", self.name]
        return [f"{self.name}: {line}; to compare: ./eval_run.sh {shlex.join(flags)}" for line in found]


def find(name: str) -> Source:
    """Locate a ``sae:`` method's SAE and read its cfg.json, from the hub if need be.

    Raises UserError if there is none, or if it is of a kind that this experiment cannot use.
    """
    what = normalised(name).removeprefix(OWN)
    path = Path(what).expanduser()
    is_folder = os.path.isdir(path)  # unlike Path's own it takes a name of any length
    is_path = os.path.exists(path) or what.startswith((".", "/", "~")) or os.path.isdir(what.partition("/")[0])
    if not is_folder and (is_path or "/" not in what):
        raise UserError(f"{name}: {path} is not a folder; name one that SAELens's save_model wrote, or a hub id")
    if is_folder and not (path / CONFIG).is_file():
        raise UserError(f"{path} holds no {CONFIG}; name a folder that SAELens's save_model wrote")
    require("sae_lens")
    if is_folder:
        return _described(name, path, scaling=_scaling_beside(path))
    repository, folder, overrides, scaling = _listed(what)
    file = download(repository, folder, CONFIG)
    return _described(name, file.parent, overrides, (repository, folder), scaling)


def _scaling_beside(folder: Path) -> float | None:
    """Read the input scale of a training checkpoint, which SAELens folds into the weights only at the end."""
    if not (folder / SCALER).is_file():
        return None
    factor = read_config(folder / SCALER).get("scaling_factor")
    is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if factor is not None and not (is_number and 0 < factor < math.inf):
        raise UserError(f"{folder / SCALER} is damaged: its scaling_factor is no number above 0; write it again")
    return factor


@functools.cache
def _listed(what: str) -> tuple[str, str, dict, float | None]:
    """Look up a hub id or SAELens's RELEASE/ID: (repository, folder, settings to add, scaling factor).

    A hub id that is in SAELens's list gets what the list knows of it: some files do not
    say themselves that their model was centred.
    """
    from imports import sae_lens_directory

    directory = sae_lens_directory.get_pretrained_saes_directory()
    release, _, sae_id = what.partition("/")
    if release not in directory:
        owner, name, *folder = what.split("/", 2)
        repository, folder = f"{owner}/{name}", "".join(folder)
        names = sae_lens_directory.get_releases_for_repo_id(repository)
        found = [(name, key) for name in names for key, path in directory[name].saes_map.items() if path == folder]
        if not found:
            return repository, folder, {}, None
        release, sae_id = found[0]
    about = directory[release]
    if sae_id not in about.saes_map:
        some = ", ".join(list(about.saes_map)[:3])
        raise UserError(f"SAELens's list has no {sae_id} in {release}; it has {some}, ..")
    if about.conversion_func not in (None, "sae_lens"):
        raise UserError(
            f"{what} is not in SAELens's own format ({about.conversion_func}); load it with SAELens, save it with "
            "save_model, and name that folder"
        )
    scaling = sae_lens_directory.get_norm_scaling_factor(release, sae_id)
    return about.repo_id, about.saes_map[sae_id], dict(about.config_overrides or {}), scaling


@functools.cache
def download(repository: str, folder: str, name: str) -> Path:
    """Fetch a file of a folder in a hub repository; returns its path in the local cache.  Raises UserError."""
    from imports import huggingface_hub as hub  # not above: the command line imports this file

    file = f"{folder}/{name}".lstrip("/")
    try:
        try:
            # A download asks six times with growing waits where the hub does not answer: so ask once first.
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, file))
        except Exception:
            cached = hub.try_to_load_from_cache(repository, file)
            if not isinstance(cached, str):
                raise
            return Path(cached)
        return Path(hub.hf_hub_download(repository, file))
    except Exception as error:  # noqa: BLE001 - it raises many kinds, none of which says what to do
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"cannot get {file} of {repository} from the Hugging Face hub ({type(error).__name__}: {reason}); check "
            f"the name, which is {OWN}OWNER/REPOSITORY/FOLDER, or name a local folder"
        ) from None


def _described(name: str, folder: Path, overrides: dict | None = None, hub=None, scaling=None) -> Source:
    """Read cfg.json.  Raises UserError if this experiment cannot use such an SAE."""
    file = folder / CONFIG
    config = read_config(file)
    metadata = config.get("metadata")  # since SAELens 6 it holds what concerns the model; before, nothing is apart
    if overrides:
        config |= {"metadata": metadata | overrides} if isinstance(metadata, dict) else overrides
    about = {**config, **(config["metadata"] if isinstance(metadata, dict) else {})}
    hook = str(about.get("hook_name") or about.get("hook_point") or about.get("hf_hook_name"))
    layer = layer_of_hook_point(hook, file)
    kwargs = about.get("model_from_pretrained_kwargs")
    is_table = isinstance(kwargs, dict)
    normalisation = config.get("normalize_activations") or "none"
    if normalisation is True:  # of older files
        normalisation = "expected_average_only_in"
    wrong = _why_unusable(about, hook, layer, normalisation, kwargs if is_table else {})
    if kwargs is not None and not is_table:
        wrong = f"model_from_pretrained_kwargs is {kwargs!r}; it should be a table of settings"
    if wrong:
        raise UserError(f"{name}: {file} says {wrong}")
    centred = bool(kwargs.get(CENTRES)) if is_table else None
    return Source(name, folder, config, layer, centred, about.get("model_name"), normalisation, hub, scaling)


def _why_unusable(about: dict, hook: str, layer: int | None, normalisation, kwargs: dict) -> str:
    """Name the first setting that rules the SAE out, and what to do; '' if none does."""
    writes = about.get("hook_name_out")
    is_transcoder = writes not in (None, hook)
    hook = shortened(hook, 60)
    heads = (about.get("hook_head_index"), about.get("hook_point_head_index"))
    shape = about.get("reshape_activations") or "none"
    architecture = about.get("architecture", "standard")
    activation = about.get("activation_fn") or about.get("activation_fn_str") or "relu"
    strange = [f"{k}={v!r}" for k, v in kwargs.items() if k not in {CENTRES, *HARMLESS} and v is not None]
    residual = "this experiment patches the residual stream, blocks.N.hook_resid_pre or _post"
    checks = (
        (layer is None, f"it reads {hook}; {residual}"),
        (layer == -1, f"it reads {hook}, the embeddings before block 0; name an SAE of a block's output"),
        (is_transcoder, f"it reads {hook} and writes {writes}; a transcoder cannot replace what it read"),
        (heads != (None, None), "it reads one attention head; this experiment patches the whole residual stream"),
        (shape != "none", f"reshape_activations is {shape}; this experiment patches plain vectors"),
        (
            architecture not in ARCHITECTURES,
            f"its architecture is {architecture}; known are {', '.join(ARCHITECTURES)}",
        ),
        (activation not in ("relu", "topk"), f"its activation is {activation}; known are relu and topk"),
        (strange, f"its model was loaded with {''.join(strange[:1])}; what that does to the residual is unknown"),
        (
            normalisation not in NORMALISATIONS,
            f"normalize_activations is {normalisation}, which SAELens applies only once it is folded into the weights; "
            "fold and save it again",
        ),
    )
    return next((text for is_so, text in checks if is_so), "")
