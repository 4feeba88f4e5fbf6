"""Paired differences of methods on the same test pairs, corrected together for how many of them are looked at."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter

import stats
from imports import np
from results.outcomes import NEW_SEEDS_FROM


@dataclass(frozen=True)
class Contrast:
    """Which difference is wanted: that of a method at a layer from another method, or layer, on the same pairs."""

    method: str
    layer: int
    against: str
    against_layer: int


@dataclass(frozen=True)
class Comparison:
    """The difference of a method's disentangle score from another's on the same test pairs, with one mask.

    p: two-sided, for this comparison alone; p_holm: corrected for all comparisons of the grid (Holm 1979).
    verdict: stats.BETTER, WORSE or CANNOT_TELL, by p_holm.
    detectable: the least difference that such a comparison shows with a chance of .8.
    against_layer: the layer of the method that it is compared with.
    """

    target: str
    layer: int
    method: str
    against: str
    n_seeds: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    verdict: str
    detectable: float
    against_layer: int


def differences(grid, wanted: Iterable[Contrast], mask: str) -> list[Comparison]:
    """These differences in the results of a `results.estimates.Grid`, on the seeds that both sides have.

    Holm's correction is for all of them.  Where a side was not run, or nothing can be learned, there is none.
    """
    wanted = [w for w in wanted if not grid.is_last_block(w.layer) and not grid.is_last_block(w.against_layer)]
    groups = []  # of comparisons on the same pairs, which are computed at once
    for target in grid.targets:
        by_seeds: dict[tuple, list[Contrast]] = {}
        for w in wanted:
            own, other = grid.hits(target, w.method, w.layer, mask), grid.hits(target, w.against, w.against_layer, mask)
            seeds = tuple(sorted(own.keys() & other.keys()))
            if seeds:
                by_seeds.setdefault(seeds, []).append(w)
        for seeds, of_seeds in by_seeds.items():
            own = grid.outcomes(target, seeds, [(target, w.method, w.layer, mask) for w in of_seeds])
            other = grid.outcomes(target, seeds, [(target, w.against, w.against_layer, mask) for w in of_seeds])
            found = stats.difference(own, other, "disentangle", new_seeds=len(seeds) >= NEW_SEEDS_FROM)
            groups.append((target, len(seeds), of_seeds, found))
    p_holm = iter(stats.holm([p for *_, found in groups for p in found.p]).tolist() if groups else [])
    family = sum(len(of_seeds) for _, _, of_seeds, _ in groups)
    place = {w: i for i, w in enumerate(wanted)}
    comparisons = []  # with the place of each in the list
    for target, n, of_seeds, d in groups:
        columns = (d.value, d.low, d.high, d.p, stats.least_detectable(d, family=family))
        for w, (value, low, high, p, least) in zip(of_seeds, np.stack(columns, 1).tolist(), strict=True):
            p_corrected = next(p_holm)
            numbers = (n, value, low, high, p, p_corrected, stats.verdict(value, p_corrected), least)
            comparison = Comparison(target, w.layer, w.method, w.against, *numbers, w.against_layer)
            comparisons.append(((grid.targets.index(target), w.layer, place[w]), comparison))
    return [comparison for _, comparison in sorted(comparisons, key=itemgetter(0))]
