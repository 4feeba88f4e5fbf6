"""What a grid could show: the least difference of two methods that it would find, told before anything is run."""

import json
import textwrap

import stats
from data.facts import read_cities
from data.names import ATTRIBUTES
from data.pairs import draw_pairs
from featurizers.methods import BASELINES, method_named
from grid.settings import Settings
from results.estimates import NEW_SEEDS_FROM, UNITS_IN_WORDS
from results.run import Run
from results.store import Store


def print_power(runs: list[Run], store: Store, settings: Settings, n_layers: int) -> None:
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
    families = _families(runs, settings, n_layers)
    _print(f"{len(cities)} cities {source}")
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
        among = (
            f"{len(ends)} cities"
            if settings.cluster == "city"
            else (f"{len(ends)} cities of {len(clusters)} {UNITS_IN_WORDS[settings.cluster]}")
        )
        _print(f"{target}: {min(n_pairs)} test pairs a seed, {n_seeds} seed{'s' * (n_seeds > 1)}, {among} among them")
        found = [f"{stats.plan_difference(**design):.3f} in one comparison"]
        found += [
            f"{stats.plan_difference(**design, family=n):.3f} as one of {n} {what}" for what, n in families if n > 1
        ]
        _print(f"  with a chance of .8 a difference is found of {', '.join(found)}")
    if not families:
        _print(f"no method here will be compared: {settings.against} (--against) and another one are needed")
    assumed = stats.Components()
    unit = UNITS_IN_WORDS[settings.cluster]
    cities_too = "" if settings.cluster == "city" else f", {assumed.city:.0%} to cities within them"
    _print(
        f"assumed, not measured: two methods differ on {assumed.discordant:.0%} of the pairs; of that variance "
        f"{assumed.cluster:.0%} is due to {unit}{cities_too}; over seeds a difference has an sd of {assumed.seed}"
    )
    if n_seeds == NEW_SEEDS_FROM:
        _print("three seeds speak for others, but barely (t = 4.3 with 2 degrees of freedom): five show much more")


def _families(runs: list[Run], settings: Settings, n_layers: int) -> list[tuple[str, int]]:
    """What will be corrected together, and how many comparisons that is: as `results.estimates.Grid` compares."""
    cells = {(r.target, r.method, r.layer) for r in runs if r.layer < n_layers - 1}
    methods = [m for _, m, _ in cells if not method_named(m).control and m not in BASELINES and m != settings.against]
    against = len(methods) if any(m == settings.against for _, m, _ in cells) else 0
    controls = sum((t, method_named(m).of, layer) in cells for t, m, layer in cells if method_named(m).control)
    named = ((f"comparisons with {settings.against}", against), ("comparisons with controls", controls))
    return [(what, n) for what, n in named if n]


def _print(line: str) -> None:
    print(textwrap.fill(line, 79, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
