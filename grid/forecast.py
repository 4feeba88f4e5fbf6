"""How long a grid will take and how much memory, from a few steps of the model at hand."""

import os

from common.command import peak_memory
from common.errors import UserError
from common.text import duration, filled
from grid.experiment import Experiment
from grid.launchers import LAUNCHERS
from grid.layers import saes_of
from grid.settings import Settings
from grid.spec import GridSpec
from grid.trainer import Trainer
from imports import MissingLibrary, huggingface_hub, np
from saes.names import is_own
from saes.source import find

STEPS = 3  # of each group of runs that train together, after its first one
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def print_forecast(experiment: Experiment) -> None:
    """Print the time that training will take and the memory, or why neither was measured."""
    settings = experiment.settings
    why = None
    if LAUNCHERS[settings.launcher].is_elsewhere:
        why = "the work is done on other machines; ask one of them, with --launcher here"
    elif not is_at_hand(settings):
        why = f"{settings.model} is not on this machine"
    elif on_hub := [name for name, _ in saes_of(experiment.runs) if is_own(name) and find(name).hub]:
        why = f"the weights of {on_hub[0]} lie on the hub"
    try:
        spec = None if why else experiment.check()
    except (UserError, MissingLibrary) as error:
        why = str(error)
    if why:
        print(filled(f"time and memory: not measured, as {why}"))
    elif not spec.steps(spec.configs):
        print("time and memory: there is nothing to train")
    else:
        print(filled(_measured(spec)))


def _measured(spec: GridSpec) -> str:
    """Take the steps at the first and the last layer where there is something to train."""
    steps = {layer: spec.steps(spec.of_layer(layer)) for layer in spec.layers()}
    steps = {layer: n for layer, n in steps.items() if n}
    ends = sorted({min(steps), max(steps)})
    trainer = Trainer(spec, progress=False)
    pace = {layer: trainer.seconds(layer, STEPS) / steps[layer] for layer in ends}
    seconds, memory = whole(steps, pace), peak_memory(spec.settings.device)
    at = " and ".join(f"{layer}" for layer in ends)
    layers = f"layer{'s' * (len(ends) > 1)} {at}"
    return f"training: about {duration(seconds)} in one process, by {STEPS} steps at {layers}; {memory} in each process"


def whole(steps: dict[int, int], pace: dict[int, float]) -> float:
    """Seconds that all layers take.

    steps: of each layer's runs; pace: seconds of one such step at some layers, straight lines between them, as a
    patch after layer L runs through the layers after L.
    """
    known = sorted(pace)
    return float(sum(n * np.interp(layer, known, [pace[at] for at in known]) for layer, n in steps.items()))


def is_at_hand(settings: Settings) -> bool:
    """Whether the model can be loaded without building or downloading it."""
    place = settings.place
    if place.folder is not None or os.path.isdir(place.path):
        return any(os.path.exists(os.path.join(place.path, name)) for name in WEIGHTS)
    found = (huggingface_hub.try_to_load_from_cache(place.path, name) for name in WEIGHTS)
    return any(isinstance(path, str) for path in found)
