"""Outcomes for tests, and a jackknife that really leaves out each cluster."""

import numpy as np

from stats import Outcomes, score_weights


def random_seeds(rng, n_seeds=1, n_clusters=8, n_pairs=60, p=0.7, cells=()) -> list[Outcomes]:
    """Random outcomes; clusters and numbers of pairs differ from seed to seed."""
    seeds = []
    for s in range(n_seeds):
        n = n_pairs + 7 * s
        ends = rng.integers(0, n_clusters, (2, n)) + 3 * s
        group = rng.permutation(np.arange(n) % 2)
        lean = rng.normal(size=n_clusters + 3 * s)  # some clusters are easier
        hits = rng.random((*cells, n)) < np.clip(p + 0.2 * lean[ends[0]], 0.02, 0.98)
        seeds.append(Outcomes(hits, group, *ends))
    return seeds


def plain_score(seeds, values, score, left_out=None) -> float:
    """Mean over seeds of the weighted group means, without the pairs that touch a cluster; values: [N] per seed."""
    total = []
    for outcomes, value in zip(seeds, values, strict=True):
        kept = (outcomes.base_cluster_N != left_out) & (outcomes.source_cluster_N != left_out)
        if left_out is None:
            kept = np.ones(len(kept), bool)
        means = [value[kept & (outcomes.group_N == g)].mean() for g in range(len(outcomes.groups))]
        total.append(np.dot(score_weights(outcomes.groups, score), means))
    return float(np.mean(total))


def brute_force(seeds, values, score) -> tuple[float, float]:
    """(score, variance of it over clusters for these seeds), by loops; every group must have a weight."""
    whole = plain_score(seeds, values, score)
    clusters = sorted({int(c) for o in seeds for c in o.clusters})
    C = len(clusters)
    moves = [plain_score(seeds, values, score, c) - whole for c in clusters]
    jackknife = (C - 1) / C * sum(move**2 for move in moves)

    sums, weights, touching = {}, {}, dict.fromkeys(clusters, 0.0)
    for outcomes, value in zip(seeds, values, strict=True):
        of_group = score_weights(outcomes.groups, score) / outcomes.sizes_G / len(seeds)
        for i, (g, b, s) in enumerate(
            zip(outcomes.group_N, outcomes.base_cluster_N, outcomes.source_cluster_N, strict=True)
        ):
            for cluster in {int(b), int(s)}:
                touching[cluster] += of_group[g]
            if b != s:
                dyad = frozenset((int(b), int(s)))
                rest = value[i] - value[outcomes.group_N == g].mean()
                sums[dyad] = sums.get(dyad, 0.0) + of_group[g] * rest
                weights[dyad] = weights.get(dyad, 0.0) + of_group[g]
    overlap = 2 * sum(w**2 for w in weights.values()) / sum(w**2 for w in touching.values())
    dyads = sum(x**2 for x in sums.values())
    noise = (dyads - overlap * (C - 2) / C * jackknife) / (1 - 2 * overlap * (C - 1) / C)
    noise = min(max(noise, 0.0), jackknife * (C - 2) / (2 * (C - 1)))
    return whole, jackknife - noise * C / (C - 2)


def relabelled(seeds, rng) -> list[Outcomes]:
    """The same outcomes with pairs in another order and clusters of other numbers."""
    names = {int(c): 1000 - 7 * int(c) for o in seeds for c in o.clusters}
    result = []
    for o in seeds:
        order = rng.permutation(len(o.group_N))
        ends = [np.array([names[int(c)] for c in column[order]]) for column in (o.base_cluster_N, o.source_cluster_N)]
        result.append(Outcomes(o.hit_MN[..., order], o.group_N[order], *ends, o.groups))
    return result


def flipped(seeds) -> list[Outcomes]:
    return [Outcomes(~o.hit_MN, o.group_N, o.base_cluster_N, o.source_cluster_N, o.groups) for o in seeds]
