"""How far two masks selected the same, and what chance would give.

The features of an SAE and the residual's coordinates are the same for every run, so two masks are compared as sets.
Each run of DAS has a rotation of its own: there the subspaces are compared that the selected directions span.  With
orthonormal bases R_a and R_b they share |R_a^T R_b|^2 dimensions (Frobenius norm), which for coordinates is the number
of features in both.  Either way the Jaccard index is shared / (a + b - shared).
"""

import itertools
from dataclasses import dataclass, replace

from featurizers.methods import method_named
from imports import np, scipy_stats
from results.run import Run


@dataclass(frozen=True)
class Selection:
    """What the hard mask of a run selects.

    selected: indices of features; basis_DS: of rotated directions, the selected ones, [d_model, S].
    """

    run: Run
    selected: frozenset
    basis_DS: np.ndarray | None = None

    @property
    def size(self) -> int:
        return len(self.selected)


def space_of(run: Run) -> tuple:
    """Runs with the same one have the same features, or rotations of the same vectors."""
    method = method_named(run.method)
    if method.release and method.variant in ("random", "permuted"):  # drawn anew for each seed
        return run.layer, run.method, run.seed
    return run.layer, method.of or run.method


def shared(a: Selection, b: Selection) -> float:
    """How many features both selected, or how many dimensions their subspaces share."""
    if a.basis_DS is None or b.basis_DS is None:
        return float(len(a.selected & b.selected))
    return float(((a.basis_DS.T @ b.basis_DS) ** 2).sum())


def jaccard(n_shared: float, a: int, b: int) -> float | None:
    """Of two sets of a and b features; None if both are empty."""
    return n_shared / (a + b - n_shared) if a + b else None


def by_chance(a: int, b: int, n: int, as_subspaces: bool = False) -> tuple[float, float] | None:
    """Mean and standard deviation of the Jaccard index of two random sets of a and b of n features.

    What random sets share is hypergeometric.  Random subspaces share a b / n dimensions on average, with the variance
    2 a b (n - a)(n - b) / (n^2 (n - 1)(n + 2)); the index is linearised there.
    """
    if not a + b:
        return None
    if as_subspaces:
        mean = a * b / n
        variance = 2 * a * b * (n - a) * (n - b) / (n**2 * max(n - 1, 1) * (n + 2))
        return jaccard(mean, a, b), (a + b) / (a + b - mean) ** 2 * variance**0.5
    share = np.arange(max(0, a + b - n), min(a, b) + 1)
    weight = scipy_stats.hypergeom.pmf(share, n, a, b)
    index = share / (a + b - share)
    mean = float(weight @ index)
    return mean, float(weight @ (index - mean) ** 2) ** 0.5


def compare(a: Selection, b: Selection, n: int) -> dict:
    """Two masks of the same features, n in all."""
    n_shared = shared(a, b)
    chance = by_chance(a.size, b.size, n if a.basis_DS is None else len(a.basis_DS), a.basis_DS is not None)
    return {
        **{key: getattr(b.run, key) for key in ("target", "method", "layer", "seed")},
        "n_selected": b.size,
        "shared": round(n_shared, 3),
        "jaccard": jaccard(n_shared, a.size, b.size),
        "chance": chance and chance[0],
    }


def overlaps(of: Selection, among: list[Selection], n: int) -> list[dict]:
    """The overlap of a mask with every other one of the same features."""
    return [compare(of, s, n) for s in among if s.run != of.run and space_of(s.run) == space_of(of.run)]


def agreement(of: Selection, among: list[Selection], n: int) -> dict | None:
    """How far the seeds of a run's target and method agree: the mean Jaccard index over pairs of seeds, and by chance.

    The pairs' indices of random sets are uncorrelated, so the standard deviation of their mean is that of one pair
    over the square root of their number.  None with fewer than two seeds of the same features.
    """
    same = [s for s in among if replace(s.run, seed=of.run.seed) == of.run]
    pairs = [pair for pair in itertools.combinations(same, 2) if space_of(pair[0].run) == space_of(pair[1].run)]
    found = [compare(a, b, n) for a, b in pairs]
    found = [each for each in found if each["jaccard"] is not None]
    if not found:
        return None
    index = [each["jaccard"] for each in found]
    chances = [by_chance(a.size, b.size, n, a.basis_DS is not None) for a, b in pairs if a.size + b.size]
    return {
        "seeds": sorted(s.run.seed for s in same),
        "n_pairs": len(found),
        "jaccard": float(np.mean(index)),
        "lowest": min(index),
        "highest": max(index),
        "chance": float(np.mean([mean for mean, _ in chances])),
        "chance_sd": float(np.sqrt(np.sum([sd**2 for _, sd in chances])) / len(chances)),
    }
