"""Agreement of masks, and what chance would give: counted out, and drawn at random."""

import itertools

import numpy as np
import pytest

from explain.overlap import Selection, agreement, by_chance, compare, jaccard, overlaps, shared, space_of
from featurizers.controls import random_features
from results.run import Run


def of(method: str, seed: int, selected, basis_DS=None, target: str = "country") -> Selection:
    return Selection(Run(target, method, 2, seed), frozenset(selected), basis_DS)


@pytest.mark.parametrize(("a", "b", "n"), [(2, 3, 6), (4, 4, 6), (0, 3, 5), (5, 5, 5), (1, 1, 9)])
def test_chance_of_sets_is_that_of_all_of_them(a, b, n):
    one = set(range(a))
    index = [len(one & set(two)) / len(one | set(two)) for two in itertools.combinations(range(n), b)]
    assert by_chance(a, b, n) == pytest.approx((np.mean(index), np.std(index)))


@pytest.mark.parametrize(("a", "b", "n"), [(12, 20, 64), (32, 32, 64), (3, 3, 20)])
def test_chance_of_subspaces_is_that_of_random_ones(a, b, n):
    rng = np.random.default_rng(0)
    bases = [np.linalg.qr(rng.standard_normal((n, n)))[0][:, :b] for _ in range(800)]
    index = [
        jaccard(shared(of("das", 0, range(a), np.eye(n)[:, :a]), of("das", 1, range(b), basis)), a, b)
        for basis in bases
    ]
    mean, sd = by_chance(a, b, n, as_subspaces=True)
    assert np.mean(index) == pytest.approx(mean, abs=5 * sd / 800**0.5 + 0.002)
    assert np.std(index) == pytest.approx(sd, rel=0.1)


def test_shared_dimensions_of_coordinates_are_the_features_in_both():
    eye = np.eye(6)
    one, two = of("das", 0, [0, 1, 2], eye[:, [0, 1, 2]]), of("das", 1, [2, 3], eye[:, [2, 3]])
    assert shared(one, two) == 1
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    assert shared(of("das", 0, [0, 1, 2], eye[:, :3] @ turned), one) == pytest.approx(3)  # other axes, same subspace


def test_overlap_is_with_the_same_features_only():
    own = of("bloom", 0, [1, 2, 3])
    others = [
        of("bloom", 1, [2, 3, 4, 5]),
        of("bloom", 0, [3], target="continent"),
        of("bloom:shuffled", 0, [9]),
        of("openai", 1, [1, 2, 3]),
        of("bloom:random", 1, [1, 2, 3]),
        of("bloom:permuted", 0, [1, 2, 3]),
    ]
    found = overlaps(own, [own, *others], 50)
    assert [(each["method"], each["target"], each["shared"], each["jaccard"]) for each in found] == [
        ("bloom", "country", 2, 2 / 5),
        ("bloom", "continent", 1, 1 / 3),
        ("bloom:shuffled", "country", 0, 0),
    ]
    assert space_of(Run("country", "das:random", 2, 0)) == space_of(Run("country", "das", 2, 1))
    assert space_of(Run("country", "das", 3, 0)) != space_of(Run("country", "das", 2, 0))


def test_agreement_is_the_mean_over_pairs_of_seeds():
    three = [of("neuron", 0, [1, 2]), of("neuron", 1, [2, 3]), of("neuron", 2, [2, 3])]
    found = agreement(three[0], [*three, of("neuron", 0, [7], target="continent")], 64)
    assert found["seeds"] == [0, 1, 2]
    assert found["jaccard"] == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)
    assert (found["lowest"], found["highest"], found["n_pairs"]) == (1 / 3, 1, 3)
    mean, sd = by_chance(2, 2, 64)
    assert (found["chance"], found["chance_sd"]) == pytest.approx((mean, sd / 3**0.5))
    assert agreement(three[0], three[:1], 64) is None
    empty = [of("neuron", seed, []) for seed in (0, 1)]
    assert agreement(empty[0], empty, 64) is None
    assert compare(*empty, 64)["jaccard"] is None
    permuted = [of("bloom:permuted", seed, [1]) for seed in (0, 1)]
    assert agreement(permuted[0], permuted, 64) is None  # each seed permutes anew


def test_seeds_of_a_negative_control_agree_as_by_chance():
    """METHOD:features: as many random features as a mask selects, drawn as the grid draws them."""
    n = 200
    masks = [
        of("bloom:features", seed, random_features(n, 60 + seed % 5, seed).nonzero()[:, 0].tolist())
        for seed in range(30)
    ]
    found = agreement(masks[0], masks, n)
    assert found["n_pairs"] == 435
    assert abs(found["jaccard"] - found["chance"]) < 3 * found["chance_sd"]
    biased = [of("bloom:features", s.run.seed, {*range(20), *s.selected}) for s in masks]
    assert agreement(biased[0], biased, n)["jaccard"] > found["chance"] + 3 * found["chance_sd"]
