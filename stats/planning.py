"""What a run can detect: the least difference of two methods that it finds with 80 % power; see docs/statistics.md."""

from dataclasses import dataclass

from imports import np
from stats.differences import Difference
from stats.scores import half_width_squared, plain
from stats.student import t_quantile


@dataclass(frozen=True)
class Components:
    """What the variance of a paired difference is made of, for a run that has not been made.

    discordant: the share of pairs that only one of the two methods gets right: the variance of a single pair.
    cluster: the share of that variance due to the clusters of a pair, both ends together.
    city: the same of cities within clusters; 0 where the clusters are cities.
    seed: the standard deviation over seeds of the difference itself, in units of the score.
    """

    discordant: float = 0.2
    cluster: float = 0.25
    city: float = 0.1
    seed: float = 0.03


def least_detectable(found: Difference, power: float = 0.8, alpha: float = 0.05, family: int = 1):
    """The least true difference that a design like that of `found` declares different from 0 with this power.

    It is half the width of an interval of level 1 - alpha plus the power's t times the standard error, at most 1.
    Where that is more than the share of pairs on which the two methods differed, as when they never did, it is the
    least for methods that differ in one direction only.  family: number of comparisons; alpha is divided by it, as
    Holm's correction does with the first.
    Returns a float, or an array over the cells of `found`.
    """
    parts = found.of_clusters, found.of_seeds, found.df_clusters, found.df_seeds
    least = _least(*parts, power, alpha, family)
    single = np.maximum(found.discordant - np.square(found.value), 1e-12)
    ratio = least**2 / single  # z^2 / n_eff
    one_way = ratio / (1 + ratio)  # the d with d^2 = ratio d (1 - d)
    return plain(np.minimum(np.where(least <= found.discordant, least, np.maximum(least, one_way)), 1))


def plan_difference(
    n_clusters: int,
    n_pairs: int,
    n_seeds: int = 1,
    n_cities: int | None = None,
    components: Components = Components(),
    new_seeds: bool = False,
    power: float = 0.8,
    alpha: float = 0.05,
    family: int = 1,
) -> float:
    """`least_detectable` of a run that has not been made, from assumed components of variance.

    n_clusters, n_cities: how many different ones the test pairs of all seeds touch; n_cities counts only where clusters
    are coarser than cities.  n_pairs: test pairs of the score in one seed.
    Raises ValueError for fewer than two clusters, no pair or seed, or new_seeds with one seed.
    """
    if n_clusters < 2 or n_pairs < 1 or n_seeds < 1 or (new_seeds and n_seeds < 2):
        raise ValueError(
            "a plan needs two clusters, a pair, and a seed or two for new seeds: "
            f"not {n_clusters}, {n_pairs} and {n_seeds}"
        )
    u, c = components.discordant, components
    city = c.city if n_cities else 0.0
    single = max(1 - c.cluster - city, 0.0)
    clusters = u * (c.cluster / n_clusters + city / (n_cities or 1) + single / (n_pairs * n_seeds))
    seeds = c.seed**2 / n_seeds if new_seeds else 0.0
    return float(min(_least(clusters, seeds, n_clusters - 1, max(n_seeds - 1, 1), power, alpha, family), 1.0))


def _least(clusters, seeds, df_clusters, df_seeds, power: float, alpha: float, family: int):
    half = half_width_squared(clusters, seeds, df_clusters, df_seeds, 1 - alpha / family) ** 0.5
    return half + t_quantile(df_clusters, 2 * power - 1) * np.sqrt(np.add(clusters, seeds))
