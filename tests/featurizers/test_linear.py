"""Directions and choices from training vectors: against numpy, against what was planted, and blind to other vectors."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from data.batches import PairBatch
from featurizers import linear
from featurizers.examples import Examples
from featurizers.linear import chosen_by_l1, principal_directions, probe_directions

G, EACH = 4, 30  # classes, vectors of each


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def classes(each: int = EACH) -> np.ndarray:
    return np.repeat(np.arange(G), each)


# ---------------------------------------------------------------- principal directions


def test_principal_directions_are_the_covariances_eigenvectors():
    x = rng().normal(size=(200, 10)) @ np.diag(2.0 ** -np.arange(10)) + 5  # far from 0: the mean must go
    found = principal_directions(torch.tensor(x, dtype=torch.float32)).numpy()
    _, vectors = np.linalg.eigh(np.cov(x.T))  # the smallest variance first
    assert found.shape == (10, 10)
    for direction, wanted in zip(found.T, vectors.T[::-1], strict=True):
        assert abs(direction @ wanted) > 1 - 1e-5
        assert direction[np.abs(direction).argmax()] > 0
    np.testing.assert_allclose(found.T @ found, np.eye(10), atol=1e-6)


def test_there_are_no_more_principal_directions_than_the_vectors_vary_in():
    """7 vectors vary in 6 dimensions around their mean; copies of vectors and vectors in a plane add none."""
    x = torch.tensor(rng().normal(size=(7, 10)), dtype=torch.float32)
    assert principal_directions(x).shape == (10, 6)
    assert torch.equal(principal_directions(x), principal_directions(x))
    assert principal_directions(x.repeat(5, 1)).shape == (10, 6)
    plane = torch.tensor(rng(1).normal(size=(50, 2)) @ rng(2).normal(size=(2, 10)), dtype=torch.float32)
    found = principal_directions(plane).double()
    assert found.shape == (10, 2)
    centred = plane.double() - plane.double().mean(0)
    torch.testing.assert_close(centred @ found @ found.T, centred, rtol=0, atol=1e-5)


# ---------------------------------------------------------------- features chosen by a classifier with L1

PLANTED = [3, 11, 17, 29]


def planted_features(scale: float = 1.0) -> torch.Tensor:
    """[C, 40]: one feature stands out for each class, the others are noise of the same size."""
    f = rng(3).normal(size=(G * EACH, 40))
    for g, feature in enumerate(PLANTED):
        f[classes() == g, feature] += 4
    return torch.tensor(scale * f, dtype=torch.float32)


@pytest.mark.parametrize("scale", [2.0**-20, 1.0, 2.0**20])
def test_l1_chooses_the_planted_features_at_any_scale(scale):
    found = chosen_by_l1(planted_features(scale), torch.tensor(classes()), len(PLANTED))
    assert found.nonzero()[:, 0].tolist() == PLANTED
    more = [chosen_by_l1(planted_features(by), torch.tensor(classes()), 12) for by in (scale, 1.0)]
    assert torch.equal(*more)


def test_of_features_that_come_at_once_the_largest_weights_are_chosen(monkeypatch):
    """A penalty so weak that most are used at once: the planted ones still weigh most."""
    monkeypatch.setattr(linear, "STRENGTHS", [10.0])
    f, wanted = planted_features(), torch.tensor(classes())
    assert int(chosen_by_l1(f, wanted, 40).sum()) > 30
    assert chosen_by_l1(f, wanted, len(PLANTED)).nonzero()[:, 0].tolist() == PLANTED


def test_a_smaller_choice_is_part_of_a_larger_one():
    f, wanted = planted_features(), torch.tensor(classes())
    chosen = [chosen_by_l1(f, wanted, size) for size in (1, 2, 4, 9, 20)]
    assert [int(each.sum()) for each in chosen] == [1, 2, 4, 9, 20]
    assert all((small <= large).all() for small, large in itertools.pairwise(chosen))


def test_fewer_features_are_chosen_where_fewer_differ():
    f = planted_features()
    f[:, 5:] = 0
    found = chosen_by_l1(f, torch.tensor(classes()), 20)
    assert found.nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]


# ---------------------------------------------------------------- rows of linear probes


def in_a_subspace(seed: int = 0, each: int = EACH) -> tuple[np.ndarray, np.ndarray]:
    """[C, 12] vectors, whose class is their place in three dimensions, and those dimensions [12, 3]."""
    R = np.linalg.qr(rng(7).normal(size=(12, 12)))[0]
    centres = 3 * np.linalg.qr(rng(8).normal(size=(G, G)))[0][:, :3]
    noise = 0.4 * rng(seed + 9).normal(size=(G * each, 12))
    return (np.hstack([centres[classes(each)], np.zeros((G * each, 9))]) + noise) @ R.T, R[:, :3]


@pytest.mark.parametrize("size", [1, 3, 6, 12])
def test_probe_directions_are_orthonormal(size):
    x, _ = in_a_subspace()
    found = probe_directions(torch.tensor(x, dtype=torch.float32), torch.tensor(classes()), size).double()
    assert found.shape == (12, size)
    torch.testing.assert_close(found.T @ found, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-6)


def test_what_is_orthogonal_to_probe_directions_does_not_tell_the_class():
    """A probe of our own on new vectors: the class is plain in the vectors, at chance (.25) in what is left of them.

    One probe finds the three planted dimensions all but noise, and a second one what the first has left of them.
    """
    each = 100
    (x, planted), (new, _), wanted = in_a_subspace(0, each), in_a_subspace(5, each), classes(each)
    shares = []
    for size in (0, 3, 6):
        found = probe_directions(torch.tensor(x, dtype=torch.float32), torch.tensor(wanted), size).double().numpy()
        left, new_left = (v - v @ found @ found.T for v in (x, new))
        shares.append(LogisticRegression(max_iter=1000).fit(left, wanted).score(new_left, wanted))
        if size:
            assert np.linalg.svd(found.T @ planted)[1].min() > 0.95
    assert shares[0] > 0.95 and shares[1] < 0.5
    assert abs(shares[2] - 1 / G) < 3 * (0.25 * 0.75 / len(new)) ** 0.5


def test_the_first_probe_alone_gives_its_strongest_row():
    """Two classes: the only row of a probe is its weight vector, fitted here without the code's own scaling."""
    x, _ = in_a_subspace()
    x, wanted = x[: 2 * EACH], classes()[: 2 * EACH]
    scaled = x / np.sqrt((x**2).mean())
    weight = LogisticRegression(max_iter=1000).fit(scaled - scaled.mean(0), wanted).coef_[0]
    found = probe_directions(torch.tensor(x, dtype=torch.float32), torch.tensor(wanted), 1)[:, 0].numpy()
    assert abs(found @ weight) / np.linalg.norm(weight) > 1 - 1e-4


# ---------------------------------------------------------------- which vectors


def test_examples_are_of_the_training_pairs_alone():
    """6 prompts, of which pairs name four; labels are those of cause pairs, by their source."""
    base, source, label = ([0, 3, 1, 0], [3, 0, 0, 3], [70, 50, 60, 99])
    is_cause = torch.tensor([True, True, False, False])
    rows = [torch.tensor(column) for column in (base, source, label)]
    pairs = PairBatch.of(*rows, (~is_cause).long())
    x = torch.arange(12.0).view(6, 2)
    x[[2, 4, 5]] = torch.nan
    found = Examples.of(pairs, x)
    assert found.x_ND.tolist() == x[[0, 1, 3]].tolist()
    assert found.source_CD.tolist() == x[[0, 3]].tolist()
    assert found.class_C.tolist() == [0, 1]  # of 50 and 70
