"""The shapes of the project's json files, and a check that says where a file departs from its shape.

Written for files that anyone may have put there: finite numbers only, true is no
number, and what is not drawn is not looked at.
"""

import json
from collections.abc import Callable, Iterator

from data.names import is_attribute
from featurizers.methods import is_method
from masks.names import MASKS, SCORES
from saes.names import is_own
from saes.releases import RELEASES

LARGEST = 1e15  # of any number that is drawn


def is_a(kind) -> Callable:
    return lambda value: isinstance(value, kind)


def number(low: float = -LARGEST, high: float = LARGEST, kind=int | float) -> Callable:
    """A finite number from low to high; true and false are none."""
    return lambda value: isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high


is_share, is_amount, is_count = number(0, 1), number(0), number(0, kind=int)


def one_of(known) -> Callable:
    return lambda value: isinstance(value, str) and value in known


def either(*shapes) -> Callable:
    """Any of these shapes is sound."""
    return lambda value: any(fault(value, shape) is None for shape in shapes)


def maybe(shape) -> Callable:
    """null is sound too."""
    return either(lambda value: value is None, shape)


def faults(value, shape, where: str = "") -> Iterator[str]:
    """What in a json departs from a shape, and where.

    shape: a predicate; {key: shape}, where a key ending in '?' may be missing and
    other keys are not looked at; or [shape], a list of such.
    """
    if isinstance(shape, dict) and not isinstance(value, dict):
        yield f"{where or 'it'} is no object"
    elif isinstance(shape, dict):
        for key, inner in shape.items():
            name = key.removesuffix("?")
            place = f"{where}.{name}".lstrip(".")
            if name in value:
                yield from faults(value[name], inner, place)
            elif not key.endswith("?"):
                yield f"{place} is missing"
    elif isinstance(shape, list) and not isinstance(value, list):
        yield f"{where} is no list"
    elif isinstance(shape, list):
        for i, item in enumerate(value):
            yield from faults(item, shape[0], f"{where}[{i}]")
    elif not shape(value):
        yield f"{where} is {json.dumps(value)[:30]}"


def fault(value, shape) -> str | None:
    """The first of them; None if the json is sound."""
    return next(faults(value, shape), None)


LAYER = number(0, 999, int)
THREE = dict.fromkeys(SCORES, is_share)
PAIRS = {"n_cause": is_count, "n_isolation": is_count}
ENDS = dict.fromkeys(SCORES, lambda ends: isinstance(ends, list) and len(ends) == 2 and all(map(is_share, ends)))
TEST = {mask: {**THREE, **PAIRS, "interval95": ENDS} for mask in MASKS}
RESULT = {
    "model": is_a(str),
    "target": is_attribute,
    "method": is_method,
    "layer": LAYER,
    "seed": number(0, 2**63 - 1, int),
    "mode": is_a(str),
    "split": is_a(str),
    "config": {"n_cities": is_count, "pairs_digest": is_a(str)},
    "n_features": is_count,
    "n_selected": is_count,
    "notice": maybe(is_a(str)),
    "l0": maybe(is_amount),
    "last_block": is_a(bool),
    "train": {mask: {**THREE, **PAIRS} for mask in MASKS},
    "validation": {mask: {**THREE, **PAIRS} for mask in MASKS},
    "test": TEST,
    "test_templates?": TEST,
    "interval_unit": is_a(str),
    "baselines": {"none": THREE, "full": THREE, "reconstruction": maybe(THREE)},
    # A loss may be NaN or infinite (a training that diverged): that is drawn as a gap.
    "words?": lambda words: isinstance(words, dict) and all(map(is_a(str), words.values())),
    "history": [{"epoch": is_count, "loss": is_a(float | int), "accuracy": is_share}],
    "versions": is_a(dict),
    "verified?": maybe(is_a(dict)),
    "pairs": is_a(str),
    "tensors_digest": is_a(str),
    "digest": is_a(str),
}
AT = {
    "squared_error": is_amount,
    "explained_variance": maybe(number()),
    "accuracy": maybe(is_share),
    "l0?": maybe(is_amount),
    "cosine?": maybe(number()),
    "dead_share?": maybe(is_share),
    **dict.fromkeys(("ce_loss_without_sae?", "ce_loss_with_sae?", "ce_loss_with_ablation?"), maybe(number())),
    "ce_loss_score?": maybe(number()),
    "kl_div?": maybe(number()),
}
QUALITY = {"config": {"model": is_a(str), "n_cities?": is_count}, "rows": [is_a(object)]}
QUALITY_ROW = {
    "method": lambda name: is_method(name) and (name in RELEASES or is_own(name)),
    "layer": LAYER,
    "attribute": is_attribute,
    "raw_residual?": is_a(bool),
    "n_latents?": maybe(is_count),
    "city": AT,
    "all": AT,
}
