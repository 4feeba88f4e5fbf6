"""Result files: where they lie, reading and checking them, and the scores with intervals that they hold.

    from results import load

    scores = load("saved_models/results", model="toy")      # a pandas table, a row for each score
    scores.query("seed == 'all' and mask == 'hard' and measure == 'disentangle'")

docs/export.md says what its columns are.
"""

import importlib

OFFERED = {"load": "results.frames"}


def __getattr__(name: str):
    """Import what the package offers when it is asked for: the files behind it import numpy and pandas."""
    if name not in OFFERED:
        raise AttributeError(f"results has no {name}")
    return getattr(importlib.import_module(OFFERED[name]), name)
