"""How sure a score is, and whether one method is better than another: intervals, paired differences, planning.

    from stats import Outcomes, difference, holm, intervals, least_detectable, verdict

    a = [Outcomes.of_kinds(hit_N, is_cause_N, base_cluster_N, source_cluster_N) for each seed]   # one cell
    intervals(a)                      # {"cause": Interval(value, low, high, ...), "isolation": .., "disentangle": ..}
    intervals(a, new_seeds=True)      # for another draw of seeds as well; needs two seeds
    too_few_clusters(a, unit="countries")                       # a line of warning, or None
    d = difference(a, b, "disentangle")                         # Difference(value, low, high, p, ...), A minus B
    verdict(d.value, holm([d.p, ...])[0])                       # "better", "worse" or "cannot tell"
    least_detectable(d, family=9)                               # with 80 % power, by a design like this one
    plan_difference(n_clusters=40, n_pairs=1500, n_seeds=3)     # the same before a run, variances assumed

A cell is a list with one `Outcomes` per seed.  Cluster numbers are any integers, the same in every seed; choose the
coarsest value that pairs share, as the country (docs/statistics.md).  For several isolation attributes give
`Outcomes(hit_N, group_N, base_cluster_N, source_cluster_N, groups=("cause", "isolation:continent", ...))`: each
attribute weighs the same.  Hits may have leading axes, hit_MN [methods, layers, N]: all results then are arrays of that
shape, and far faster than cell by cell (`stack` puts cells together).  Differences broadcast leading axes, so that
hits [A, 1, N] against [B, N] compare each with each.
"""

import importlib

OFFERED = {
    "BETTER": "stats.differences",
    "CANNOT_TELL": "stats.differences",
    "Components": "stats.planning",
    "Difference": "stats.differences",
    "FEWEST": "stats.scores",
    "Interval": "stats.scores",
    "Outcomes": "stats.outcomes",
    "SCORES": "stats.outcomes",
    "WORSE": "stats.differences",
    "difference": "stats.differences",
    "holm": "stats.differences",
    "interval": "stats.scores",
    "intervals": "stats.scores",
    "least_detectable": "stats.planning",
    "plan_difference": "stats.planning",
    "score_weights": "stats.outcomes",
    "stack": "stats.outcomes",
    "t_quantile": "stats.student",
    "too_few_clusters": "stats.scores",
    "verdict": "stats.differences",
}


def __getattr__(name: str):
    """Import what the package offers when it is asked for: the files behind it import numpy."""
    if name not in OFFERED:
        raise AttributeError(f"stats has no {name}")
    return getattr(importlib.import_module(OFFERED[name]), name)
