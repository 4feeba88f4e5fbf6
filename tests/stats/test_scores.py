import numpy as np
import pytest
from helpers_stats import flipped, random_seeds, relabelled
from hypothesis import given, settings
from hypothesis import strategies as st

from stats import FEWEST, SCORES, Outcomes, interval, intervals, too_few_clusters
from stats.scores import wilson


@st.composite
def some_seeds(draw, min_seeds=1):
    """Outcomes from nothing right to all right, of 2 to 12 clusters and 1 to 4 seeds."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n_seeds, n_clusters = draw(st.integers(min_seeds, 4)), draw(st.integers(2, 12))
    p = draw(st.sampled_from([-9.0, 0.02, 0.3, 0.7, 0.97, 9.0]))
    seeds = random_seeds(rng, n_seeds, n_clusters, draw(st.integers(4, 80)), p)
    if abs(p) == 9:  # exactly 0 or 1
        seeds = [Outcomes(np.full(len(o.group_N), p > 0), o.group_N, *_ends(o)) for o in seeds]
    return seeds


def _ends(outcomes):
    return outcomes.base_cluster_N, outcomes.source_cluster_N


@settings(max_examples=100, deadline=None)
@given(some_seeds(), st.sampled_from(SCORES), st.booleans())
def test_interval_has_width_within_0_and_1(seeds, score, new_seeds):
    found = interval(seeds, score, new_seeds and len(seeds) > 1)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 1e-3


@settings(max_examples=30, deadline=None)
@given(some_seeds(), st.sampled_from(SCORES), st.booleans())
def test_interval_of_wrong_answers_is_mirrored(seeds, score, new_seeds):
    new_seeds = new_seeds and len(seeds) > 1
    right, wrong = (interval(s, score, new_seeds) for s in (seeds, flipped(seeds)))
    assert (wrong.value, wrong.low, wrong.high) == pytest.approx((1 - right.value, 1 - right.high, 1 - right.low))


@settings(max_examples=30, deadline=None)
@given(some_seeds(), st.sampled_from(SCORES), st.integers(0, 99), st.booleans())
def test_interval_ignores_order_and_names(seeds, score, seed, new_seeds):
    new_seeds = new_seeds and len(seeds) > 1
    others = relabelled(seeds[::-1], np.random.default_rng(seed))
    a, b = interval(seeds, score, new_seeds), interval(others, score, new_seeds)
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))


@settings(max_examples=30, deadline=None)
@given(some_seeds(min_seeds=2), st.sampled_from(SCORES))
def test_interval_of_new_seeds_holds_that_of_these(seeds, score):
    these, new = interval(seeds, score), interval(seeds, score, new_seeds=True)
    assert new.low <= these.low + 1e-9
    assert these.high <= new.high + 1e-9


@settings(max_examples=30, deadline=None)
@given(some_seeds(), st.sampled_from(SCORES))
def test_interval_grows_with_level(seeds, score):
    low, high = interval(seeds, score, level=0.8), interval(seeds, score, level=0.99)
    assert high.low <= low.low <= low.high <= high.high


def test_interval_of_all_right_by_hand():
    """Nothing wrong in all ordered pairs of 8 clusters: 8 answers, t of 7 degrees of freedom; Wilson's lower end is
    8 / (8 + t^2) = 8 / (8 + 2.3646^2) = 0.5886."""
    base, source = (x.ravel() for x in np.meshgrid(np.arange(8), np.arange(8)))
    apart = base != source
    ends = np.tile(base[apart], 2), np.tile(source[apart], 2)
    seeds = [Outcomes.of_kinds(np.ones(112, bool), np.arange(112) < 56, *ends)]
    for found in intervals(seeds).values():
        assert (found.low, found.high) == pytest.approx((0.5886, 1), abs=1e-4)


def test_wilson_by_hand():
    """8 of 10 at z = 1.96: the textbook interval is 0.490 to 0.943."""
    low, high = wilson(np.array(0.8), 1.96**2 / 10)
    assert (float(low), float(high)) == pytest.approx((0.490, 0.943), abs=5e-4)


def test_interval_of_cells_equals_one_by_one():
    seeds = random_seeds(np.random.default_rng(0), 2, cells=(2, 3))
    many, one = interval(seeds, "cause", True), interval([o.cell((1, 2)) for o in seeds], "cause", True)
    assert many.low.shape == (2, 3)
    assert isinstance(one.low, float)
    assert (many.low[1, 2], many.high[1, 2]) == pytest.approx((one.low, one.high))


def test_interval_refuses_new_seeds_from_one():
    with pytest.raises(ValueError, match="one seed says nothing about new seeds"):
        interval(random_seeds(np.random.default_rng(0)), "cause", new_seeds=True)
    with pytest.raises(ValueError, match="no seed"):
        interval([], "cause")


def test_too_few_clusters_warns_below_the_threshold():
    def ring(n):  # every cluster meets the next one, so that all weigh the same
        ends = np.tile(np.arange(n), 2), np.tile((np.arange(n) + 1) % n, 2)
        return [Outcomes.of_kinds(np.ones(2 * n, bool), np.arange(2 * n) < n, *ends)]

    assert too_few_clusters(ring(FEWEST)) is None
    assert f"only {FEWEST - 1} countries among the test pairs: below" in too_few_clusters(
        ring(FEWEST - 1), unit="countries"
    )


def test_too_few_clusters_counts_a_dominant_cluster():
    """20 clusters, but every pair touches cluster 0: worth hardly 4."""
    source = np.tile(np.arange(1, 21), 2)
    seeds = [Outcomes.of_kinds(np.ones(40, bool), np.arange(40) < 20, np.zeros(40, int), source)]
    assert "only 21 clusters among the test pairs, worth 3.8 of equal size" in too_few_clusters(seeds)


def test_interval_of_a_single_error_stays_wide():
    """A single error cannot show that errors do not come in clusters: half of the assumption that they do remains."""
    base, source = (x.ravel() for x in np.meshgrid(np.arange(8), np.arange(8)))
    apart = base != source
    ends = np.tile(base[apart], 2), np.tile(source[apart], 2)
    found = []
    for n_wrong in (0, 1):
        hits = np.arange(112) >= n_wrong
        found.append(interval([Outcomes.of_kinds(hits, np.arange(112) < 56, *ends)], "disentangle"))
    assert found[0].high - found[0].low > found[1].high - found[1].low > 0.1
