"""Paired differences of two methods: interval, p-value, Holm's correction, verdict; see docs/statistics.md.

A difference is that of method A minus method B on the same pairs of the same seeds.  A pair counts +1 if only A is
right, -1 if only B is, else 0.  With D the score of these, u that of their absolute values and n_eff independent pairs
as informative as all of them, the interval is Tango's (1998) for two paired shares, its test at 0 McNemar's.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from imports import np
from stats.jackknife import Design
from stats.outcomes import Outcomes
from stats.scores import Uncertainty, plain, require_seeds
from stats.student import SMALLEST_P, t_quantile, t_two_sided

BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"


@dataclass(frozen=True)
class Difference:
    """A score of A minus that of B; floats, or arrays over the leading axes of the hits; ends within [-1, 1].

    p: two-sided; below 1 - level exactly if the interval excludes 0.
    discordant: u above, the share of pairs that only one of the two gets right.
    of_clusters, of_seeds: the two parts of its variance, with all that an interval takes into account; of_seeds is 0
    for these seeds.  df_clusters, df_seeds: their degrees of freedom.
    new_seeds: as in `Interval`.
    """

    value: float
    low: float
    high: float
    p: float
    discordant: float
    of_clusters: float
    of_seeds: float
    df_clusters: float
    df_seeds: int
    level: float
    new_seeds: bool
    n_clusters: int
    effective_clusters: float
    n_seeds: int

    @property
    def standard_error(self):
        return plain(np.sqrt(np.add(self.of_clusters, self.of_seeds)))


def difference(
    a: Sequence[Outcomes], b: Sequence[Outcomes], score: str, new_seeds: bool = False, level: float = 0.95
) -> Difference:
    """A minus B; entry s of both is the same seed.  Leading axes of the hits broadcast: [A, 1, N] and [B, N] -> [A, B].

    Raises ValueError if the two were not tested on the same pairs and seeds, and as `interval` does.
    """
    if len(a) != len(b) or not all(x.has_pairs_of(y) for x, y in zip(a, b, strict=True)):
        raise ValueError("the two methods were not tested on the same pairs with the same seeds")
    design = Design(a, score)
    require_seeds(design.n_seeds, new_seeds)
    hits_a, hits_b = (np.concatenate([o.hit_MN for o in seeds], axis=-1).astype(np.int8) for seeds in (a, b))
    change_MN = hits_a - hits_b
    spread = design.spread(change_MN)
    u = np.clip(np.round(design.mean(np.abs(change_MN)), 12), 0, 1)
    D = np.clip(np.round(spread.value, 12), -u, u)
    uncertainty = Uncertainty(spread, u - D**2, u, new_seeds)
    low, high = tango(D, u, uncertainty.ratio(level))
    p, of = _p_value(D, u, uncertainty), uncertainty
    return Difference(
        *(plain(x) for x in (D, low, high, p, u, of.clusters, of.seeds, of.df_clusters)),
        of.df_seeds,
        level,
        new_seeds,
        spread.n_clusters,
        spread.effective_clusters,
        spread.n_seeds,
    )


def tango(D, u, ratio):
    """Tango's (1998) interval of a paired difference D with a share u of discordant pairs, as (low, high).

    These are the d with (D - d)^2 <= ratio * (2 q + d (1 - d)), ratio = z^2 / n, where q is the likeliest share of
    pairs that only B gets right if the difference is d.  Found by bisection.
    """
    D, u, ratio = np.broadcast_arrays(D, u, ratio)

    def outside(d):
        middle = (2 - D) * d - u
        q = (np.sqrt(np.maximum(middle**2 + 4 * (u - D) * d * (1 - d), 0)) - middle) / 4
        return (D - d) ** 2 > ratio * np.maximum(2 * q + d * (1 - d), 0)

    ends = []
    for limit in (-1.0, 1.0):
        far, near = np.full(D.shape, limit), np.array(D, float)
        for _ in range(48):
            middle = (far + near) / 2
            out = outside(middle)
            far, near = np.where(out, middle, far), np.where(out, near, middle)
        ends.append(near)
    return ends[0], ends[1]


def _p_value(D, u, uncertainty: Uncertainty):
    """The level at which half_width_squared equals D^2 (u - D^2) / u: at which the interval ends at 0."""
    square = D**2 * uncertainty.single / np.maximum(u, 1e-12)
    t = np.sqrt(square / uncertainty.clusters)
    if not np.any(uncertainty.seeds):
        return t_two_sided(t, uncertainty.df_clusters)
    # Of t_c between 0 and t above: t_c^2 V_clusters + t_s^2 V_seeds grows with t_c.
    log_p, t_seeds = _table(uncertainty.df_seeds)
    low, high = np.zeros_like(t), t
    for _ in range(45):
        middle = (low + high) / 2
        p = t_two_sided(middle, uncertainty.df_clusters)
        of_seeds = np.interp(np.log(p), log_p, t_seeds)
        too_far = middle**2 * uncertainty.clusters + of_seeds**2 * uncertainty.seeds > square
        low, high = np.where(too_far, low, middle), np.where(too_far, middle, high)
    return t_two_sided(low, uncertainty.df_clusters)


@functools.cache
def _table(df: int):
    """Log p-values and their t, rising and falling, to interpolate between."""
    log_p = np.linspace(np.log(SMALLEST_P), 0, 4000)
    return log_p, t_quantile(df, 1 - np.exp(log_p))


def holm(p_F):
    """P-values adjusted for a family of F tests, [..., F] -> [..., F] (Holm 1979).

    Rejecting what is at most 0.05 wrongly rejects any of the family in at most 5 % of families.  NaN stays NaN and does
    not count.
    """
    p_F = np.asarray(p_F, float)
    order = np.argsort(p_F, axis=-1, kind="stable")  # NaN last
    n = (~np.isnan(p_F)).sum(-1, keepdims=True)
    factor = np.maximum(n - np.arange(p_F.shape[-1]), 1)
    sorted_F = np.take_along_axis(p_F, order, -1)
    adjusted = np.minimum(np.maximum.accumulate(sorted_F * factor, axis=-1), 1)
    result = np.empty_like(p_F)
    np.put_along_axis(result, order, adjusted, -1)
    return result


def verdict(value, p, alpha: float = 0.05):
    """One of BETTER, WORSE, CANNOT_TELL for a difference and its p-value, adjusted or not; arrays of str for arrays."""
    value, p = np.broadcast_arrays(value, p)
    words = np.where(value > 0, BETTER, WORSE)
    words = np.where((p < alpha) & (value != 0), words, CANNOT_TELL)
    return str(words) if words.ndim == 0 else words
