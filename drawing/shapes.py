"""The shapes of the project's json files, and a check that says where a file departs from its shape.

Written for files that anyone may have put there: finite numbers only, true is no
number, and what is not drawn is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from data.names import ATTRIBUTES
from featurizers.methods import METHODS
from masks.names import SCORES
from saes.releases import RELEASES

MASKS = ("soft", "hard")
LARGEST = 1e15  # of any number that is drawn


def is_number(value) -> bool:
    """A finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def is_share(value) -> bool:
    return is_number(value) and 0 <= value <= 1


def is_amount(value) -> bool:
    return is_number(value) and value >= 0


def is_count(value) -> bool:
    return is_amount(value) and isinstance(value, int)


def is_layer(value) -> bool:
    return is_count(value) and value < 1000


def is_seed(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_text(value) -> bool:
    return isinstance(value, str)


def is_truth(value) -> bool:
    return isinstance(value, bool)


def anything(_value) -> bool:
    return True


def one_of(known) -> Callable:
    return lambda value: is_text(value) and value in known


def maybe(shape: Callable) -> Callable:
    """null is sound too."""
    return lambda value: value is None or shape(value)


def require(value, shape, where: str = "") -> None:
    """Raise ValueError, naming the place, unless json has a shape.

    shape: a predicate; {key: shape}, where a key ending in '?' may be missing and
    other keys are not looked at; or [shape], a list of such.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{where or 'it'} is no object")
        for key, inner in shape.items():
            name = key.removesuffix("?")
            if name in value:
                require(value[name], inner, f"{where}.{name}".lstrip("."))
            elif not key.endswith("?"):
                raise ValueError(f"{where}.{name} is missing".lstrip("."))
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"{where} is no list")
        for i, item in enumerate(value):
            require(item, shape[0], f"{where}[{i}]")
    elif not shape(value):
        raise ValueError(f"{where} is {json.dumps(value)[:30]}")


THREE = dict.fromkeys(SCORES, is_share)
PAIRS = {"n_cause?": is_count, "n_isolation?": is_count}
RESULT = {
    "model": is_text,
    "target": one_of(ATTRIBUTES),
    "method": one_of(METHODS),
    "layer": is_layer,
    "seed": is_seed,
    "mode": is_text,
    "split": is_text,
    "config": {"n_cities?": is_count},
    "n_features": is_count,
    "n_selected": is_count,
    "l0?": maybe(is_amount),
    "last_block?": is_truth,
    "test": {mask: {**THREE, **PAIRS, "interval95?": {f"{name}?": [anything] for name in SCORES}} for mask in MASKS},
    "baselines": {"none": THREE, "full": THREE},
    # A loss may be NaN or infinite (a training that diverged): that is drawn as a gap.
    "history": [{"epoch": is_count, "loss": lambda x: isinstance(x, float | int), "accuracy": is_share}],
    "versions?": maybe(lambda x: isinstance(x, dict)),
}
AT = {
    "squared_error": is_amount,
    "explained_variance": maybe(is_number),
    "accuracy": maybe(is_share),
    "l0?": maybe(is_amount),
    "cosine?": maybe(is_number),
    "dead_share?": maybe(is_share),
    "ce_loss_score?": maybe(is_number),
    "kl_div?": maybe(is_number),
}
QUALITY = {"config": {"model": is_text, "n_cities?": is_count}, "rows": [anything]}
QUALITY_ROW = {
    "method": one_of(RELEASES),
    "layer": is_layer,
    "attribute": one_of(ATTRIBUTES),
    "raw_residual?": is_truth,
    "n_latents?": maybe(is_count),
    "city": AT,
    "all": AT,
}
