"""The files of explanations: OUTPUT/MODEL/explain/TARGET/METHOD/layerLL-seedS.json, and .csv with a row a feature.

The json is read as a stranger's file: finite numbers, lists that fit each other, a fingerprint, the place that it
names.  Needs no torch.
"""

import csv
import re
from pathlib import Path

from common.files import write_atomically, write_json
from data.names import is_attribute
from featurizers.methods import is_method
from masks.names import SCORES
from results.reading import ALTERED, Damaged, digest_of, read_json
from results.run import Run
from results.shapes import LAYER, THREE, is_a, is_count, is_share, maybe, number

FOLDER = "explain"
FORMAT = 1
PAGE = re.compile(r"https://www\.neuronpedia\.org/[\w./+-]+")
LISTED = 5  # values in a cell of the csv
ORDERS = ("theta", "effect")  # best first, of the curves

is_change = number(-1, 1)
GAIN = {**dict.fromkeys((*SCORES, "low", "high"), is_change), "p": is_share}
EFFECT = {**GAIN, "nats": number()}
NAMED = {"target": is_attribute, "method": is_method, "layer": LAYER, "seed": number(0, 2**63 - 1, int)}


def is_named_number(value) -> bool:
    """[name, number], as of a city and how strongly a feature fires on it."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and number()(value[1])


def is_by_attribute(value, shape) -> bool:
    """An object whose keys are attributes, and whose values have this shape."""
    return isinstance(value, dict) and all(map(is_attribute, value)) and all(map(shape, value.values()))


FEATURE = {
    "feature": is_count,
    "theta": maybe(number()),
    "effect": maybe(is_change),
    "lost": maybe(EFFECT),
    "gained": maybe(EFFECT),
    "n_fires": maybe(is_count),
    "strongest": maybe([is_named_number]),
    "values": [is_named_number],
    "explained": lambda found: is_by_attribute(found, maybe(number(high=1))),
    "page": maybe(lambda value: isinstance(value, str) and bool(PAGE.fullmatch(value))),
}
CURVE = {"k": [is_count], **{name: [is_share] for name in SCORES}}
OTHER = {**NAMED, "n_selected": is_count, "shared": number(0), "jaccard": maybe(is_share), "chance": maybe(is_share)}
AGREEMENT = {
    "seeds": [number(0, 2**63 - 1, int)],
    "n_pairs": is_count,
    **dict.fromkeys(("jaccard", "lowest", "highest", "chance"), is_share),
    "chance_sd": number(0),
}
EXPLANATION = {
    "result": NAMED,
    "made_from": {"format": is_count, "result": is_a(str), "top": is_count, "unit": is_attribute},
    "notice": maybe(is_a(str)),
    "are_latents": is_a(bool),
    **dict.fromkeys(("n_features", "n_active", "n_selected"), is_count),
    "scores": dict.fromkeys(("mask", "empty", "none", "full"), THREE),
    "gain": GAIN,
    "features": [FEATURE],
    "curves": dict.fromkeys(ORDERS, CURVE),
    "needed": dict.fromkeys(ORDERS, maybe(is_count)),
    "cities": [lambda city: is_by_attribute(city, is_a(str)) and "name" in city],
    "activations": [[number()]],
    "overlaps": [OTHER],
    "agreement": maybe(AGREEMENT),
    "digest": is_a(str),
}


def json_path(root: Path, run: Run) -> Path:
    return root / FOLDER / f"{run}.json"


def run_of(explanation: dict) -> Run:
    return Run(**explanation["result"])


def read_explanation(path: Path, root: Path) -> dict:
    """An explanation below OUTPUT/MODEL (root).  Raises Damaged."""
    found = read_json(path, EXPLANATION)
    found["result"] = {key: found["result"][key] for key in NAMED}
    if json_path(root, run_of(found)) != path:
        raise Damaged(f"it says that it explains {run_of(found)}")
    if digest_of(found) != found["digest"]:
        raise Damaged(ALTERED)
    n_cities, n_selected = len(found["cities"]), found["n_selected"]
    if len(found["features"]) != n_selected:
        raise Damaged(f"features are {len(found['features'])}, n_selected is {n_selected}")
    if any(len(values) != n_cities for values in found["activations"]) or len(found["activations"]) > n_selected:
        raise Damaged("activations fit neither its features nor its cities")
    if any(found["result"]["target"] not in city for city in found["cities"]):
        raise Damaged(f"a city has no {found['result']['target']}")
    for order, curve in found["curves"].items():
        lengths = {len(curve[key]) for key in CURVE}
        if len(lengths) > 1 or curve["k"] != sorted(set(curve["k"])) or curve["k"][-1:] != [n_selected][:n_selected]:
            raise Damaged(f"curves.{order} does not go from 1 to {n_selected} features")
    return found


def write_explanation(root: Path, explanation: dict) -> None:
    """Write the csv, then the json: what has a json is done.  Raises UserError."""
    path = json_path(root, run_of(explanation))
    table = path.with_suffix(".csv")
    write_atomically(table, lambda temporary: _write_csv(temporary, explanation))
    write_json(path, {**explanation, "digest": digest_of(explanation)})


def done_before(root: Path, run: Run, made_from: dict) -> dict | None:
    """The explanation that is there, if it is whole and of this result and these settings."""
    path = json_path(root, run)
    try:
        found = read_explanation(path, root)
    except Damaged:  # made anew
        return None
    return found if found["made_from"] == made_from and path.with_suffix(".csv").exists() else None


def _write_csv(path: Path, explanation: dict) -> None:
    attributes = [key for key in explanation["cities"][0] if key != "name"]
    kinds = {kind: tuple(EFFECT) for kind in ("lost", "gained")}
    head = ["rank", "feature", "theta", "effect", *(f"{kind}_{key}" for kind, keys in kinds.items() for key in keys)]
    head += ["n_fires", "strongest", "values", *(f"explained_{attribute}" for attribute in attributes), "page"]
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(head)
        for rank, feature in enumerate(explanation["features"], 1):
            row = [rank, *(feature[key] for key in ("feature", "theta", "effect"))]
            row += [(feature[kind] or {}).get(key) for kind, keys in kinds.items() for key in keys]
            row += [feature["n_fires"], *(_listed(feature[key]) for key in ("strongest", "values"))]
            rows.writerow([*row, *feature["explained"].values(), feature["page"]])


def _listed(pairs: list | None) -> str | None:
    """'Paris 3.2; Lyon 3.1'."""
    return None if pairs is None else "; ".join(f"{name} {value:g}" for name, value in pairs[:LISTED])
