"""What a grid could show: the least difference of two methods that it would find, told before anything is run."""

import json

import stats
from data.facts import read_cities
from data.names import ATTRIBUTES
from data.pairs import draw_pairs
from featurizers.methods import BASELINES
from grid.settings import Settings
from results.estimates import NEW_SEEDS_FROM, UNITS_IN_WORDS
from results.run import Run
from results.store import Store


def print_power(runs: list[Run], store: Store, settings: Settings) -> None:
    """Per target: the test pairs that these cities and seeds give, and the least difference that they would show.

    The cities are those that take part according to an earlier run, else all of the file.  Values stand for the
    labels that a tokenizer would give, so that two values with one first token count as different.
    """
    cities = read_cities(settings.cities)
    try:
        names = set(json.loads((store.root / "cities.json").read_text(encoding="utf-8"))["names"])
        source = f"that take part ({store.root / 'cities.json'})"
    except (OSError, ValueError, KeyError, TypeError):
        names, source = {city.name for city in cities}, f"in {settings.cities}, as if the model knew them all"
    cities = [city for city in cities if city.name in names]
    compared = {run.method for run in runs} - {*BASELINES, settings.against}
    family = len({(r.target, r.method, r.layer) for r in runs if r.method in compared})
    print(f"{len(cities)} cities {source}")
    for target in settings.targets:
        clusters, ends, n_pairs = set(), set(), []
        for seed in settings.seeds:
            labels = {attribute: [city.value(attribute) for city in cities] for attribute in ATTRIBUTES}
            pairs = draw_pairs(labels, target, settings.mode, settings.split, seed, settings.max_pairs)["test"]
            touched = {i for pair in pairs for i in pair[:2]}
            ends |= touched
            clusters |= {
                cities[i].name if settings.cluster == "city" else cities[i].value(settings.cluster) for i in touched
            }
            n_pairs.append(len(pairs))
        n_seeds = len(settings.seeds)
        design = {
            "n_clusters": len(clusters),
            "n_cities": None if settings.cluster == "city" else len(ends),
            "n_pairs": min(n_pairs),
            "n_seeds": n_seeds,
            "new_seeds": n_seeds >= NEW_SEEDS_FROM,
        }
        alone, first = (stats.plan_difference(**design, family=n) for n in (1, max(family, 1)))
        print(
            f"{target}: {min(n_pairs)} test pairs a seed, {n_seeds} seed{'s' * (n_seeds > 1)}, {len(ends)} cities of "
            f"{len(clusters)} {UNITS_IN_WORDS[settings.cluster]} among them\n"
            f"  a difference of {alone:.3f} is found with a chance of .8; of {first:.3f} as one of {family} comparisons"
        )
    assumed = stats.Components()
    print(
        f"assumed, not measured: two methods differ on {assumed.discordant:.0%} of the pairs; of that variance\n"
        f"{assumed.cluster:.0%} is due to {UNITS_IN_WORDS[settings.cluster]}, {assumed.city:.0%} to cities; seeds' "
        f"differences have an sd of {assumed.seed}"
    )
