"""Which methods can run at which layers, and the SAEs that they need there."""

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from decoder.loading import load_config
from featurizers.methods import method_named
from grid.profiles import DEFAULT_MODEL
from grid.settings import InputSettings
from saes.names import can_be_same, is_own
from saes.releases import locate, release_named
from saes.source import find
from toy import world as toy

GPT2_SMALL_DEPTH = 12
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"  # that --model smollm2 is made of
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True)
class ModelInfo:
    """What decides which SAEs a model can have.

    has_published: the SAEs of saes/releases.py are of such a model.
    name: by which SAEs call it; None for a folder that does not tell.
    """

    n_layers: int
    has_published: bool
    name: str | None


def model_info(settings: InputSettings) -> ModelInfo:
    """Read it: without building the toy, and for a dry run of the default without a network.

    Raises UserError if the model is not there.
    """
    if settings.model == "toy":
        return ModelInfo(toy.Recipe().n_layers, False, "toy")
    if settings.dry_run and settings.model == DEFAULT_MODEL:
        return ModelInfo(GPT2_SMALL_DEPTH, True, DEFAULT_MODEL)
    if settings.model == "smollm2" and not os.path.isdir(settings.place.path):
        raise UserError(f"there is no SmolLM2 at {settings.place.path} yet; ./setup.sh smollm2 makes it")
    config = load_config(settings.place.path)
    n_layers = config.num_hidden_layers
    return ModelInfo(n_layers, config.model_type == "gpt2" and n_layers == GPT2_SMALL_DEPTH, _name(settings))


def _name(settings: InputSettings) -> str | None:
    place = settings.place
    if place.profile in ("toy", "smollm2"):
        return {"toy": "toy", "smollm2": SMOLLM2}[place.profile]
    if not os.path.isdir(place.path):
        return place.path
    name = json.loads((Path(place.path) / "config.json").read_text()).get("_name_or_path")
    return name if isinstance(name, str) and HUB_ID.fullmatch(name) else None


def asked_layers(settings: InputSettings, n_layers: int) -> list[int]:
    """The layers of the command line.  Raises UserError if one does not exist."""
    layers = list(range(n_layers)) if settings.layers is None else settings.layers
    for layer in layers:
        if not 0 <= layer < n_layers:
            raise UserError(f"layer {layer} is out of range: {settings.model} has the layers 0 to {n_layers - 1}")
    return layers


def _layers_of(method: str, settings: InputSettings, info: ModelInfo) -> list[int]:
    """The layers at which a method can run.

    Those found in the SAE folder and, for GPT-2 small, those that were published: that such a file is
    missing is an error later on.
    """
    n_layers = info.n_layers
    release = method_named(method).release
    if release is not None and is_own(release):
        return [_own_layer(release, settings, info)]
    if release is None or settings.model == "toy":
        return list(range(n_layers))
    found = [layer for layer in range(n_layers) if locate(release, settings.saes, layer, n_layers).exists()]
    published = release_named(release).layers if info.has_published else ()
    return sorted({*published, *found})


def _own_layer(name: str, settings: InputSettings, info: ModelInfo) -> int:
    """The layer of a user's own SAE.  Raises UserError if it is not one of this model's."""
    source = find(name)
    if source.model is not None and info.name is None:
        print(
            f"note: {name} was trained on {source.model}; {settings.model} does not say which model it is, so only "
            "width and layer are compared",
            file=sys.stderr,
        )
    elif source.model is not None and not can_be_same(source.model, info.name):
        called = settings.model if can_be_same(settings.model, info.name) else f"{settings.model} ({info.name})"
        raise UserError(
            f"{name} was trained on {source.model} (model_name in its cfg.json), not on {called}; name that "
            "model with --model, or leave the SAE out"
        )
    if source.layer >= info.n_layers:
        raise UserError(f"{name} reads layer {source.layer}; {settings.model} has the layers 0 to {info.n_layers - 1}")
    return source.layer


def methods_at(settings: InputSettings, info: ModelInfo) -> dict[int, list[str]]:
    """Layer -> the methods that can run there, of those asked for; a family's absent layers are left out.

    Where no layers were asked for by name, those of users' own SAEs are added to the profile's.

    Raises UserError if a layer does not exist, or if a method and a layer were both
    asked for by name and the family has no SAE there.
    """
    layers = asked_layers(settings, info.n_layers)
    layers_with = {method: _layers_of(method, settings, info) for method in settings.methods}
    if not settings.layers_named:
        layers = sorted({*layers, *(n for method, has in layers_with.items() if is_own(method) for n in has)})
    found: dict[int, list[str]] = {}
    for layer in layers:
        for method, has in layers_with.items():
            _require_sae(method, layer, has, settings)
        found[layer] = [method for method, has in layers_with.items() if layer in has]
    return found


def _require_sae(method: str, layer: int, has: list[int], settings: InputSettings) -> None:
    """Raises UserError where a method and a layer were both asked for by name and the family has no SAE there."""
    is_named = settings.methods_named or is_own(method)
    if layer not in has and settings.layers_named and is_named:
        raise UserError(
            f"{method} has no SAE at layer {layer} (it has {', '.join(map(str, has)) or 'none'}); "
            "leave out the layer or the method, or say --layers all"
        )


def saes_of(cells) -> list[tuple[str, int]]:
    """The (release, layer) of every SAE that these cells (anything with a method and a layer) need, each once."""
    found = ((method_named(cell.method).release, cell.layer) for cell in cells)
    return list(dict.fromkeys((release, layer) for release, layer in found if release))
