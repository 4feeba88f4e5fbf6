"""Masks as a submission to MIB's causal-variable track, task ravel_task: one folder for each method and seed.

    METHOD-seedS/ravel_task_MODEL_VARIABLE/ResidualStream(Layer-L,Token-entity_last_token)_featurizer
                                                                                          _inverse_featurizer
                                                                                          _indices

The form is that of MIB's README and of the code that reads submissions (evaluate_submission.py, and `load_modules` of
CausalAbstraction's ResidualStream and Featurizer).  L counts as here: MIB patches a block's output.  The features are
all coordinates or a whole rotation, `_indices` are those with theta > 0.  SAEs are left out: MIB's own reader of a
submission has no format for them.
"""

import json
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError
from featurizers.methods import BASELINES, method_named
from imports import safetensors_torch, torch
from results.collecting import Found, cell
from results.estimates import Grid
from results.run import Run, file_name

MODELS = {  # on the hub, in lower case -> MIB's name
    "google/gemma-2-2b": "Gemma2ForCausalLM",
    **dict.fromkeys(
        ("meta-llama/meta-llama-3.1-8b-instruct", "meta-llama/llama-3.1-8b-instruct"),
        "LlamaForCausalLM",
    ),
}
UNIT = "ResidualStream(Layer-{},Token-entity_last_token)"  # the position that we patch


def files(grid: Grid, found: Found) -> dict[str, Callable[[Path], object]]:
    """By path in the folder, what writes each.  Raises UserError for a model that MIB's ravel_task has not."""
    model = grid.results[0]["model"]
    if model.lower() not in MODELS:
        raise UserError(f"MIB's ravel_task has no {model}; it takes {', '.join(MODELS)}")
    writers = {}
    for result in grid.results:
        run = Run(*cell(result))
        if run.method in BASELINES or method_named(run.method).release:
            continue
        folder = f"{file_name(run.method)}-seed{run.seed}/ravel_task_{MODELS[model.lower()]}_{run.target.title()}"
        place = f"{folder}/{UNIT.format(run.layer)}"
        for ending, write in _triplet(found.folder, run).items():
            writers[f"{place}_{ending}"] = write
    if not writers:
        raise UserError("these results have no method that MIB's reader knows; it knows neuron and das")
    return writers


def _triplet(folder: Path, run: Run) -> dict[str, Callable[[Path], object]]:
    """What writes the three files of a mask; its tensors are read when they are written."""

    def modules(path: Path) -> None:
        tensors = _tensors(folder, run)
        torch.save(_saved(tensors.get("rotation"), len(tensors["theta"])), path)

    def indices(path: Path) -> None:
        is_selected_F = _tensors(folder, run)["theta"] > 0
        path.write_text(json.dumps(is_selected_F.nonzero()[:, 0].tolist()))

    return {"featurizer": modules, "inverse_featurizer": modules, "indices": indices}


def _tensors(folder: Path, run: Run) -> dict:
    return safetensors_torch.load_file(folder / f"{run}.safetensors")


def _saved(rotation_DF, n_features: int) -> dict:
    """What CausalAbstraction's Featurizer.save_modules keeps of a rotation, or of the coordinates themselves.

    Featurizer and inverse share one state: both turn by the same rotation.
    """
    name = "Identity" if rotation_DF is None else "Subspace"
    more = {} if rotation_DF is None else {"rotation_matrix": rotation_DF, "requires_grad": False}
    about = {
        "featurizer_class": f"{name}FeaturizerModule",
        "inverse_featurizer_class": f"{name}InverseFeaturizerModule",
        "n_features": n_features,
        "featurizer_id": "null" if rotation_DF is None else "subspace",
        "additional_config": more,
    }
    return {"model_info": about, "state_dict": {} if rotation_DF is None else _state(rotation_DF)}


def _state(rotation_DF) -> dict:
    """The state of a module whose `rotate` is this rotation under PyTorch's orthogonal parametrization."""
    rotate = torch.nn.Module()
    rotate.weight = torch.nn.Parameter(rotation_DF.clone())
    torch.nn.utils.parametrizations.orthogonal(rotate)
    return {f"rotate.{name}": value.detach().clone() for name, value in rotate.state_dict().items()}
