"""What the command line assumes of a model: where it lies, how it is run by default, and what must be said of it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from common.paths import HOME

DEFAULT_MODEL = "openai-community/gpt2"
SAVED = HOME / "saved_models"
TOY_NOTICE = (
    "This is the toy world: that das beats neurons and neurons beat SAEs at layer 2 is built into it, and its SAEs "
    "were trained on the prompts that they are scored on. It checks the machinery; it is no finding about real models "
    "or published SAEs."
)

# Settings that depend on the model; a flag given on the command line goes before.
PROFILES = {
    "paper": {  # Chaudhary & Geiger 2024
        "mode": "paper",
        "one_token": True,
        "epochs": 20,
        "batch_size": 16,
        "lr": 1e-3,
        "temperature": [10.0, 0.1],
        "max_pairs": None,
        "prompt": "few-shot",
        "layers": ["all"],
        "threads": None,
        "cities": HOME / "data" / "cities.csv",
        "saes": SAVED / "saes",
    },
    "smollm2": {  # a real model on two cores: some layers, and so many pairs that a seed takes a quarter of an hour
        "mode": "strict",
        "one_token": False,
        "epochs": 8,
        "batch_size": 16,
        "lr": 3e-3,
        "temperature": [1.0, 0.1],
        "max_pairs": 240,
        "prompt": "few-shot",
        "layers": ["10", "18", "22"],
        "threads": None,
        "cities": HOME / "data" / "cities.csv",
        "saes": SAVED / "saes",
    },
    "toy": {
        "mode": "strict",
        "one_token": False,
        "epochs": 10,
        "batch_size": 16,
        "lr": 3e-3,
        "temperature": [1.0, 0.1],
        "max_pairs": 320,
        "prompt": "bare",
        "layers": ["all"],
        "threads": 1,  # its products are too small to share
        "cities": "cities.csv",  # of the toy world's own folder
        "saes": "saes",
    },
}
RAVEL = {  # with RAVEL's templates, whichever the model
    "mode": "ravel",
    "one_token": False,
    "epochs": 8,
    "batch_size": 16,
    "lr": 3e-3,
    "temperature": [1.0, 0.1],
    "max_pairs": 2000,
}
ORIGIN = "ORIGIN.json"  # in a model's folder: where its weights are from (downloads/smollm2.py)
WORLD = "world.json"  # in a toy world's folder: its recipe


@dataclass(frozen=True)
class Place:
    """Where a model is read from, and the profile it has.

    path: a folder or a hub id; folder: the same where it is a folder that this project made, else None.
    """

    path: str
    profile: str
    folder: Path | None = None

    @property
    def is_toy(self) -> bool:
        return self.profile == "toy"


def place_of(model: str) -> Place:
    """The place of a model by the name that --model gives."""
    if model in ("toy", "smollm2"):
        return Place(str(SAVED / model), model, SAVED / model)
    for profile, file in (("toy", WORLD), ("smollm2", ORIGIN)):
        if os.path.isfile(os.path.join(model, file)):  # Path's own raises if a name is too long
            return Place(model, profile, Path(model))
    return Place(model, "paper")


def notice_of(model: str) -> str | None:
    """What must stand beside every number of this model; None for a model as it was published."""
    place = place_of(model)
    if place.is_toy:
        return TOY_NOTICE
    try:
        return "Of this model, " + json.loads((place.folder / ORIGIN).read_text())["note"] + "."
    except (AttributeError, OSError, ValueError, KeyError, TypeError):
        return None
