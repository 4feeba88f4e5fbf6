"""What a grid could show: the least difference of two methods that it would find, told before anything is run."""

import json

import stats
from common.text import filled
from data.facts import Entity, read_cities
from data.names import PAPER, plural
from data.pairs import draw_pairs
from featurizers.methods import BASELINES, beside, is_compared
from grid.settings import Settings
from results.outcomes import NEW_SEEDS_FROM
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
    unit = plural(settings.cluster)
    n_seeds = len(settings.seeds)
    print(filled(f"{len(cities)} cities {source}"))
    for target in settings.targets:
        design, among = _design(cities, target, settings)
        found = [f"{stats.plan_difference(**design):.3f} in one comparison"]
        found += [
            f"{stats.plan_difference(**design, family=n):.3f} as one of {n} {what}" for what, n in families if n > 1
        ]
        pairs = f"{design['n_pairs']} test pairs a seed, {n_seeds} seed{'s' * (n_seeds > 1)}"
        print(filled(f"{target}: {pairs}, {among} among them"))
        print(filled(f"  with a chance of .8 a difference is found of {', '.join(found)}"))
    if not families:
        print(filled(f"no method here will be compared: {settings.against} (--against) and another one are needed"))
    assumed = stats.Components()
    cities_too = "" if settings.cluster == "city" else f", {assumed.city:.0%} to cities within them"
    assumptions = (
        f"assumed, not measured: two methods differ on {assumed.discordant:.0%} of the pairs; of that variance "
        f"{assumed.cluster:.0%} is due to {unit}{cities_too}; over seeds a difference has an sd of {assumed.seed}"
    )
    print(filled(assumptions))
    if n_seeds == NEW_SEEDS_FROM:
        barely = "three seeds speak for others, but barely (t = 4.3 with 2 degrees of freedom): five show much more"
        print(filled(barely))


def _design(cities: list[Entity], target: str, settings: Settings) -> tuple[dict, str]:
    """What `stats.plan_difference` asks of a target's test pairs, and in words how many cities are among them."""
    labels = {attribute: [city.value(attribute) for city in cities] for attribute in PAPER}
    tests = [
        draw_pairs(labels, target, settings.mode, settings.split, seed, settings.max_pairs)["test"]
        for seed in settings.seeds
    ]
    ends = [cities[i] for i in {i for pairs in tests for base, source, _ in pairs for i in (base, source)}]
    by_city = settings.cluster == "city"
    clusters = {city.name if by_city else city.value(settings.cluster) for city in ends}
    design = {
        "n_clusters": len(clusters),
        "n_cities": None if by_city else len(ends),
        "n_pairs": min(map(len, tests)),
        "n_seeds": len(tests),
        "new_seeds": len(tests) >= NEW_SEEDS_FROM,
    }
    of = "" if by_city else f" of {len(clusters)} {plural(settings.cluster)}"
    return design, f"{len(ends)} cities{of}"


def _families(runs: list[Run], settings: Settings, n_layers: int) -> list[tuple[str, int]]:
    """What will be corrected together, and how many comparisons that is: as `results.estimates.Grid` compares."""
    cells = {(r.target, r.method, r.layer) for r in runs if r.layer < n_layers - 1}
    methods = [m for _, m, _ in cells if is_compared(m) and m not in BASELINES and m != settings.against]
    against = len(methods) if any(m == settings.against for _, m, _ in cells) else 0
    controls = sum((t, other, layer) in cells for t, m, layer in cells for other in beside(m))
    named = ((f"comparisons with {settings.against}", against), ("comparisons with controls", controls))
    return [(what, n) for what, n in named if n]
