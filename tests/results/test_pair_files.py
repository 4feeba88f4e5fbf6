"""Pair files that anyone may have written: what is wrong with one is said, and what passes can be used."""

import copy
import random

import pytest

from results.outcomes import outcomes_of
from results.pairs import NamedPairs, fault_in_pairs

FACTS = {name: {"country": f"C{i}", "continent": f"K{i % 2}", "language": f"L{i}"} for i, name in enumerate("abcd")}
PAPER = {
    "test": [["a", "b", "cause"], ["c", "d", "isolation"], ["b", "c", "cause"]],
    "facts": {name: {key: values[key] for key in ("country", "continent")} for name, values in FACTS.items()},
}
RAVEL = {
    "test": [
        ["a", "b", "cause", 0, 1, [1], [2, 3]],
        ["c", "d", "isolation:language", 1, 0, [4], [5]],
        ["d", "a", "isolation:continent", 2, 2, [6, 7], [8]],
    ],
    "facts": FACTS,
    "templates": ["%s is in", "In %s they speak", "%s lies in"],
    "asked_for": ["country", "language", "continent"],
}
OLDER = {**RAVEL, "test": [row[:5] for row in RAVEL["test"]]}
SOUND = {"paper": PAPER, "ravel": RAVEL, "of an earlier version": OLDER}
JUNK = (None, 3, 1.5, True, "x", "cause", [], [1], ["a"], {}, {"a": 1}, [[]], 10**6, -1)


def use(content: dict) -> None:
    """All that tables do with pairs."""
    pairs = NamedPairs.of(content)
    for i in range(len(pairs.base)):
        asked = pairs.asked(i, "country")
        pairs.question(i, asked)
        assert isinstance(pairs.facts[pairs.base[i]][asked], str)
    outcomes_of(pairs.group_N == 0, pairs, "country")
    if pairs.answers is not None:
        assert (pairs.n_tokens > 0).all()


@pytest.mark.parametrize("name", SOUND)
def test_sound(name):
    assert fault_in_pairs(SOUND[name], "test", "country") is None
    use(SOUND[name])


def places(value, path=()):
    """Every place in a json: the keys that lead there."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@pytest.mark.parametrize("name", SOUND)
def test_damaged(name):
    """Junk at every place, or nothing, or one item more: either a fault is told, or all uses of it go well."""
    rng, n_faults = random.Random(0), 0
    for path in list(places(SOUND[name]))[1:]:
        for junk in (*JUNK, "gone", "more"):
            content = copy.deepcopy(SOUND[name])
            inner = content
            for key in path[:-1]:
                inner = inner[key]
            if junk == "gone":
                del inner[path[-1]]
            elif junk == "more" and isinstance(inner[path[-1]], list):
                inner[path[-1]].append(rng.choice(JUNK))
            else:
                inner[path[-1]] = copy.deepcopy(junk)
            why = fault_in_pairs(content, "test", "country")
            if why is None:
                use(content)
            n_faults += why is not None
    assert n_faults > 100
