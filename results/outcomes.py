"""Outcomes of test pairs as `stats` takes them, with the clusters that each pair touches."""

import functools
import hashlib

import stats
from imports import np
from masks.names import MASKS
from results.pairs import NamedPairs

KEPT_ANSWERS = (*MASKS, "none")  # what is said of every test pair is kept for these masks, "none" being no patch
NEW_SEEDS_FROM = 3  # so many seeds; with two, an interval for others spans most of [0, 1] (t is 12.7)


def outcomes_of(hit_MN, pairs: NamedPairs, unit: str) -> "stats.Outcomes":
    """Outcomes [.., N] on the test pairs of a seed; clusters are numbered alike in every seed, by their names."""
    base, source = (np.array([_number(name) for name in names]) for names in pairs.clusters(unit))
    return stats.Outcomes(hit_MN, pairs.group_N, base, source, pairs.groups)


@functools.cache
def _number(name: str) -> int:
    """A number for a name, the same everywhere; two names share one with a chance of 2^-60."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])


def seed_intervals(hit_N, pairs: NamedPairs, unit: str) -> dict[str, list[float]]:
    """The interval of each score of one seed: {score: [low, high]}."""
    seeds = [outcomes_of(hit_N, pairs, unit)]
    return {name: [found.low, found.high] for name, found in stats.intervals(seeds).items()}
