"""What was measured: right or wrong for every test pair of a seed, and which clusters the pair touches.

A group is a set of pairs whose plain mean is reported or averaged: the cause pairs, and the isolation pairs of each
attribute.  A score is a weighted sum of group means, so that attributes with many pairs weigh no more than others:

    cause        the mean over the cause pairs
    isolation    the mean over isolation groups of each group's mean
    disentangle  (cause + isolation) / 2
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from imports import np

SCORES = ("cause", "isolation", "disentangle")


@dataclass(frozen=True)
class Outcomes:
    """The test pairs of one seed: of one cell, or of several that were tested on the same pairs.

    hit_MN: bool [..., N]; the answer to pair n was right.  Leading axes, if any, are cells (methods, layers).
    group_N: int [N], index into `groups`.
    base_cluster_N, source_cluster_N: int [N], any numbers; the same number is the same cluster in every seed.
    groups: names; "cause", and one or more that start with "isolation".

    Raises ValueError if lengths differ, an index lies outside `groups`, or a group has no pair.
    """

    hit_MN: np.ndarray
    group_N: np.ndarray
    base_cluster_N: np.ndarray
    source_cluster_N: np.ndarray
    groups: tuple[str, ...] = ("cause", "isolation")

    def __post_init__(self):
        for name in ("hit_MN", "group_N", "base_cluster_N", "source_cluster_N"):
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        object.__setattr__(self, "groups", tuple(self.groups))
        n = self.hit_MN.shape[-1] if self.hit_MN.ndim else 0
        columns = (self.group_N, self.base_cluster_N, self.source_cluster_N)
        if any(column.shape != (n,) for column in columns):
            raise ValueError(f"{n} hits, but columns of shapes {', '.join(str(c.shape) for c in columns)}")
        if n and not 0 <= self.group_N.min() <= self.group_N.max() < len(self.groups):
            raise ValueError(f"a pair's group is none of the {len(self.groups)} groups {self.groups}")
        empty = [name for name, size in zip(self.groups, self.sizes_G, strict=True) if size == 0]
        if empty or not self.groups:
            raise ValueError(f"no pair of group {', '.join(empty) or 'any'}")

    @classmethod
    def of_kinds(cls, hit_MN, is_cause_N, base_cluster_N, source_cluster_N) -> "Outcomes":
        """From is_cause_N bool [N]: the two groups "cause" and "isolation"."""
        return cls(hit_MN, np.where(np.asarray(is_cause_N, bool), 0, 1), base_cluster_N, source_cluster_N)

    @property
    def sizes_G(self):
        """Pairs of each group, int [G]."""
        return np.bincount(self.group_N, minlength=len(self.groups))

    @property
    def clusters(self):
        """The clusters that some pair touches, sorted."""
        return np.unique([self.base_cluster_N, self.source_cluster_N])

    def cell(self, index) -> "Outcomes":
        """The cells at an index of the leading axes, on the same pairs."""
        return replace(self, hit_MN=self.hit_MN[index])

    def has_pairs_of(self, other: "Outcomes") -> bool:
        """Whether both were tested on the same pairs in the same order, as far as groups and clusters tell."""
        return self.groups == other.groups and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("group_N", "base_cluster_N", "source_cluster_N")
        )


def stack(cells: Sequence[Outcomes]) -> Outcomes:
    """Outcomes of several cells on the same pairs as one, hit_MN [len(cells), ..., N].

    Raises ValueError if the pairs differ.
    """
    if not all(cell.has_pairs_of(cells[0]) for cell in cells):
        raise ValueError("cells to compare were tested on different pairs")
    return replace(cells[0], hit_MN=np.stack([cell.hit_MN for cell in cells]))


def score_weights(groups: Sequence[str], score: str):
    """Weight of each group's mean in a score, float [G], of sum 1.  Raises ValueError for an unknown score or group."""
    is_cause = np.array([group == "cause" for group in groups])
    is_isolation = np.array([group.startswith("isolation") for group in groups])
    if not (is_cause | is_isolation).all() or is_cause.sum() != 1 or not is_isolation.any():
        raise ValueError(f'groups are "cause" and others that start with "isolation", not {tuple(groups)}')
    cause, isolation = is_cause / is_cause.sum(), is_isolation / is_isolation.sum()
    by_score = {"cause": cause, "isolation": isolation, "disentangle": (cause + isolation) / 2}
    if score not in by_score:
        raise ValueError(f"no score {score!r}; there are {', '.join(SCORES)}")
    return by_score[score]
