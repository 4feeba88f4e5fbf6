"""Variance of a score when the pairs are dyads of clusters, and the seeds crossed with them; see docs/statistics.md.

Names of axes: M cells, S seeds, N pairs (of all seeds, one seed after the other), C clusters, D dyads (unordered pairs
of two different clusters), I incidences (a pair and a cluster that it touches), G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from imports import np
from stats.outcomes import Outcomes, score_weights

BLOCK = 500  # cells at a time: bounds the memory
TINY = 1e-24  # a sum of squares below is rounding


@dataclass(frozen=True)
class Spread:
    """An estimate and its variance, by where that comes from.  Arrays [M...], in units of the score.

    value: mean over seeds of the score.
    clusters: its variance over draws of clusters, for the seeds that were run.
    df: degrees of freedom of `clusters`: effective clusters - 1, fewer if few clusters make most of the variance.
    main: the share of `clusters` that is due to clusters as wholes and not to single pairs, 0 to 1.
    seeds: the variance that another draw of seeds adds; 0 with one seed.
    n_clusters: how many clusters the pairs touch; effective_clusters: how many equal ones would be as informative.
    n_seeds; n_pairs: independent pairs to which the weighted pairs are equivalent, an upper limit of information.
    """

    value: np.ndarray
    clusters: np.ndarray
    df: np.ndarray
    main: np.ndarray
    seeds: np.ndarray
    n_clusters: int
    effective_clusters: float
    n_seeds: int
    n_pairs: float


class Design:
    """The part of the sums that hits do not change: which pairs touch what, with which weight.

    seeds: the outcomes of one cell, or of several on the same pairs, one for each seed.
    """

    def __init__(self, seeds: Sequence[Outcomes], score: str):
        if not seeds:
            raise ValueError("no seed")
        S = len(seeds)
        sizes = [outcomes.sizes_G for outcomes in seeds]
        weights = [score_weights(outcomes.groups, score) for outcomes in seeds]
        group = [outcomes.group_N for outcomes in seeds]
        n_groups = max(len(outcomes.groups) for outcomes in seeds)
        self.n_seeds = S
        self.seed_N = np.concatenate([np.full(len(g), s) for s, g in enumerate(group)])
        self.group_N = np.concatenate([g + s * n_groups for s, g in enumerate(group)])  # a group of a seed
        # A pair's weight in the mean over seeds; those of all pairs add to 1.
        self.weight_N = np.concatenate([(w / n)[g] / S for w, n, g in zip(weights, sizes, group, strict=True)])
        self.size_G = np.bincount(self.group_N, minlength=S * n_groups)
        ends = np.concatenate([[o.base_cluster_N, o.source_cluster_N] for o in seeds], axis=1)
        used = self.weight_N > 0
        index = np.flatnonzero(used)
        touched, place = np.unique(ends[:, used], return_inverse=True)
        base, source = place.reshape(2, -1)
        between = base != source
        self.n_clusters = C = len(touched)
        self.pair_I = np.concatenate([index, index[between]])
        self.cluster_I = np.concatenate([base, source[between]])
        # Leaving out a cluster divides a group's sum by what is left of the group.
        of_group = self.group_N[self.pair_I] * C + self.cluster_I
        left_I = self.size_G[self.group_N[self.pair_I]] - np.bincount(of_group)[of_group]
        self.factor_I = np.zeros(len(self.pair_I))  # a cluster that touches all pairs of a group: nothing is left
        whole_I = self.weight_N[self.pair_I] * self.size_G[self.group_N[self.pair_I]]
        np.divide(whole_I, left_I, out=self.factor_I, where=left_I > 0)
        low, high = np.minimum(base, source)[between], np.maximum(base, source)[between]
        dyads, self.dyad_B = np.unique(low * C + high, return_inverse=True)  # B: pairs between clusters
        self.between_B = index[between]
        self.n_dyads = len(dyads)
        # Under independent cluster effects, dyads' sums of squares over clusters' sums of squares.
        touch_C = np.bincount(self.cluster_I, self.weight_N[self.pair_I], minlength=C)
        touch_D = np.bincount(self.dyad_B, self.weight_N[self.between_B], minlength=self.n_dyads)
        self.effective_clusters = float(touch_C.sum() ** 2 / (touch_C**2).sum())
        self.overlap = float(2 * (touch_D**2).sum() / (touch_C**2).sum())
        self.n_pairs = float(1 / (self.weight_N**2).sum())

    def mean(self, x_MN):
        """The score's weighted mean [...] of x_MN [..., N], pairs of all seeds."""
        return np.asarray(x_MN, float) @ self.weight_N

    def spread(self, x_MN) -> Spread:
        """Estimate and variance of the score of x_MN [..., N]: hits, or differences of hits, pairs of all seeds."""
        shape, N = x_MN.shape[:-1], x_MN.shape[-1]
        x_MN = np.asarray(x_MN, float).reshape(-1, N)
        parts = [self._spread(x_MN[start : start + BLOCK]) for start in range(0, max(len(x_MN), 1), BLOCK)]
        value, clusters, df, main, seeds = (np.concatenate(part).reshape(shape) for part in zip(*parts, strict=True))
        fixed = (self.n_clusters, self.effective_clusters, self.n_seeds, self.n_pairs)
        return Spread(value, clusters, df, main, seeds, *fixed)

    def _spread(self, x_MN):
        M, S, C = len(x_MN), self.n_seeds, self.n_clusters
        mean_MG = _scatter(x_MN, self.group_N, len(self.size_G)) / np.maximum(self.size_G, 1)
        rest_MN = x_MN - mean_MG[:, self.group_N]
        value_MS = S * _scatter(x_MN * self.weight_N, self.seed_N, S)

        # What leaving out cluster C moves the score by, and what the pairs of dyad D add to it, in each seed.
        place_I = self.seed_N[self.pair_I] * C + self.cluster_I
        moved_MSC = -_scatter(rest_MN[:, self.pair_I] * self.factor_I, place_I, S * C).reshape(M, S, C)
        place_B = self.seed_N[self.between_B] * self.n_dyads + self.dyad_B
        dyad_MSD = _scatter((rest_MN * self.weight_N)[:, self.between_B], place_B, S * self.n_dyads)
        dyad_MSD = dyad_MSD.reshape(M, S, self.n_dyads)

        moved_MC, dyad_MD = moved_MSC.sum(1), dyad_MSD.sum(1)
        variance_M, main_M = self._variance(moved_MC, dyad_MD)
        square_M, fourth_M = (moved_MC**2).sum(1), (moved_MC**4).sum(1)
        kurtosis_M = np.where(square_M > TINY, fourth_M * C / np.maximum(square_M**2, TINY**2), 3)
        df_M = np.minimum(self.effective_clusters - 1, (C - 1) * 3 / np.maximum(kurtosis_M, 3))
        seeds_M = np.zeros(M)
        if S > 1:
            # Seeds differ by their clusters too.  Taking off all that their differences owe to clusters is unbiased,
            # but with few seeds often far too small; with half of it taken off, coverage holds.
            owed_M = np.zeros(M)
            for s in range(S):
                owed_M += self._variance(S * moved_MSC[:, s] - moved_MC, S * dyad_MSD[:, s] - dyad_MD)[0]
            seeds_M = np.maximum(0, value_MS.var(1, ddof=1) / S - owed_M / (S * (S - 1)) / 2)
        return value_MS.mean(1), variance_M, np.maximum(df_M, 1), main_M, seeds_M

    def _variance(self, moved_MC, dyad_MD):
        """Jackknife variance without what it counts twice [M], and the share of it that is due to clusters [M].

        With `noise` the variance due to single dyads and `main` that due to clusters, the expectations are

            jackknife = main + 2 (C - 1) / (C - 2) * noise        a dyad moves the score with either of its clusters
            dyads     = overlap (C - 2) / C * main + noise

        exact where every cluster meets every other equally often.
        """
        C = self.n_clusters
        jackknife_M = (moved_MC**2).sum(1) * (C - 1) / C
        if C < 3 or self.overlap * 2 * (C - 1) / C > 0.9:  # nothing to tell clusters from dyads by
            return jackknife_M, np.ones(len(jackknife_M))
        noise_M = (dyad_MD**2).sum(1) - self.overlap * (C - 2) / C * jackknife_M
        noise_M = noise_M / (1 - self.overlap * 2 * (C - 1) / C)
        noise_M = np.clip(noise_M, 0, jackknife_M * (C - 2) / (2 * (C - 1)))
        variance_M = jackknife_M - noise_M * C / (C - 2)
        return variance_M, np.clip(1 - noise_M / np.maximum(variance_M, TINY), 0, 1)


def _scatter(x_MN, place_N, n: int):
    """Sums [M, n] of the columns of x_MN that share a place."""
    M = len(x_MN)
    flat = (np.arange(M)[:, None] * n + place_N).ravel()
    return np.bincount(flat, x_MN.ravel(), minlength=M * n).reshape(M, n)
