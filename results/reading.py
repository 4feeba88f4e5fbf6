"""Read a result as if a stranger had put it there: is it what main.py wrote, whole and unaltered?

A result is sound if its json has the shape, lies where it says that it belongs, matches the digests of itself,
of its tensors and of its pairs, and if its scores follow from its saved outcomes.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

from common.files import file_digest
from data.names import HELD_OUT, KINDS
from imports import np, safetensors
from masks.names import MASKS
from results.pairs import NamedPairs, fault_in_pairs
from results.run import Run
from results.shapes import RESULT, fault

ALTERED = "was altered after it was written"
OUTCOME = {"test": "", "test_templates": "templates_"}  # what stands before a test's outcomes in a result's tensors


class Damaged(Exception):
    """What is wrong with a result, in a few words."""


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
    "right": likewise [N] int, how many tokens of the answer are right before the first that is not; {} unless RAVEL's
    "test_pairs": NamedPairs

    and where templates were held out too, the same of that test under "templates" (see `of_templates`).
    Raises Damaged.
    """
    result = read_json(path, RESULT)
    name = str(Run(*(result[key] for key in ("target", "method", "layer", "seed"))))
    if f"{name}.json" != path.relative_to(root).as_posix():
        raise Damaged(f"it says that it is {name}")
    if digest_of(result) != result["digest"]:
        raise Damaged(ALTERED)
    tensors = _tensors(path.with_suffix(".safetensors"), result["tensors_digest"])
    place = root / result["target"] / Path(result["pairs"]).name, result["config"]["pairs_digest"]
    for part, mask in itertools.product(("train", "validation", *HELD_OUT.values()), MASKS):
        scores = result.get(part, {}).get(mask)
        if scores and not np.isclose(scores["disentangle"], (scores["cause"] + scores["isolation"]) / 2, atol=1e-9):
            raise Damaged(f"{part}.{mask}.disentangle is not the mean of cause and isolation")
    tests = {}
    for held_out, part in HELD_OUT.items():
        if part in result:
            pairs, outcomes = _test_pairs(*place, part), _of_test(tensors["outcome"], part)
            outcomes = {name: hit_N.astype(bool) for name, hit_N in outcomes.items()}
            right = _of_test(tensors["right"], part)
            tests[held_out] = {"outcomes": outcomes, "right": right, "test_pairs": pairs}
            needed = {*MASKS, *(name for name, scores in result["baselines"].items() if scores)}
            if not needed <= outcomes.keys() or any(hit.shape != pairs.group_N.shape for hit in outcomes.values()):
                raise Damaged("its outcomes are not those of its pairs")
            if not all(_counts(right_N, pairs) for right_N in right.values()):
                raise Damaged("its counts of right tokens do not fit its pairs")
            for mask in MASKS:
                if not _follows(result[part][mask], outcomes.get(mask), pairs.group_N):
                    raise Damaged(f"its {mask} scores do not follow from its outcomes")
    result |= {**tests.pop("entities"), **tests}
    words, n_pairs = result.get("words", {}), len(result["test_pairs"].base)
    for name, token_N in tensors["answer"].items():
        if token_N.shape != (n_pairs,) or not {str(token) for token in token_N.tolist()} <= words.keys():
            raise Damaged(f"its {name} answers fit neither its pairs nor its words")
    return {**result, "answers": tensors["answer"], "words": words}


def of_templates(results: Iterable[dict]) -> list[dict]:
    """Of results as `read_result` gives them the same of the test in which templates were held out, where it is."""
    return [
        {
            **result,
            **result["templates"],
            "held_out": "templates",
            "templates": None,
            "answers": {},
            "test": result[HELD_OUT["templates"]],
            "baselines": {
                name: as_floats(scores_of(result["templates"]["outcomes"][name], pairs.group_N)) if scores else None
                for name, scores in result["baselines"].items()
            },
        }
        for result in results
        if result.get("templates") and (pairs := result["templates"]["test_pairs"])
    ]


def _of_test(of_tests: dict, part: str) -> dict:
    """What is of one test among all that a result keeps, by mask or baseline."""
    other = OUTCOME["test_templates"]
    return {
        name.removeprefix(OUTCOME[part]): value_N
        for name, value_N in of_tests.items()
        if name.startswith(other) == (part == "test_templates")
    }


def as_floats(scores: dict) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items()}


def _tensors(path: Path, digest: str) -> dict[str, dict]:
    """Outcomes, answers and right tokens among a result's tensors, by name; theta and rotation stay on disk."""
    try:
        if file_digest(path) != digest:
            raise Damaged(f"{path.name} is of another run, or {ALTERED}")
        with safetensors.safe_open(path, framework="np") as file:
            found: dict[str, dict] = {"outcome": {}, "answer": {}, "right": {}}
            for name in file.keys():  # noqa: SIM118 - it is no dict
                kind, _, of = name.partition("_")
                if kind in found:
                    found[kind][of] = file.get_tensor(name)
            return found
    except OSError as error:
        raise Damaged(f"{path.name}: {error.strerror or error}") from None
    except (safetensors.SafetensorError, TypeError, ValueError) as error:  # TypeError: of a kind that numpy lacks
        raise Damaged(f"{path.name} cannot be read: {' '.join(str(error).split())[:60]}") from None


@functools.lru_cache(maxsize=256)
def _test_pairs(path: Path, digest: str, part: str) -> NamedPairs:
    """The pairs of a test in a pair file with this digest."""
    content = read_json(path, lambda value: isinstance(value, dict))
    if digest_of(content) != digest:
        raise Damaged(f"{path.name} holds other pairs, or {ALTERED}")
    why = fault_in_pairs(content, part, path.parent.name)
    if why:
        raise Damaged(f"{path.name}: {why}")
    return NamedPairs.of(content, part)


def scores_of(hit_MN, group_N) -> dict:
    """Shares of right answers [..] among outcomes [.., N]: of cause, the mean over isolation's groups, and of the two.

    group_N: 0 for cause, from 1 on the groups of isolation.
    """
    share = [hit_MN[..., group_N == group].mean(-1) for group in range(group_N.max() + 1)]
    cause, isolation = share[0], np.mean(share[1:], axis=0)
    return {"cause": cause, "isolation": isolation, "disentangle": (cause + isolation) / 2}


def _counts(right_N, pairs: NamedPairs) -> bool:
    """Whether these can be numbers of right tokens of the pairs' answers."""
    if pairs.answers is None or right_N.shape != pairs.group_N.shape:
        return False
    return bool(((right_N >= 0) & (right_N <= pairs.n_tokens)).all())


def _follows(scores: dict, hit_N, group_N) -> bool:
    """Whether saved scores are the shares of right answers among the outcomes."""
    if hit_N is None or hit_N.shape != group_N.shape:
        return False
    shares = scores_of(hit_N, group_N)
    return np.allclose([scores[kind] for kind in KINDS], [shares[kind] for kind in KINDS], atol=1e-9)
