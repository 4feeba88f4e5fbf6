import math

import numpy as np
import pytest
from helpers_stats import random_seeds, relabelled
from hypothesis import given, settings
from hypothesis import strategies as st

from stats import SCORES, Outcomes, difference, holm, interval, least_detectable, plan_difference, verdict
from stats.differences import tango
from stats.planning import Components


@st.composite
def two_cells(draw):
    """Two cells on the same pairs, from the same answers to unlike ones."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n_seeds, n_clusters = draw(st.integers(1, 3)), draw(st.integers(2, 12))
    a = random_seeds(rng, n_seeds, n_clusters, draw(st.integers(4, 80)), draw(st.sampled_from([0.05, 0.6, 0.95])))
    flips, only_up = draw(st.sampled_from([0.0, 0.02, 0.3, 1.0])), draw(st.booleans())
    b = []
    for o in a:
        flip = (rng.random(o.hit_MN.shape) < flips) & ~(o.hit_MN & only_up)
        b.append(Outcomes(o.hit_MN ^ flip, o.group_N, o.base_cluster_N, o.source_cluster_N))
    return a, b


@settings(max_examples=80, deadline=None)
@given(two_cells(), st.sampled_from(SCORES), st.booleans())
def test_difference_has_width_within_its_bounds(cells, score, new_seeds):
    a, b = cells
    found = difference(a, b, score, new_seeds and len(a) > 1)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 1e-3
    assert 0 < found.p <= 1
    assert found.discordant >= abs(found.value)


@settings(max_examples=40, deadline=None)
@given(two_cells(), st.sampled_from(SCORES), st.booleans())
def test_difference_changes_sign_with_order(cells, score, new_seeds):
    a, b = cells
    new_seeds = new_seeds and len(a) > 1
    ab, ba = difference(a, b, score, new_seeds), difference(b, a, score, new_seeds)
    assert (ab.value, ab.low, ab.high) == pytest.approx((-ba.value, -ba.high, -ba.low), abs=1e-9)
    assert ab.p == pytest.approx(ba.p)


@settings(max_examples=50, deadline=None)
@given(two_cells(), st.sampled_from(SCORES), st.integers(0, 99))
def test_difference_ignores_order_and_names(cells, score, seed):
    a, b = (relabelled(cell, np.random.default_rng(seed)) for cell in cells)
    ours, theirs = difference(*cells, score), difference(a, b, score)
    assert (ours.low, ours.high, ours.p) == pytest.approx((theirs.low, theirs.high, theirs.p), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(two_cells(), st.sampled_from(SCORES), st.booleans())
def test_p_value_is_the_level_at_which_the_interval_ends_at_0(cells, score, new_seeds):
    a, b = cells
    new_seeds = new_seeds and len(a) > 1
    p = difference(a, b, score, new_seeds).p
    for wider in (0.5, 0.98, 1.02, 2.0):
        if 1e-6 < p * wider < 1:
            found = difference(a, b, score, new_seeds, level=1 - p * wider)
            excludes_0 = found.low > 0 or found.high < 0
            assert excludes_0 == (wider > 1) or found.value == 0


def test_equal_methods_cannot_be_told_apart():
    a = random_seeds(np.random.default_rng(0), 2)
    found = difference(a, a, "disentangle", new_seeds=True)
    assert (found.value, found.p, found.discordant) == (0, 1, 0)
    assert found.low == pytest.approx(-found.high)
    assert found.high > 0.05
    assert verdict(found.value, found.p) == "cannot tell"
    assert 0.05 < least_detectable(found) <= 1


def pairwise(n_clusters, hit_of):
    """All ordered pairs of clusters, once for each kind; hit_of(base, source) -> right or not."""
    base, source = (x.ravel() for x in np.meshgrid(np.arange(n_clusters), np.arange(n_clusters)))
    apart = base != source
    base, source = np.tile(base[apart], 2), np.tile(source[apart], 2)
    return [Outcomes.of_kinds(hit_of(base, source), np.arange(len(base)) < len(base) // 2, base, source)]


def test_paired_difference_sees_what_separate_intervals_do_not():
    """20 clusters; B is right for every source of clusters 0 to 9 and for no other.  A also gets source 10 + k right
    from base k and from the three bases after 10 + k, counted round among 10 to 19.

    A adds 10 * 4 = 40 of the 380 pairs of a kind: B scores 1/2, A 1/2 + 2/19.  The ten good sources of twenty make a
    score's standard error about sqrt(1/4 / 20) = 0.11, so each interval is about 2 * 2.09 * 0.11 wide: they overlap.

    The difference, 2/19 = 0.105, moves little: without an upper cluster, which touches 7 of the 40, it is 33/342,
    without a lower one 39/342, that is 36/342 -+ 1/114.  The jackknife variance is 19/20 * 20 / 114^2, a standard
    error of 0.038, and t = 0.105 / 0.038 = 2.8.
    """

    def only_b(_base, source):
        return source < 10

    def also_a(base, source):
        k = source - 10
        near = np.isin((base - source) % 10, (1, 2, 3)) & (base >= 10)
        return (source < 10) | (base == k) | (near & (source >= 10))

    a, b = pairwise(20, also_a), pairwise(20, only_b)
    of_a, of_b = interval(a, "disentangle"), interval(b, "disentangle")
    found = difference(a, b, "disentangle")
    assert (of_a.value, of_b.value, found.value) == pytest.approx((0.5 + 2 / 19, 0.5, 2 / 19))
    assert of_b.high - of_b.low == pytest.approx(2 * 2.09 * 0.11, rel=0.15)
    assert of_a.low < of_b.high - 0.2  # far overlap
    assert 0.03 < found.standard_error < 0.042
    assert found.low > 0.02
    assert found.p < 0.02
    assert verdict(found.value, found.p) == "better"
    assert verdict(-found.value, found.p) == "worse"


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(9, 2, 40), (1, 0, 44), (0, 0, 12), (30, 0, 30)])
def test_tango_solves_the_score_equation(only_a, only_b, n):
    """At each end of the interval, with q the likeliest share of `only B` found on a grid, the score is z."""
    D, u, z = (only_a - only_b) / n, (only_a + only_b) / n, 1.96
    for d in (float(end) for end in tango(D, u, z**2 / n)):
        if abs(d) == 1:
            continue
        q = np.linspace(max(0, -d) + 1e-9, (1 - d) / 2 - 1e-9, 400001)
        counts = ((only_a, q + d), (only_b, q), (n - only_a - only_b, 1 - 2 * q - d))
        likely = q[np.argmax(sum(count * np.log(np.maximum(share, 1e-12)) for count, share in counts))]
        assert (D - d) ** 2 * n / (2 * likely + d * (1 - d)) == pytest.approx(z**2, rel=1e-3)


def test_tango_at_0_is_mcnemar():
    """Of n = 100 pairs 15 and 5 are discordant: z^2 = (15 - 5)^2 / (15 + 5) = 5; the interval ends at 0 just there."""
    for z2, holds in ((4.99, False), (5.01, True)):
        low, _ = tango(0.1, 0.2, z2 / 100)
        assert (float(low) <= 1e-9) == holds


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04; the last may not fall below 0.06."""
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([[0.01, 0.9], [0.03, 0.02]]), [[0.02, 0.9], [0.04, 0.04]])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])


def test_verdict_needs_p_below_alpha():
    assert verdict([0.1, -0.1, 0.1, 0.0], [0.04, 0.04, 0.05, 0.01]).tolist() == [
        "better",
        "worse",
        *["cannot tell"] * 2,
    ]


def test_difference_broadcasts_cells():
    seeds = random_seeds(np.random.default_rng(0), 2, cells=(3,))
    each = difference([o.cell((slice(None), None)) for o in seeds], seeds, "cause", new_seeds=True)
    one = difference(*([o.cell(i) for o in seeds] for i in (2, 0)), "cause", new_seeds=True)
    assert each.p.shape == (3, 3)
    assert (each.low[2, 0], each.p[2, 0]) == pytest.approx((one.low, one.p))


def test_difference_refuses_other_pairs():
    a, b = (random_seeds(np.random.default_rng(i)) for i in (0, 1))
    with pytest.raises(ValueError, match="same pairs"):
        difference(a, b, "cause")
    with pytest.raises(ValueError, match="same pairs"):
        difference(a, a * 2, "cause")


def test_least_detectable_by_hand():
    """20 clusters: the standard error times t of 19 degrees of freedom, 2.093 for 95 % and 0.861 for 80 % power."""
    a = random_seeds(np.random.default_rng(0), 1, 20, 800)
    b = random_seeds(np.random.default_rng(1), 1, 20, 800)
    b = [Outcomes(y.hit_MN, x.group_N, x.base_cluster_N, x.source_cluster_N) for x, y in zip(a, b, strict=True)]
    found = difference(a, b, "cause")
    assert least_detectable(found) == pytest.approx(2.954 * found.standard_error, rel=0.02)
    assert least_detectable(found, family=9) > 1.2 * least_detectable(found)


def test_plan_by_hand():
    """Only clusters vary: standard error sqrt(0.2 / 50), t of 49 degrees of freedom 2.0096 + 0.8490."""
    whole = Components(discordant=0.2, cluster=1, city=0, seed=0)
    assert plan_difference(50, 10**9, components=whole) == pytest.approx(2.8586 * math.sqrt(0.2 / 50), rel=1e-3)


def test_plan_falls_with_each_of_its_numbers():
    plain = {"n_clusters": 20, "n_pairs": 500, "n_seeds": 2, "n_cities": 60, "new_seeds": True}
    least = plan_difference(**plain)
    for name in ("n_clusters", "n_pairs", "n_seeds", "n_cities"):
        assert plan_difference(**{**plain, name: 2 * plain[name]}) < least
    assert plan_difference(**plain, family=9) > least
    with pytest.raises(ValueError, match="a plan needs"):
        plan_difference(1, 100)
