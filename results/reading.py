"""Read a result as if a stranger had put it there: is it what main.py wrote, whole and unaltered?

A result is sound if its json has the shape, lies where it says that it belongs, matches the digests of itself,
of its tensors and of its pairs, and if its scores follow from its saved outcomes.
"""

import functools
import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from common.files import file_digest
from data.names import KINDS
from imports import np, safetensors
from masks.names import MASKS
from results.run import Run
from results.shapes import RESULT, fault

ALTERED = "was altered after it was written"


class Damaged(Exception):
    """What is wrong with a result, in a few words."""


@dataclass(frozen=True)
class NamedPairs:
    """The test pairs of a target and seed, N in all; outcomes are in their order.

    base, source: [N] names of cities; is_cause_N: bool; facts: city -> {attribute: value}.
    """

    base: list[str]
    source: list[str]
    is_cause_N: "np.ndarray"
    facts: dict[str, dict[str, str]]

    @classmethod
    def of(cls, named_pairs: dict) -> "NamedPairs":
        """named_pairs: the content of a pair file (data.pairs.named)."""
        base, source, kind = zip(*named_pairs["test"], strict=True)
        return cls(list(base), list(source), np.array(kind) == "cause", named_pairs["facts"])

    def clusters(self, unit: str) -> tuple[list[str], list[str]]:
        """Of each pair, the cluster of its base and of its source: an attribute's value, or the city itself."""
        named = {city: city if unit == "city" else facts[unit] for city, facts in self.facts.items()}
        return [named[city] for city in self.base], [named[city] for city in self.source]


def digest_of(content: dict) -> str:
    """A fingerprint of a result's json, of all but the fingerprint itself; or of the pairs in a pair file."""
    content = {key: value for key, value in content.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read_json(path: Path, shape) -> dict:
    """The json of a file if it has the shape (see results.shapes).  Raises Damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        why = fault(content, shape)
    except OSError as error:
        why = error.strerror or str(error)
    except (ValueError, RecursionError) as error:
        why = "no json" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
    if why:
        raise Damaged(why[:80])
    return content


def read_result(path: Path, root: Path) -> dict:
    """A result as main.py wrote it below OUTPUT/MODEL (root), with three more keys of what lies beside it:

    "outcomes": {"hard", "soft", "none", "full" and of SAEs "reconstruction": [N] bool, was each test pair right?}
    "answers": {"hard", "soft", "none": [N] int, the token that each was answered with}, whose texts are "words";
        of results that were made before answers were kept {}
    "test_pairs": NamedPairs

    Raises Damaged.
    """
    result = read_json(path, RESULT)
    name = str(Run(*(result[key] for key in ("target", "method", "layer", "seed"))))
    if f"{name}.json" != path.relative_to(root).as_posix():
        raise Damaged(f"it says that it is {name}")
    if digest_of(result) != result["digest"]:
        raise Damaged(ALTERED)
    tensors = _tensors(path.with_suffix(".safetensors"), result["tensors_digest"])
    outcomes = {name: hit_N.astype(bool) for name, hit_N in tensors["outcome"].items()}
    pairs = _test_pairs(root / result["target"] / Path(result["pairs"]).name, result["config"]["pairs_digest"])
    for part, mask in itertools.product(("train", "validation", "test"), MASKS):
        scores = result[part][mask]
        if not np.isclose(scores["disentangle"], (scores["cause"] + scores["isolation"]) / 2, atol=1e-9):
            raise Damaged(f"{part}.{mask}.disentangle is not the mean of cause and isolation")
    for mask in MASKS:
        if not _follows(result["test"][mask], outcomes.get(mask), pairs.is_cause_N):
            raise Damaged(f"its {mask} scores do not follow from its outcomes")
    words = result.get("words", {})
    for name, token_N in tensors["answer"].items():
        if token_N.shape != pairs.is_cause_N.shape or not {str(token) for token in token_N.tolist()} <= words.keys():
            raise Damaged(f"its {name} answers fit neither its pairs nor its words")
    return {**result, "outcomes": outcomes, "answers": tensors["answer"], "words": words, "test_pairs": pairs}


def _tensors(path: Path, digest: str) -> dict[str, dict]:
    """The saved outcomes and answers among a result's tensors, by name; theta and rotation stay on disk."""
    try:
        if file_digest(path) != digest:
            raise Damaged(f"{path.name} is of another run, or {ALTERED}")
        with safetensors.safe_open(path, framework="np") as file:
            found: dict[str, dict] = {"outcome": {}, "answer": {}}
            for name in file.keys():  # noqa: SIM118 - it is no dict
                kind, _, of = name.partition("_")
                if kind in found:
                    found[kind][of] = file.get_tensor(name)
            return found
    except OSError as error:
        raise Damaged(f"{path.name}: {error.strerror or error}") from None


@functools.lru_cache(maxsize=256)
def _test_pairs(path: Path, digest: str) -> NamedPairs:
    """The test pairs in a pair file with this digest."""
    content = read_json(path, lambda value: isinstance(value, dict))
    if digest_of(content) != digest:
        raise Damaged(f"{path.name} holds other pairs, or {ALTERED}")
    return NamedPairs.of(content)


def scores_of(hit_MN, is_cause_N) -> dict:
    """Shares of right answers [..] among outcomes [.., N]: of each kind, and the mean of the two."""
    cause, isolation = hit_MN[..., is_cause_N].mean(-1), hit_MN[..., ~is_cause_N].mean(-1)
    return {"cause": cause, "isolation": isolation, "disentangle": (cause + isolation) / 2}


def _follows(scores: dict, hit_N, is_cause_N) -> bool:
    """Whether saved scores are the shares of right answers among the outcomes."""
    if hit_N is None or hit_N.shape != is_cause_N.shape:
        return False
    shares = scores_of(hit_N, is_cause_N)
    return np.allclose([scores[kind] for kind in KINDS], [shares[kind] for kind in KINDS], atol=1e-9)
