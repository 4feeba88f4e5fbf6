"""Scores by RAVEL's, SAEBench's and MIB's formulas, worked out on paper where they differ from ours and each other."""

import math

import pytest

from imports import np
from results.elsewhere import over_layers, saebench, scores_elsewhere
from results.pairs import NamedPairs
from results.reading import scores_of

# kind, base's template, does the source's ask for the same, answer about base, about source, right tokens
PAIRS = [
    ("cause", 0, True, [1], [2, 3, 4, 5], 3),  # three of four: right by RAVEL and MIB alone
    ("cause", 0, True, [1], [6, 6, 6], 2),  # two of three: right by MIB alone
    ("cause", 0, True, [1], [7], 1),
    ("cause", 0, False, [1], [2, 3], 1),  # one of two: wrong everywhere
    ("cause", 1, True, [9, 1], [9, 2], 2),  # both begin alike: SAEBench's isolation
    ("isolation:a", 2, True, [1] * 7, [2], 6),  # six of seven: right by all of them, not by ours
    ("isolation:a", 2, False, [5], [3], 0),
    ("isolation:a", 2, False, [5, 5], [3], 2),
    ("isolation:a", 2, False, [5], [3], 1),
    ("isolation:b", 3, True, [8] * 7, [3], 5),  # five of seven: right by RAVEL and MIB
    ("isolation:b", 3, False, [8], [3, 3, 3], 1),
]


def made(rows=PAIRS) -> tuple[np.ndarray, NamedPairs]:
    """As a pair file has them: templates 0 to 3 ask for what base prompts are about, template 4 for something else."""
    asked_for = ["target", "target", "a", "b", "other"]
    content = {
        "test": [["x", "y", kind, at, at if same else 4, one, two] for kind, at, same, one, two, _ in rows],
        "templates": [f"{i} %s" for i in range(5)],
        "asked_for": asked_for,
        "facts": {"x": {}, "y": {}},
    }
    return np.array([right for *_, right in rows]), NamedPairs.of(content)


def test_by_hand():
    right_N, pairs = made()
    found = scores_elsewhere(right_N, pairs)
    # RAVEL: cause (2/3 -> .67, 0/1, 1/1) / 3; isolation of a (1, 2/3 -> .67) / 2, of b (1, 1) / 2.
    cause, isolation = (0.67 + 0 + 1) / 3, ((1 + 0.67) / 2 + 1) / 2
    assert found["ravel"] == pytest.approx(
        {"cause": cause, "isolation": isolation, "disentangle": (cause + isolation) / 2}
    )
    # SAEBench: cause 1 of 4; isolation 4 of 6, and the cause pair whose answers begin alike.
    assert found["saebench"] == pytest.approx({"cause": 1 / 4, "isolation": 5 / 7, "disentangle": (1 / 4 + 5 / 7) / 2})
    # MIB: 9 of 11.
    assert found["mib"] == pytest.approx({"accuracy": 9 / 11})
    # Ours, whole answers: cause 2 of 5; isolation of a 2 of 4, of b 1 of 2.
    ours = scores_of(right_N == pairs.n_tokens, pairs.group_N)
    assert ours == pytest.approx({"cause": 2 / 5, "isolation": 1 / 2, "disentangle": 0.45})


def test_tasks_weigh_the_same_and_shares_are_rounded():
    """RAVEL: a template of one pair weighs as much as one of eight, of which 1 is right: 1/8 = .125 counts as .12."""
    rows = [("cause", 0, True, [1], [2], int(i == 0)) for i in range(8)] + [("cause", 1, True, [1], [2], 1)]
    right_N, pairs = made([*rows, ("isolation:a", 2, True, [1], [2], 1)])
    assert scores_elsewhere(right_N, pairs)["ravel"]["cause"] == pytest.approx((0.12 + 1) / 2)
    assert scores_elsewhere(right_N, pairs)["saebench"]["cause"] == pytest.approx(2 / 9)


def test_no_cause_pair_is_left_for_saebench():
    assert math.isnan(saebench(np.array([True, True]), np.array([0, 1]), np.array([True, False]))["cause"])


def test_mib_over_layers():
    cells = {("country", "das", layer): {"mib": {"accuracy": score}} for layer, score in ((1, 0.5), (2, 0.9), (3, 0.1))}
    assert over_layers(cells) == {("country", "das"): {"best": 0.9, "mean": pytest.approx(0.5)}}


def test_pairs_of_an_earlier_version():
    """Five columns: their own scores are read, others' formulas have nothing to go by."""
    right_N, pairs = made()
    old = NamedPairs.of({"test": [["x", "y", "cause", 0, 0]], "templates": ["0 %s"], "facts": {}})
    assert old.answers is None
    assert old.templates == ["0 %s"]
    assert right_N.shape == pairs.n_tokens.shape
