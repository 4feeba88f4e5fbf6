"""The closed-form variance against one that really leaves out each cluster, and against a case worked out by hand."""

import numpy as np
import pytest
from helpers_stats import brute_force, plain_score, random_seeds

from stats import Outcomes
from stats.jackknife import Design


def spread_of(seeds, score):
    return Design(seeds, score).spread(np.concatenate([o.hit_MN for o in seeds], axis=-1))


@pytest.mark.parametrize("n_seeds", [1, 3])
@pytest.mark.parametrize("n_clusters", [4, 9, 25])
def test_spread_equals_leaving_out_each_cluster(n_seeds, n_clusters):
    seeds = random_seeds(np.random.default_rng(n_clusters), n_seeds, n_clusters, n_pairs=150)
    spread = spread_of(seeds, "disentangle")
    value, variance = brute_force(seeds, [o.hit_MN.astype(float) for o in seeds], "disentangle")
    assert float(spread.value) == pytest.approx(value, abs=1e-12)
    assert float(spread.clusters) == pytest.approx(variance, rel=1e-9)


def test_spread_by_hand():
    """Three clusters, each ordered pair once for cause; isolation has no part in the score.

    Right are 0 -> 1, 1 -> 0 and 0 -> 2: the score is 1/2.  Without cluster 0 it is 0, without 1 it is 1/2, without 2
    it is 1.  The jackknife variance is 2/3 (1/4 + 0 + 1/4) = 1/3.  Dyads sum to 1/6, 0 and -1/6, squares 1/18; the
    overlap is 2 * 3 (1/3)^2 / (3 (2/3)^2) = 1/2, and 1/18 is just what clusters alone explain: 1/2 * 1/3 * 1/3.
    """
    base, source = [0, 1, 0, 2, 1, 2, 0], [1, 0, 2, 0, 2, 1, 1]
    hits, is_cause = [1, 1, 1, 0, 0, 0, 1], [True] * 6 + [False]
    spread = spread_of([Outcomes.of_kinds(np.array(hits, bool), is_cause, base, source)], "cause")
    assert float(spread.value) == pytest.approx(1 / 2)
    assert float(spread.clusters) == pytest.approx(1 / 3)
    assert float(spread.main) == pytest.approx(1)
    assert (spread.n_clusters, spread.effective_clusters, spread.n_pairs) == (3, pytest.approx(3), pytest.approx(6))


@pytest.mark.parametrize(("effect", "least", "most"), [(1.0, 0.95, 1.05), (0.0, 1.0, 1.5)])
def test_spread_averages_to_the_variance(effect, least, most):
    """All ordered pairs of 8 clusters.

    With effects the mean of the estimate is the variance of the mean.  Without, the jackknife alone is 2 * 7 / 6 = 2.3
    times that; what remains above 1 is due to the share of clusters being cut off at 0.
    """
    rng, C, M = np.random.default_rng(0), 8, 20000
    base, source = (x.ravel() for x in np.meshgrid(np.arange(C), np.arange(C)))
    base, source = base[base != source], source[base != source]
    n = len(base)
    seeds = [Outcomes(np.zeros(2 * n, bool), np.repeat([0, 1], n), np.tile(base, 2), np.tile(source, 2))]
    of_base, of_source = effect * rng.normal(size=(2, M, C))
    values = of_base[:, base] + of_source[:, source] + rng.normal(size=(M, n))
    spread = Design(seeds, "cause").spread(np.concatenate([values, values], axis=1))
    true = effect**2 * 2 / C + 1 / n
    assert least < spread.clusters.mean() / true < most


def test_spread_attributes_variance_to_seeds():
    """Seeds of scores 0.9 and 0.5, all clusters alike: nearly all of the variance is the seeds'."""
    base, source = (x.ravel() for x in np.meshgrid(np.arange(20), np.arange(20)))
    kind = np.arange(400) % 2 == 0
    hits = [np.arange(400) % 20 // 2 < k for k in (9, 5)]
    rng = np.random.default_rng(1)
    seeds = [Outcomes.of_kinds(h[rng.permutation(400)], kind, base, source) for h in hits]
    spread = spread_of(seeds, "disentangle")
    assert float(spread.value) == pytest.approx(0.7, abs=0.02)
    assert float(spread.seeds) == pytest.approx(0.4**2 / 2 / 2, rel=0.15)
    assert float(spread.clusters) < float(spread.seeds) / 10


def test_spread_weighs_isolation_attributes_equally():
    rng = np.random.default_rng(2)
    group = rng.choice(3, 300, p=[0.4, 0.5, 0.1])
    hits = rng.random(300) < np.array([0.8, 0.9, 0.2])[group]
    ends = rng.integers(0, 10, (2, 300))
    seeds = [Outcomes(hits, group, *ends, ("cause", "isolation:continent", "isolation:language"))]
    spread = spread_of(seeds, "isolation")
    assert float(spread.value) == pytest.approx((hits[group == 1].mean() + hits[group == 2].mean()) / 2)
    assert float(spread.value) == pytest.approx(plain_score(seeds, [hits.astype(float)], "isolation"))


def test_spread_of_many_cells_equals_one_by_one():
    seeds = random_seeds(np.random.default_rng(3), 2, cells=(3, 2))
    many = spread_of(seeds, "disentangle")
    one = spread_of([o.cell((2, 1)) for o in seeds], "disentangle")
    for name in ("value", "clusters", "df", "main", "seeds"):
        assert getattr(many, name).shape == (3, 2)
        assert getattr(many, name)[2, 1] == pytest.approx(float(getattr(one, name)))
