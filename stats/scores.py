"""Intervals of scores: Wilson's, for as many independent answers as the pairs are worth; see docs/statistics.md."""

from collections.abc import Sequence
from dataclasses import dataclass

from imports import np
from stats.jackknife import Design, Spread
from stats.outcomes import SCORES, Outcomes
from stats.student import t_quantile

UNSEEN = 0.04  # weight of a cluster that was not drawn and is all right or all wrong; measured, docs/statistics.md
FEWEST = 8  # effective clusters; measured, docs/statistics.md


@dataclass(frozen=True)
class Interval:
    """A score and its interval, floats, or arrays over the leading axes of the hits; all within [0, 1].

    new_seeds: the interval is for another draw of seeds and clusters; otherwise for these seeds on new clusters.
    """

    value: float
    low: float
    high: float
    level: float
    new_seeds: bool
    n_clusters: int
    effective_clusters: float
    n_seeds: int


def interval(seeds: Sequence[Outcomes], score: str, new_seeds: bool = False, level: float = 0.95) -> Interval:
    """The interval of a score of one cell, or of several on the same pairs; `seeds` has one entry per seed.

    new_seeds: see `Interval`; it needs two seeds at least.
    Raises ValueError for no seed, one seed with new_seeds, an unknown score, or outcomes that do not fit.
    """
    design = Design(seeds, score)
    require_seeds(design.n_seeds, new_seeds)
    spread = design.spread(np.concatenate([outcomes.hit_MN for outcomes in seeds], axis=-1))
    p = np.clip(np.round(spread.value, 12), 0, 1)  # 1 where all are right
    uncertainty = Uncertainty(spread, p * (1 - p), np.minimum(p, 1 - p), new_seeds)
    low, high = wilson(p, uncertainty.ratio(level))
    return Interval(
        plain(p),
        plain(low),
        plain(high),
        level,
        new_seeds,
        spread.n_clusters,
        spread.effective_clusters,
        spread.n_seeds,
    )


def intervals(seeds: Sequence[Outcomes], new_seeds: bool = False, level: float = 0.95) -> dict[str, Interval]:
    """`interval` of each of SCORES."""
    return {score: interval(seeds, score, new_seeds, level) for score in SCORES}


class Uncertainty:
    """The variance of an estimate with all that is added to what was observed.

    spread: of the estimate.
    single [...]: the variance of a single pair's value: p (1 - p) of a score, u - D^2 of a difference.
    rare [...]: the share of pairs whose value is the rarer one: those wrong, those on which two methods differ.

    Attributes, [...]: clusters and seeds, the two parts of the variance; df_clusters and df_seeds; single.
    """

    def __init__(self, spread: Spread, single, rare, new_seeds: bool):
        n = max(spread.effective_clusters, 1.0)
        self.single = np.maximum(single, 1e-12)
        # With hardly a rare value seen, nothing shows whether they come in clusters: assume it.
        n_rare = spread.n_pairs * rare
        main = (spread.main * n_rare + 1) / (n_rare + 1)
        unseen = main * np.minimum(self.single / n, UNSEEN / n**2)
        observed = np.maximum(spread.clusters, self.single / spread.n_pairs)
        self.clusters = np.where(rare > 1e-12, observed + unseen, self.single / n)
        self.df_clusters = spread.df
        self.seeds = spread.seeds if new_seeds else np.zeros_like(spread.seeds)
        self.df_seeds = max(spread.n_seeds - 1, 1)

    def ratio(self, level: float):
        """t^2 / n_eff, all that score intervals need to know."""
        parts = self.clusters, self.seeds, self.df_clusters, self.df_seeds
        return half_width_squared(*parts, level) / self.single


def half_width_squared(clusters, seeds, df_clusters, df_seeds, level: float):
    """t_c^2 V_clusters + t_s^2 V_seeds, each t of its own degrees of freedom (Banerjee 1960)."""
    return t_quantile(df_clusters, level) ** 2 * clusters + t_quantile(df_seeds, level) ** 2 * seeds


def wilson(p, ratio):
    """The p0 with (p - p0)^2 <= ratio * p0 (1 - p0), as (low, high); ratio is z^2 / n (Wilson 1927)."""
    middle = (p + ratio / 2) / (1 + ratio)
    half = np.sqrt(ratio * p * (1 - p) + ratio**2 / 4) / (1 + ratio)
    # Exact where rounding would leave the end a little inside.
    low = np.where(p <= 0, 0.0, np.clip(middle - half, 0, p))
    return low, np.where(p >= 1, 1.0, np.clip(middle + half, p, 1))


def too_few_clusters(seeds: Sequence[Outcomes], score: str = "disentangle", unit: str = "clusters") -> str | None:
    """One line of warning if the clusters are too few for an interval to say much, else None.

    unit: what a cluster is, in the plural, as "countries".
    """
    design = Design(seeds, score)
    if design.effective_clusters >= FEWEST:
        return None
    worth = f", worth {design.effective_clusters:.1f} of equal size" * (
        design.n_clusters - design.effective_clusters >= 0.5
    )
    return (
        f"only {design.n_clusters} {unit} among the test pairs{worth}: below {FEWEST} an interval says little; "
        "test on more of them"
    )


def require_seeds(n_seeds: int, new_seeds: bool) -> None:
    if new_seeds and n_seeds < 2:
        raise ValueError("one seed says nothing about new seeds: run two at least, or ask for these seeds")


def plain(x):
    """A float of a 0-d array, else the array."""
    return float(x) if np.ndim(x) == 0 else x
