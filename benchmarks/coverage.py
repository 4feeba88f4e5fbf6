"""Measure how often intervals hold the truth, and how often equal methods are called different.

    python benchmarks/coverage.py            some minutes; prints the tables of docs/statistics.md
    python benchmarks/coverage.py --quick    seconds: few settings, few data sets

Outcomes are simulated and handed to the project's own stats package.  A pair is right if

    mu + seed + base effect + source effect + noise > 0,        noise of standard deviation 1,

all normal; mu is set so that the mean over new seeds and new clusters is the true score.  Effects belong to a city or
to its country, and the intervals' clusters are set to match.  With split `cities` each seed tests another fifth of the
cities, with `pairs` all of them on other pairs.  Countries differ in size as those of data/cities.csv: 22 cities, then
fewer, down to 1.  Up to 750 pairs of each kind per seed are tested; a cause pair crosses countries, an isolation pair
continents.
"""

import argparse
import itertools
import time
from dataclasses import dataclass
from statistics import NormalDist

from machine import machine

from imports import np
from stats import SCORES, Outcomes, difference, holm, interval, least_detectable, verdict

PAIRS = 750  # of each kind and seed, at most
EFFECTS = {"none": (0.0, 0.0), "1, 1": (1.0, 1.0), "0, 2": (0.0, 2.0)}  # standard deviations: base, source
SEED = 0.3  # standard deviation over seeds, on the scale of the noise
SHARED = 0.7  # of the variance of effects, seeds and noise: shared by methods on the same pairs
GOAL = (0.93, 0.99)
NORMAL = NormalDist()


@dataclass(frozen=True)
class Setting:
    unit: str  # "city" or "country": what effects belong to
    n: int  # units among the test cities of a seed (city), or that there are (country)
    effects: str
    seeds: int = 1
    split: str = "cities"
    seed_sd: float = SEED


class World:
    """The cities, and the test pairs of every seed; the same for all data sets of a setting."""

    def __init__(self, setting: Setting, rng):
        self.setting, n = setting, setting.n
        redrawn = setting.split == "cities" and setting.seeds > 1
        if setting.unit == "city":
            n_cities, n_tested = (5 * n if redrawn else n), n
            country = rng.permutation(n_cities) % max(n_cities // 5, 6)
            self.unit = np.arange(n_cities)
        else:
            sizes = np.maximum(1, np.round(22 * np.exp(-np.arange(n) / (0.28 * n)))).astype(int)
            country = self.unit = np.repeat(np.arange(n), sizes)
            n_cities = len(country)
            n_tested = n_cities // 5 if redrawn else n_cities
        self.seeds = []  # base unit, source unit, is cause: [N] each
        for _ in range(setting.seeds):
            tested = rng.permutation(n_cities)[:n_tested]
            base, source = (ends.ravel() for ends in np.meshgrid(tested, tested))
            labels = {"cause": country, "isolation": country % 5}
            chosen = [
                rng.permutation(np.flatnonzero(label[base] != label[source]))[:PAIRS] for label in labels.values()
            ]
            both = np.concatenate(chosen)
            is_cause = np.arange(len(both)) < len(chosen[0])
            self.seeds.append((self.unit[base[both]], self.unit[source[both]], is_cause))

    def draw(self, scores, n_sets: int, rng):
        """Data sets of several methods with these true scores, tested on the same pairs.

        Returns the outcomes, one entry per seed, hit_MN [methods, sets, N], and the true scores of the seeds that were
        drawn, [methods, sets].
        """
        setting, n_methods = self.setting, len(scores)
        sd_base, sd_source = EFFECTS[setting.effects]
        spread = np.sqrt(1 + sd_base**2 + sd_source**2)
        total = np.sqrt(spread**2 + setting.seed_sd**2)
        mu = np.array([NORMAL.inv_cdf(score) * total if score < 1 else np.inf for score in scores])[:, None]

        def normal(n, sd):
            """[methods, sets, n]; methods share SHARED of the variance."""
            if sd == 0:
                return np.zeros((1, 1, n), np.float32)
            own = rng.standard_normal((n_methods, n_sets, n), dtype=np.float32)
            if n_methods == 1:
                return np.float32(sd) * own
            shared = rng.standard_normal((n_sets, n), dtype=np.float32)
            return np.float32(sd) * (np.float32(SHARED**0.5) * shared + np.float32((1 - SHARED) ** 0.5) * own)

        n_units = self.unit.max() + 1
        base_effect, source_effect = normal(n_units, sd_base), normal(n_units, sd_source)
        outcomes, truth = [], 0.0
        for base, source, is_cause in self.seeds:
            level = mu + normal(1, setting.seed_sd)[..., 0]
            latent = level[..., None] + base_effect[..., base] + source_effect[..., source]
            hits = latent + normal(len(base), 1.0) > 0
            outcomes.append(Outcomes.of_kinds(hits, is_cause, base, source))
            truth = truth + _below(level / spread) / setting.seeds
        return outcomes, np.broadcast_to(truth, (n_methods, n_sets))


def _below(z):
    """The normal distribution function, by a fine table."""
    grid = np.linspace(-8, 8, 4001)
    table = np.array([NORMAL.cdf(x) for x in grid])
    return np.interp(z, grid, table)


def holds(found, truth):
    return float(np.mean((found.low <= truth + 1e-9) & (truth - 1e-9 <= found.high)))


def width(found):
    return float(np.mean(found.high - found.low))


class Table:
    """Rows of a markdown table, and the cells that the goal is counted over."""

    def __init__(self, title: str, names: list[str]):
        print(f"\n### {title}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
        self.cells: list[tuple[str, float]] = []  # class, coverage

    def row(self, *texts) -> None:
        print("|", " | ".join(str(text) for text in texts), "|", flush=True)

    def count(self, kind: str, coverage: float) -> None:
        self.cells.append((kind, coverage))

    def summary(self) -> None:
        low, high = GOAL
        print()
        for kind in sorted({kind for kind, _ in self.cells}):
            of_kind = np.array([coverage for k, coverage in self.cells if k == kind])
            inside = np.mean((of_kind >= low) & (of_kind <= high))
            below, above = np.mean(of_kind < low), np.mean(of_kind > high)
            shares = f"{inside:.0%} within {low} to {high}, {below:.0%} below, {above:.0%} above"
            print(f"{kind}: {len(of_kind)} cells, {shares}, {of_kind.min():.3f} to {of_kind.max():.3f}")


def kind_of(setting: Setting, score: float) -> str:
    if score == 1:
        return "true score 1"
    if setting.effects == "none":
        return "no effects"
    return "with effects, true score .99" if score > 0.98 else "with effects"


def cover_scores(title, settings, scores, new_seeds, n_sets, rng) -> None:
    """Coverage of the intervals of single cells."""
    table = Table(title, ["unit", "units", "worth", "effects", "seeds", "split", *(f"{s:g}" for s in scores), "width"])
    for setting in settings:
        world, texts, widths = World(setting, rng), [], []
        for score in scores:
            outcomes, of_seeds = world.draw([score], n_sets, rng)
            found = [interval(outcomes, name, new_seeds) for name in SCORES]
            truth = np.float64(score) if new_seeds else of_seeds
            covered = [holds(f, truth) for f in found]
            for coverage in covered:
                table.count(kind_of(setting, score), coverage)
            texts.append(" ".join(f"{coverage:.3f}" for coverage in covered))
            widths.append(f"{width(found[-1]):.2f}")
        first = found[0]
        table.row(
            *(setting.unit, first.n_clusters, f"{first.effective_clusters:.0f}", setting.effects, setting.seeds),
            *("-" if setting.seeds == 1 else setting.split, *texts, " ".join(widths)),
        )
    table.summary()


def cover_differences(title, settings, cases, new_seeds, n_sets, rng) -> None:
    """Coverage of paired differences; cases: (score of B, A minus B)."""
    names = [f"{b:g} + {d:g}" for b, d in cases]
    table = Table(title, ["unit", "units", "worth", "effects", "seeds", "split", *names, "width"])
    for setting in settings:
        world, texts, widths = World(setting, rng), [], []
        for b, d in cases:
            outcomes, of_seeds = world.draw([b + d, b], n_sets, rng)
            a_cell, b_cell = ([o.cell(i) for o in outcomes] for i in (0, 1))
            found = [difference(a_cell, b_cell, name, new_seeds) for name in SCORES]
            truth = np.float64(d) if new_seeds else of_seeds[0] - of_seeds[1]
            covered = [holds(f, truth) for f in found]
            for coverage in covered:
                near = b > 0.9 and b < 1 and setting.effects != "none"
                table.count("with effects, true scores from .94" if near else kind_of(setting, b), coverage)
            texts.append(" ".join(f"{coverage:.3f}" for coverage in covered))
            widths.append(f"{width(found[-1]):.2f}")
        first = found[0]
        table.row(
            *(setting.unit, first.n_clusters, f"{first.effective_clusters:.0f}", setting.effects, setting.seeds),
            *("-" if setting.seeds == 1 else setting.split, *texts, " ".join(widths)),
        )
    table.summary()


def false_alarms(settings, scores, n_methods, n_sets, rng) -> None:
    """How often any of n_methods - 1 equal methods is called better, or different, than the first."""
    title = f"Equal methods, {n_methods - 1} compared with one: share of families with a false verdict"
    names = ["any better, Holm", "any better or worse, Holm", "the same without Holm"]
    table = Table(title, ["unit", "units", "effects", "seeds", "true score", *names])
    worst = 0.0
    for setting in settings:
        world = World(setting, rng)
        for score in scores:
            parts = []
            for start in range(0, n_sets, 100):  # bounds the memory
                outcomes, _ = world.draw([score] * n_methods, min(100, n_sets - start), rng)
                first, others = ([o.cell(at) for o in outcomes] for at in (slice(0, 1), slice(1, None)))
                new_seeds = setting.seeds > 1
                found = difference(others, first, "disentangle", new_seeds)
                adjusted = holm(found.p.T).T
                corrected, plain = verdict(found.value, adjusted), verdict(found.value, found.p)
                parts.append([corrected == "better", corrected != "cannot tell", plain != "cannot tell"])
            shares = [float(np.concatenate([part[i].any(0) for part in parts]).mean()) for i in range(3)]
            worst = max(worst, shares[1])
            table.row(
                setting.unit,
                found.n_clusters,
                setting.effects,
                setting.seeds,
                f"{score:g}",
                *(f"{s:.3f}" for s in shares),
            )
    print(f"\nmost, with Holm: {worst:.3f}")


def few_clusters(n_sets, rng) -> None:
    """Where intervals begin to say something: FEWEST of stats/scores.py.  Unequal ones are as continents might be."""
    names = ["clusters", "worth", "effects", "coverage at .5, .8, .95", "width at .5, .8, .95"]
    table = Table("Few clusters: disentangle", names)
    places = [("city", n) for n in (4, 5, 6, 7, 8, 10, 12, 16)] + [("country", n) for n in (5, 6, 7, 8)]
    for (unit, n), effects in itertools.product(places, ("1, 1", "0, 2")):
        world = World(Setting(unit, n, effects, seed_sd=0.0), rng)
        found = [(interval(world.draw([s], n_sets, rng)[0], "disentangle"), s) for s in (0.5, 0.8, 0.95)]
        table.row(
            *(f"{n} {'alike' if unit == 'city' else 'unequal'}", f"{found[0][0].effective_clusters:.1f}", effects),
            " ".join(f"{holds(f, s):.3f}" for f, s in found),
            " ".join(f"{width(f):.2f}" for f, _ in found),
        )


def detect(settings, scores, n_sets, rng) -> None:
    """Whether the least detectable difference is found with the power of 80 % that it is named for."""
    table = Table("Least detectable difference", ["unit", "units", "effects", "seeds", "true score", "least", "found"])
    for setting in settings:
        world, new_seeds = World(setting, rng), setting.seeds > 1
        for score in scores:
            outcomes, _ = world.draw([score, score], n_sets, rng)
            cells = ([o.cell(i) for o in outcomes] for i in (0, 1))
            least = float(np.mean(least_detectable(difference(*cells, "disentangle", new_seeds))))
            outcomes, _ = world.draw([min(score + least, 0.999), score], n_sets, rng)
            found = difference(*([o.cell(i) for o in outcomes] for i in (0, 1)), "disentangle", new_seeds)
            share = np.mean(verdict(found.value, found.p) == "better")
            texts = setting.unit, found.n_clusters, setting.effects, setting.seeds
            table.row(*texts, f"{score:g}", f"{least:.3f}", f"{share:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few settings and data sets, for tests")
    parser.add_argument("--sets", type=int, metavar="N", help="data sets per setting and score (1000; quick: 50)")
    parser.add_argument("--only", nargs="+", metavar="T", help="tables by number, 1 to 7")
    arguments = parser.parse_args()
    quick, n_sets = arguments.quick, arguments.sets or (50 if arguments.quick else 1000)
    wanted = set(arguments.only or "1234567")
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    print(f"{machine()}; {n_sets} data sets per setting and true score; nominal 95 %")
    print("worth: that many clusters of equal size. Triples: cause, isolation, disentangle.")

    places = (
        [("city", 12)]
        if quick
        else [("city", n) for n in (8, 12, 20, 40, 100)] + [("country", n) for n in (16, 40, 100)]
    )
    effects = ["1, 1"] if quick else list(EFFECTS)
    scores = [0.8, 1.0] if quick else [0.5, 0.8, 0.95, 0.99, 1.0]
    one = [Setting(u, n, e, seed_sd=0.0) for (u, n), e in itertools.product(places, effects)]
    few = [place for place in places if place in {("city", 12), ("city", 40), ("country", 40)}]
    several = [
        Setting(u, n, e, seeds, split)
        for (u, n), e, seeds, split in itertools.product(few, effects, (3,) if quick else (3, 5), ("cities", "pairs"))
    ]
    cases = (
        [(0.8, 0.05)]
        if quick
        else [(0.5, 0.0), (0.5, 0.2), (0.75, 0.05), (0.75, 0.2), (0.95, 0.0), (0.94, 0.05), (1.0, 0.0)]
    )
    if "1" in wanted:
        cover_scores("Scores, one seed", one, scores, False, n_sets, rng)
    if "2" in wanted:
        cover_scores("Scores, a new seed on new clusters", several, scores, True, n_sets, rng)
    if "3" in wanted:
        cover_scores("Scores, these seeds on new clusters", several, scores, False, n_sets, rng)
    if "4" in wanted:
        cover_differences("Differences, one seed", one, cases, False, n_sets, rng)
        three = [setting for setting in several if setting.seeds == 3]
        of_three = cases[:1] if quick else [cases[i] for i in (0, 2, 3, 4)]
        cover_differences("Differences, a new seed on new clusters", three, of_three, True, n_sets, rng)
    if "5" in wanted:
        settings = [s for s in one if (s.unit, s.n) in few]
        settings += [s for s in several if (s.seeds, s.split, s.effects) == (3, "cities", "1, 1")]
        false_alarms(settings, [s for s in scores if 0.5 < s < 1], 10, n_sets, rng)
    if "6" in wanted:
        few_clusters(n_sets, rng)
    if "7" in wanted:
        detect([s for s in one if (s.unit, s.n) in few or s.n == 100], [0.5] if quick else [0.5, 0.75], n_sets, rng)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
