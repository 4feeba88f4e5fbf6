"""What the results of a grid say: each score's mean over seeds with its interval, and paired differences.

Everything is computed from the saved outcomes of the test pairs, so that the terminal, the json, the figures and the
report show the same numbers.  docs/statistics.md derives the intervals.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import stats
from common.errors import UserError
from common.text import meant
from data.names import CALLED, ENTITY, KINDS, PAPER, RAVEL, in_order, plural
from featurizers.labels import label_of
from featurizers.methods import BASELINES, beside, is_compared, method_named, ordered, size_family
from imports import np
from masks.names import MASKS, SCORES
from results.differences import Comparison, Contrast, differences
from results.outcomes import NEW_SEEDS_FROM, outcomes_of
from results.pairs import NamedPairs
from results.reading import of_templates, scores_of
from results.training import still_falls

RECONSTRUCTION = "reconstruction"  # an SAE's reconstruction spliced in, nothing patched


def not_compared(against: str) -> str:
    return f"no differences: {against} was not run beside another method (--against names one)"


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds and its 95 % interval: for another seed on other clusters.

    run_low, run_high: the interval for the seeds that were run, on other clusters; with fewer than NEW_SEEDS_FROM
    seeds, which say little of others, both are this one.
    n_pairs: test pairs of all seeds that the score is of; n_clusters: the independent units among them.
    """

    mean: float
    n: int
    low: float | None = None
    high: float | None = None
    run_low: float | None = None
    run_high: float | None = None
    n_pairs: int | None = None
    n_clusters: int | None = None


@dataclass(frozen=True)
class Choice:
    """A layer that was chosen among n_layers by the mean validation score, and its disentangle score on test pairs."""

    layer: int
    n_layers: int
    validation: float
    test: Estimate


class Grid:
    """Sound results of one model (results.reading.read_result), by cell, and what follows from their outcomes.

    unit: what intervals take to be independent: the values of an attribute, or each entity (its type, or 'entity');
        None: as the first result has it.
    labels: what tables and figures call users' own SAEs, by method (results.labels).
    held_out: what no training pair has of the test pairs, in words.
    """

    def __init__(self, results: list[dict], unit: str | None = None, labels: dict[str, str] | None = None):
        """Raises UserError if there is no such unit."""
        self.results, self.labels = results, labels or {}
        first = results[0] if results else {}
        self.held_out = first.get("held_out") or (
            "entities" if first.get("split") == "ravel" else first.get("split", "")
        )
        self.unit = unit or next((r["interval_unit"] for r in results), ENTITY)
        self.cells: dict[tuple, list[dict]] = {}
        for r in results:
            self.cells.setdefault((r["target"], r["method"], r["layer"]), []).append(r)
        self.targets = in_order(r["target"] for r in results)
        self.layers = sorted({r["layer"] for r in results})
        self.seeds = sorted({r["seed"] for r in results})
        self.n_cities = sorted({r["config"]["n_cities"] for r in results})
        every = [m for m in ordered(r["method"] for r in results) if m not in BASELINES]
        self.methods = [m for m in every if method_named(m).stands_alone]
        self.beside = {m: [c for c in beside(m) if c in every] for m in self.methods}  # what each is compared with
        self.controls = {m: [c for c in found if c not in self.methods] for m, found in self.beside.items()}
        self._hits: dict[tuple, dict[int, np.ndarray]] = {}  # (target, method, layer, mask): by seed, [N] bool
        self._pairs: dict[tuple[str, int], NamedPairs] = {}  # by target and seed
        self._compared: dict[tuple, list[Comparison]] = {}  # by what was wanted: terminal, json, figures ask again
        for r in results:
            self._pairs[r["target"], r["seed"]] = r["test_pairs"]
            for name, hit_N in r["outcomes"].items():
                self._note(r, name, hit_N)
        known = {*(name for pairs in self.pairs() for facts in pairs.facts.values() for name in facts), ENTITY, *RAVEL}
        if results and self.unit not in known:
            every = ", ".join(sorted(known))
            raise UserError(f"--cluster is {self.unit!r}{meant(self.unit, known)}; known are {every}")
        # By target, method, layer, mask and score.
        self.estimates = {key: found for target in self.targets for key, found in self._estimated(target)}

    def _note(self, r: dict, name: str, hit_N) -> None:
        """Keep outcomes under the method and mask that they are of; baselines' are beside every result's."""
        method = name if name in BASELINES else r["method"]
        for mask in (name,) if name in (*MASKS, RECONSTRUCTION) else MASKS:
            self._hits.setdefault((r["target"], method, r["layer"], mask), {}).setdefault(r["seed"], hit_N)

    def with_templates_held_out(self) -> "Grid | None":
        """The same results on the pairs whose templates were held out, where there are any."""
        results = of_templates(self.results)
        return Grid(results, self.unit, self.labels) if results else None

    def pairs(self) -> list[NamedPairs]:
        """The test pairs of every target and seed."""
        return list(self._pairs.values())

    @property
    def entities(self) -> tuple[str, str]:
        """What prompts are about, in words: one, and several."""
        found = next((r["config"].get("facts") for r in self.results), None)
        return CALLED[found if found in RAVEL else "city"]

    @property
    def attributes(self) -> list[str]:
        """Those that took part: the targets and what was to stay as it is."""
        return in_order(a for r in self.results for a in r["config"].get("attributes", PAPER))

    @property
    def notice(self) -> str:
        """What must stand beside every number of this model; '' if nothing must."""
        return next((r["notice"] for r in self.results if r["notice"]), "")

    def label(self, method: str) -> str:
        """What a method is called in tables and figures."""
        return label_of(method, self.labels)

    # ------------------------------------------------------------ cells

    def of(self, target: str, method: str, layer: int) -> list[dict]:
        """The results of a cell, one a seed."""
        return self.cells.get((target, method, layer), [])

    def layers_of(self, target: str, method: str) -> list[int]:
        return [layer for layer in self.layers if self.of(target, method, layer)]

    def mean(self, target: str, method: str, layer: int, key: str) -> float | None:
        """Mean over seeds of a number beside the scores, such as n_selected; None where there is none."""
        found = [r[key] for r in self.of(target, method, layer) if r[key] is not None]
        return sum(found) / len(found) if found else None

    def still_falling(self, target: str, method: str, layer: int) -> bool | None:
        """Whether the training loss of any seed still falls at the last epoch; None: cannot be told."""
        found = [still_falls(r["history"]) for r in self.of(target, method, layer)]
        return True if True in found else False if False in found else None

    def is_last_block(self, layer: int) -> bool:
        return any(r["last_block"] for r in self.results if r["layer"] == layer)

    # ------------------------------------------------------------ scores

    def score(self, target: str, method: str, layer: int, mask: str, name: str) -> Estimate | None:
        """A score of the test pairs; of `none` and `full` also where only other methods were run."""
        return self.estimates.get((target, method, layer, mask, name))

    def reconstruction(self, target: str, method: str, layer: int, name: str) -> Estimate | None:
        return self.score(target, method, layer, RECONSTRUCTION, name)

    def _estimated(self, target: str):
        """(cell and score, its estimate) of a target; those with the same seeds are computed at once."""
        by_seeds: dict[tuple, list[tuple]] = {}
        for key, by_seed in self._hits.items():
            if key[0] == target:
                by_seeds.setdefault(tuple(sorted(by_seed)), []).append(key)
        for seeds, keys in by_seeds.items():
            outcomes = self.outcomes(target, seeds, keys)
            of_run = stats.intervals(outcomes)
            new = stats.intervals(outcomes, new_seeds=True) if len(seeds) >= NEW_SEEDS_FROM else of_run
            shares = [scores_of(o.hit_MN, o.group_N) for o in outcomes]
            n_cause, *n_kept = np.sum([o.sizes_G for o in outcomes], axis=0).tolist()
            n_pairs = dict(zip(KINDS, (n_cause, sum(n_kept)), strict=True))
            for name in SCORES:
                n = n_pairs.get(name, sum(n_pairs.values()))
                ends = (new[name].low, new[name].high, of_run[name].low, of_run[name].high)
                mean_M = np.mean([of_seed[name] for of_seed in shares], axis=0)
                for key, numbers in zip(keys, np.stack([mean_M, *ends], axis=1).tolist(), strict=True):
                    mean, *four = numbers
                    yield (*key, name), Estimate(mean, len(seeds), *four, n, of_run[name].n_clusters)

    def hits(self, target: str, method: str, layer: int, mask: str) -> dict[int, np.ndarray]:
        """By seed, which test pairs were right, [N] bool; of `none` and `full` also where only others were run."""
        return self._hits.get((target, method, layer, mask), {})

    def outcomes(self, target: str, seeds: Iterable[int], keys: list[tuple]) -> list["stats.Outcomes"]:
        """Of each seed, the outcomes of these cells on its test pairs, [cells, N]."""
        return [
            outcomes_of(np.stack([self._hits[key][seed] for key in keys]), self._pairs[target, seed], self.unit)
            for seed in seeds
        ]

    def choice(self, target: str, method: str, mask: str) -> Choice | None:
        """The layer at which a method does best on the validation pairs, of those where it was trained."""
        found = {}
        for layer in self.layers_of(target, method):
            scores = [r["validation"][mask]["disentangle"] for r in self.of(target, method, layer)]
            if not self.is_last_block(layer):
                found[layer] = sum(scores) / len(scores)
        if not found:
            return None
        layer = max(found, key=lambda layer: (found[layer], -layer))
        return Choice(layer, len(found), found[layer], self.score(target, method, layer, mask, "disentangle"))

    def best(self, target: str, mask: str) -> tuple[str, Choice] | None:
        """The method that does best on the validation pairs, with its layer there; of equal ones the first."""
        found = [(method, choice) for method in self.methods if (choice := self.choice(target, method, mask))]
        return max(found, key=lambda each: each[1].validation, default=None)

    def size_choice(self, target: str, family: str, mask: str) -> tuple[str, int, Choice] | None:
        """The size of METHOD@ that does best on the validation pairs, each at the layer where it does.

        Returns that method, of how many sizes it was chosen, and its layer; None if fewer than two sizes were run.
        """
        of_family = [m for m in self.methods if size_family(m) == family]
        found = {m: choice for m in of_family if (choice := self.choice(target, m, mask))}
        if len(found) < 2:
            return None
        best = max(found, key=lambda m: found[m].validation)  # of equal ones the smallest
        return best, len(found), found[best]

    @property
    def size_families(self) -> list[str]:
        """METHOD@ of every method that was run with a size."""
        return list(dict.fromkeys(family for m in self.methods if (family := size_family(m))))

    # ------------------------------------------------------------ differences

    def compare(self, against: str, mask: str) -> list[Comparison]:
        """Every method that has features to select, minus `against`, at each layer where both were run."""
        return self._compare([(m, against) for m in self.methods if m != against and is_compared(m)], mask)

    def compare_controls(self, mask: str) -> list[Comparison]:
        """Every method minus each of its controls, at each layer where both were run."""
        return self._compare([(m, control) for m in self.methods for control in self.beside[m]], mask)

    def _compare(self, both: list[tuple[str, str]], mask: str) -> list[Comparison]:
        return self.contrast([Contrast(a, layer, b, layer) for layer in self.layers for a, b in both], mask)

    def contrast(self, wanted: Iterable[Contrast], mask: str) -> list[Comparison]:
        """These differences, at each target (results.differences)."""
        key = (*wanted, mask)
        if key not in self._compared:
            self._compared[key] = differences(self, key[:-1], mask)
        return self._compared[key]

    @property
    def meaning(self) -> str:
        """What the intervals are for, in words."""
        seeds = "this seed" if len(self.seeds) == 1 else "these seeds"
        seeds = "another seed" if len(self.seeds) >= NEW_SEEDS_FROM else seeds
        return f"for {seeds} on other {plural(self.unit)}"

    @property
    def warnings(self) -> list[str]:
        """What the intervals cannot say, each in a line."""
        unit = plural(self.unit)
        n = len(self.seeds)
        uneven = [f"{t} {self.label(m)} L{layer} ({len(c)})" for (t, m, layer), c in self.cells.items() if len(c) < n]
        found = []
        if uneven:
            more = f" and {len(uneven) - 4} more" if len(uneven) > 4 else ""
            found.append(
                f"fewer than {n} seeds: {', '.join(uneven[:4])}{more}; what is said of these is of the seeds they have"
            )
        for target in self.targets:
            key, by_seed = next((k, hits) for k, hits in self._hits.items() if k[0] == target)
            line = stats.too_few_clusters(self.outcomes(target, sorted(by_seed), [key]), unit=unit)
            if line:
                found.append(f"{target}: {line}")
        return found
