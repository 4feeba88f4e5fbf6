"""What is drawn for a cell of the grid: the mean over seeds and its 95 % interval.

Seeds are replicates: each draws a new start and order of training and, in mode
strict, a new split of the cities.  With n >= 2 seeds the interval is that of the mean,

    mean +- t(0.975, n - 1) * sd / sqrt(n),        sd with n - 1 in the denominator,

and with one seed the bootstrap over cities that main.py saved (masks.scores.city_interval).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from data.names import ATTRIBUTES
from featurizers.methods import BASELINES, METHODS


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds; low and high are the ends of its interval, None without one."""

    mean: float
    n: int
    low: float | None = None
    high: float | None = None


def t_probability(t: float, df: int) -> float:
    """P(|T| < t) of Student's t with whole degrees of freedom (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(df))
    cos2 = math.cos(angle) ** 2
    term = math.cos(angle) if df % 2 else 1.0
    total = term if df > 1 else 0.0
    for k in range(2 + df % 2, df - 1, 2):
        term *= cos2 * (k - 1) / k
        total += term
    if df % 2:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def t_quantile(df: int) -> float:
    """t with P(|T| < t) = 0.95, by bisection."""
    low, high = 1.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, df) < 0.95 else (low, middle)
    return high


def over_seeds(values: list[float]) -> Estimate | None:
    """Mean and t interval; None without values, no interval with one."""
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, 1)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return Estimate(mean, n, mean - half, mean + half)


class Grid:
    """Sound results of one model, by cell."""

    def __init__(self, results: list[dict]):
        self.results = results
        self.cells: dict[tuple, list[dict]] = {}
        for r in results:
            self.cells.setdefault((r["target"], r["method"], r["layer"]), []).append(r)
        self.targets = [t for t in ATTRIBUTES if any(r["target"] == t for r in results)]
        self.layers = sorted({r["layer"] for r in results})
        self.seeds = sorted({r["seed"] for r in results})
        self.n_cities = sorted({r["config"]["n_cities"] for r in results if "n_cities" in r["config"]})
        ran = {r["method"] for r in results}
        self.methods = [m for m in METHODS if m in ran and m not in BASELINES]

    def of(self, target: str, method: str, layer: int) -> list[dict]:
        """The results of a cell, one a seed."""
        return self.cells.get((target, method, layer), [])

    def layers_of(self, target: str, method: str) -> list[int]:
        return [layer for layer in self.layers if self.of(target, method, layer)]

    def score(self, target: str, method: str, layer: int, mask: str, name: str) -> Estimate | None:
        """A score of the test pairs; of `none`, `full` also where only other methods were run."""
        if method in BASELINES and not self.of(target, method, layer):
            return over_seeds([scores[name] for scores in self.beside(target, layer, method)])
        found = self.of(target, method, layer)
        estimate = over_seeds([r["test"][mask][name] for r in found])
        if len(found) == 1 and name in found[0]["test"][mask]["interval95"]:
            return Estimate(estimate.mean, 1, *found[0]["test"][mask]["interval95"][name])
        return estimate

    def reconstruction(self, target: str, method: str, layer: int, name: str) -> Estimate | None:
        found = [r["baselines"]["reconstruction"] for r in self.of(target, method, layer)]
        return over_seeds([scores[name] for scores in found if scores])

    def mean(self, target: str, method: str, layer: int, key: str) -> float | None:
        """Mean over seeds of a number beside the scores, such as n_selected; None where there is none."""
        estimate = over_seeds([r[key] for r in self.of(target, method, layer) if r[key] is not None])
        return estimate and estimate.mean

    def beside(self, target: str, layer: int, baseline: str) -> list[dict]:
        """A baseline's scores as saved in the results of other methods, once a seed: they share the test pairs."""
        by_seed = {}
        for method in self.methods:
            for r in self.of(target, method, layer):
                by_seed.setdefault(r["seed"], r["baselines"][baseline])
        return [by_seed[seed] for seed in sorted(by_seed)]

    def is_last_block(self, layer: int) -> bool:
        return any(r["last_block"] for r in self.results if r["layer"] == layer)
