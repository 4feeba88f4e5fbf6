"""Which methods can run at which layers, and the SAEs that they need there."""

from __future__ import annotations

from common.errors import UserError
from decoder.loading import load_config
from featurizers.methods import method_named
from grid.profiles import DEFAULT_MODEL
from grid.settings import InputSettings
from saes.names import is_own
from saes.places import locate, release_named
from saes.source import find, is_trained_on
from toy import world as toy

GPT2_SMALL_DEPTH = 12


def depth(settings: InputSettings) -> int:
    """How many blocks the model has: without building the toy, and for a dry run of the default without a network."""
    if settings.model == "toy":
        return toy.Recipe().n_layers
    if settings.dry_run and settings.model == DEFAULT_MODEL:
        return GPT2_SMALL_DEPTH
    return load_config(settings.place.path).num_hidden_layers


def asked_layers(settings: InputSettings, n_layers: int) -> list[int]:
    """The layers of the command line.  Raises UserError if one does not exist."""
    layers = list(range(n_layers)) if settings.layers is None else settings.layers
    for layer in layers:
        if not 0 <= layer < n_layers:
            raise UserError(f"layer {layer} is out of range: {settings.model} has the layers 0 to {n_layers - 1}")
    return layers


def _layers_of(method: str, settings: InputSettings, n_layers: int) -> list[int]:
    """The layers at which a method can run.

    Those found in the SAE folder and, for a model of GPT-2 small's depth, those that
    were published: that such a file is missing is an error later on.
    """
    release = method_named(method).release
    if release is not None and is_own(release):
        return [_own_layer(release, settings, n_layers)]
    if release is None or settings.model == "toy":
        return list(range(n_layers))
    found = [layer for layer in range(n_layers) if locate(release, settings.saes, layer, n_layers).exists()]
    published = release_named(release).layers if n_layers == GPT2_SMALL_DEPTH else ()
    return sorted({*published, *found})


def _own_layer(name: str, settings: InputSettings, n_layers: int) -> int:
    """The layer of a user's own SAE.  Raises UserError if it is not one of this model's."""
    source = find(name)
    if not is_trained_on(source.model, settings.model):
        raise UserError(
            f"{name} was trained on {source.model} (model_name in its cfg.json), not on {settings.model}; name that "
            "model with --model, or leave the SAE out"
        )
    if source.layer >= n_layers:
        raise UserError(f"{name} reads layer {source.layer}; {settings.model} has the layers 0 to {n_layers - 1}")
    return source.layer


def methods_at(settings: InputSettings, n_layers: int) -> dict[int, list[str]]:
    """Layer -> the methods that can run there, of those asked for; a family's absent layers are left out.

    Raises UserError if a layer does not exist, or if a method and a layer were both
    asked for by name and the family has no SAE there.
    """
    layers = asked_layers(settings, n_layers)
    layers_with = {method: _layers_of(method, settings, n_layers) for method in settings.methods}
    found: dict[int, list[str]] = {}
    for layer in layers:
        for method, has in layers_with.items():
            _require_sae(method, layer, has, settings)
        found[layer] = [method for method, has in layers_with.items() if layer in has]
    return found


def _require_sae(method: str, layer: int, has: list[int], settings: InputSettings) -> None:
    """Raises UserError where a method and a layer were both asked for by name and the family has no SAE there."""
    is_named = settings.methods_named or is_own(method)
    if layer not in has and settings.layers is not None and is_named:
        raise UserError(
            f"{method} has no SAE at layer {layer} (it has {', '.join(map(str, has)) or 'none'}); "
            "leave out the layer or the method, or say --layers all"
        )


def saes_of(cells) -> list[tuple[str, int]]:
    """The (release, layer) of every SAE that these cells (anything with a method and a layer) need, each once."""
    found = ((method_named(cell.method).release, cell.layer) for cell in cells)
    return list(dict.fromkeys((release, layer) for release, layer in found if release))
