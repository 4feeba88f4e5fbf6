"""What is drawn for a cell of the grid: the mean over seeds and its 95 % interval.

Seeds are replicates: each draws a new start and order of training and, in mode
strict, a new split of the cities.  With n >= 2 seeds the interval is that of the mean,

    mean +- t(0.975, n - 1) * sd / sqrt(n),        sd with n - 1 in the denominator,

and with one seed the bootstrap over cities that main.py saved (masks.scores.city_interval).
"""

import functools
import math
import statistics
from dataclasses import dataclass

from data.names import ATTRIBUTES
from drawing.canvas import model_name, plural, printable
from drawing.collect import notice
from featurizers.methods import BASELINES, METHODS
from imports import np


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds; low and high are the ends of its interval, None without one."""

    mean: float
    n: int
    low: float | None = None
    high: float | None = None


@functools.cache
def t_quantile(df: int) -> float:
    """t with P(|T| < t) = 0.95, for Student's T: the angle atan(T / sqrt(df)) has a density like cos^(df - 1)."""
    angles = np.linspace(0, np.pi / 2, 2_000_001)
    density = np.cos(angles) ** (df - 1)
    below = np.cumsum((density[1:] + density[:-1]) / 2)  # of the trapezoids up to each angle but the first
    return math.sqrt(df) * math.tan(np.interp(0.95 * below[-1], below, angles[1:]))


def over_seeds(values: list[float]) -> Estimate | None:
    """Mean and t interval; None without values, no interval with one."""
    n = len(values)
    if n == 0:
        return None
    mean = statistics.fmean(values)
    if n == 1:
        return Estimate(mean, 1)
    half = t_quantile(n - 1) * statistics.stdev(values) / math.sqrt(n)
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

    @property
    def notice(self) -> str:
        return notice(self.results, self.results[0]["model"])

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


# ---------------------------------------------------------------- in words

# Kept on one line by spaces that do not break.
T_INTERVAL = "95 % interval of the mean over seeds, mean ± t(n-1) · sd / √n".replace(" ± ", "\u00a0±\u00a0")
T_INTERVAL = T_INTERVAL.replace(" · sd / ", "\u00a0·\u00a0sd\u00a0/\u00a0")
MASK_WORDS = {"soft": "soft mask", "hard": "hard mask"}


def describe(grid: Grid, mask: str | None = None) -> str:
    """One line that says whose results are drawn: model, mask, mode, split, seeds, cities."""
    first = grid.results[0]
    cities = " or ".join(f"{n:,}" for n in grid.n_cities)
    parts = [
        model_name(first["model"]),
        MASK_WORDS[mask] if mask else "",
        f"mode {printable(first['mode'], 12)}, split by {printable(first['split'], 12)}",
        plural(len(grid.seeds), "seed"),
        f"{cities} cities" if cities else "",
    ]
    return "  ·  ".join(part for part in parts if part)


def interval_note(grid: Grid) -> str:
    """What the bands or whiskers are."""
    of_one = "95 % bootstrap interval over cities"
    if len(grid.seeds) == 1:
        return f"Whiskers: {of_one} (one seed)."
    redraws = ", which also redraws the split of the cities," if grid.results[0]["split"] == "cities" else ""
    note = f"Bands, and whiskers where a point stands alone: {T_INTERVAL}; a seed{redraws} is a replicate, "
    note += f"n = {len(grid.seeds)}."
    some_have_one = any(len(found) == 1 for found in grid.cells.values())
    return note + f" Whiskers of cells with one seed: {of_one}." * some_have_one
