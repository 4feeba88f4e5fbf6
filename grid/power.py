"""What a grid could show: the least difference of two methods that it would find, told before anything is run."""

import json

import stats
from common.errors import UserError
from common.text import filled
from data.asking import Limits, drawn
from data.facts import Entity, read_cities
from data.names import CALLED, ENTITY, PAPER, plural
from data.pairs import draw_pairs
from data.ravel_pairs import MAX_PAIRS, SPLIT
from featurizers.methods import BASELINES, beside, is_compared
from grid.settings import Settings
from results.outcomes import NEW_SEEDS_FROM
from results.run import Run
from results.store import Store


def print_power(runs: list[Run], store: Store, settings: Settings, n_layers: int) -> None:
    """Per target: the test pairs that these cities and seeds give, and the least difference that they would show.

    The cities, or RAVEL's entities, are those that take part according to an earlier run, else all of the file.
    Values stand for the labels that a tokenizer would give, so that two values with one first token count as different.
    """
    if settings.ravel:
        limits = settings.ravel.limits
        entities = drawn(settings.ravel.facts.entities, limits["max_entities"])
        kind, of = settings.ravel.facts.entity_type, f"of RAVEL's {len(entities):,}"
        entities = drawn(entities, limits["top_entities"] or Limits.top_entities)  # as many as will be kept
    else:
        entities, kind, of = read_cities(settings.cities), "city", f"in {settings.cities}"
    try:
        names = set(json.loads((store.root / "cities.json").read_text(encoding="utf-8"))["names"])
        source = f"that take part ({store.root / 'cities.json'})"
    except (OSError, ValueError, KeyError, TypeError):
        names, source = {entity.name for entity in entities}, f"{of}, as if the model knew them all"
    entities = [entity for entity in entities if entity.name in names]
    families = _families(runs, settings, n_layers)
    unit = plural(settings.cluster)
    n_seeds = len(settings.seeds)
    print(filled(f"{len(entities)} {CALLED[kind][1]} {source}"))
    said: dict[tuple, list[str]] = {}  # what is to be said of targets -> these targets
    for target in settings.targets:
        design, among = _design(entities, target, settings, kind)
        found = [f"{stats.plan_difference(**design):.3f} in one comparison"]
        found += [
            f"{stats.plan_difference(**design, family=n):.3f} as one of {n} {what}" for what, n in families if n > 1
        ]
        pairs = f"{design['n_pairs']} test pairs a seed, {n_seeds} seed{'s' * (n_seeds > 1)}"
        lines = f"{pairs}, {among} among them", f"  with a chance of .8 a difference is found of {', '.join(found)}"
        said.setdefault(lines, []).append(target)
    for (pairs, found), targets in said.items():
        print(filled(f"{', '.join(targets)}: {pairs}"))
        print(filled(found))
    if not families:
        print(filled(f"no method here will be compared: {settings.against} (--against) and another one are needed"))
    assumed = stats.Components()
    within = f", {assumed.city:.0%} to {CALLED[kind][1]} within them"
    cities_too = "" if settings.cluster in (kind, ENTITY) else within
    assumptions = (
        f"assumed, not measured: two methods differ on {assumed.discordant:.0%} of the pairs; of that variance "
        f"{assumed.cluster:.0%} is due to {unit}{cities_too}; over seeds a difference has an sd of {assumed.seed}"
    )
    print(filled(assumptions))
    if n_seeds == NEW_SEEDS_FROM:
        barely = "three seeds speak for others, but barely (t = 4.3 with 2 degrees of freedom): five show much more"
        print(filled(barely))


def _design(entities: list[Entity], target: str, settings: Settings, kind: str) -> tuple[dict, str]:
    """What `stats.plan_difference` asks of a target's test pairs, and in words how many entities are among them."""
    ends, n_pairs = (_ravel_pairs if settings.ravel else _paper_pairs)(entities, target, settings)
    by_entity = settings.cluster in (kind, ENTITY)
    clusters = {e.name if by_entity else e.values.get(settings.cluster, e.name) for e in ends}
    if len(clusters) < 2:
        raise UserError(
            f"the test pairs of {target} would touch {len(clusters)} of {plural(settings.cluster)}, and intervals need "
            "two; use more of them, or another --cluster"
        )
    design = {
        "n_clusters": len(clusters),
        "n_cities": None if by_entity else len(ends),
        "n_pairs": n_pairs,
        "n_seeds": len(settings.seeds),
        "new_seeds": len(settings.seeds) >= NEW_SEEDS_FROM,
    }
    of = "" if by_entity else f" of {len(clusters)} {plural(settings.cluster)}"
    return design, f"{len(ends)} {CALLED[kind][1]}{of}"


def _paper_pairs(cities: list[Entity], target: str, settings: Settings) -> tuple[list[Entity], int]:
    """The cities of the test pairs, and how many of these there are at least."""
    labels = {attribute: [city.value(attribute) for city in cities] for attribute in PAPER}
    tests = [
        draw_pairs(labels, target, settings.mode, settings.split, seed, settings.max_pairs)["test"]
        for seed in settings.seeds
    ]
    ends = {i for pairs in tests for base, source, _ in pairs for i in (base, source)}
    return [cities[i] for i in ends], min(map(len, tests))


def _ravel_pairs(entities: list[Entity], target: str, settings: Settings) -> tuple[list[Entity], int]:
    """The same for RAVEL's test of entities held out, with as many pairs as are asked for."""
    held_out = [e for e in entities if e.part == SPLIT["test"][0] and target in e.values]
    return held_out, 2 * (settings.max_pairs or MAX_PAIRS)


def _families(runs: list[Run], settings: Settings, n_layers: int) -> list[tuple[str, int]]:
    """What will be corrected together, and how many comparisons that is: as `results.estimates.Grid` compares."""
    cells = {(r.target, r.method, r.layer) for r in runs if r.layer < n_layers - 1}
    methods = [m for _, m, _ in cells if is_compared(m) and m not in BASELINES and m != settings.against]
    against = len(methods) if any(m == settings.against for _, m, _ in cells) else 0
    controls = sum((t, other, layer) in cells for t, m, layer in cells for other in beside(m))
    named = ((f"comparisons with {settings.against}", against), ("comparisons with controls", controls))
    return [(what, n) for what, n in named if n]
