"""Counterfactual pairs: which city's vector is patched into which prompt.

For a target attribute A and the other attribute B, over ordered pairs of cities:

    cause      base and source prompt ask for A; right is the *source* city's A
    isolation  base and source prompt ask for B; right is the *base* city's B

Mode ``paper`` keeps every pair, self-pairs and equal values too; doing nothing
then already scores well.  Mode ``strict`` keeps a pair only if the two cities'
labels for the prompt's attribute differ, so that doing nothing scores 0 on cause
and patching everything gets no isolation for free; and it splits by city.
"""

from __future__ import annotations

import random

from common.errors import UserError
from data.batches import PairBatch
from data.names import KINDS, PARTS, other
from data.prompts import Prompts

Pair = tuple[int, int, str]  # base city, source city (indices into Prompts.entities), kind


def make_pairs(
    prompts: Prompts, target: str, mode: str, split: str, seed: int, max_pairs: int | None = None
) -> dict[str, list[Pair]]:
    """`draw_pairs` of the cities of these prompts, told apart by their labels.

    Labels, not values: values that share their first token cannot be told apart.
    """
    labels = {a: [prompts.rows[r].label for r in prompts.rows_about(a)] for a in prompts.attributes}
    return draw_pairs(labels, target, mode, split, seed, max_pairs)


def draw_pairs(
    labels_by_attribute: dict[str, list], target: str, mode: str, split: str, seed: int, max_pairs: int | None = None
) -> dict[str, list[Pair]]:
    """All pairs for a target, split into train, validation and test.

    labels_by_attribute: each city's answer, in the order of the cities.
    split ``pairs``: the pairs of each kind are shuffled and cut 70 / 10 / 20.
    split ``cities``: the cities are; a pair's two cities come from the same
    part, so no city of a test pair occurs in a training pair.
    max_pairs: at most so many pairs of each kind in each part, drawn by the seed.

    Raises UserError if a part would be left without a pair of one kind.
    """
    labels = {
        "cause": labels_by_attribute[target],
        "isolation": labels_by_attribute[other(target, tuple(labels_by_attribute))],
    }
    n = len(labels["cause"])
    if n < 2:
        raise UserError(f"only {n} known city: pairs need at least two; use more cities with --cities")
    rng = random.Random(f"{seed} {target} {mode} {split}")  # the same for every method and layer
    if split == "cities":
        groups = _cut(_shuffled(range(n), rng), minimum=min(2, n // 3))
    parts: dict[str, list[Pair]] = {part: [] for part in PARTS}
    for kind in KINDS:
        if split == "cities":
            found = {part: _ordered(group, labels[kind], mode) for part, group in groups.items()}
            found = {part: _shuffled(pairs, rng) for part, pairs in found.items()}
        else:
            found = _cut(_shuffled(_ordered(range(n), labels[kind], mode), rng))
        for part, pairs in found.items():
            if not pairs:
                raise UserError(
                    f"{n} known cities leave no {kind} pair for {part} (mode {mode}, split {split}, target "
                    f"{target}); use more cities with --cities, or --split pairs --mode paper"
                )
            parts[part] += [(base, source, kind) for base, source in pairs[:max_pairs]]
    return parts


def _ordered(cities, label: list, mode: str) -> list[tuple[int, int]]:
    return [(b, s) for b in cities for s in cities if mode == "paper" or label[b] != label[s]]


def _shuffled(items, rng: random.Random) -> list:
    items = list(items)
    rng.shuffle(items)
    return items


def _cut(items: list, minimum: int = 0) -> dict[str, list]:
    """Cut in the shares of PARTS; validation and test get at least `minimum` items."""
    n_test = max(minimum, round(PARTS["test"] * len(items)))
    n_validation = max(minimum, round(PARTS["validation"] * len(items)))
    n_train = len(items) - n_validation - n_test
    return {
        "train": items[:n_train],
        "validation": items[n_train : n_train + n_validation],
        "test": items[n_train + n_validation :],
    }


def named(pairs: dict[str, list[Pair]], prompts: Prompts) -> dict:
    """The pairs as files keep them: by part, [base city, source city, kind] by name; and the facts of these cities."""
    cities = prompts.entities
    content: dict = {part: [[cities[b].name, cities[s].name, kind] for b, s, kind in pairs[part]] for part in PARTS}
    taking_part = sorted({i for part in PARTS for pair in pairs[part] for i in pair[:2]})
    facts = {cities[i].name: {a: cities[i].value(a) for a in prompts.attributes} for i in taking_part}
    return {**content, "facts": facts}


def batch_of(pairs: list[Pair], prompts: Prompts, target: str) -> PairBatch:
    """Look up rows and labels: a cause pair's label is the source's, an isolation pair's the base's."""
    base, source, label = [], [], []
    for b, s, kind in pairs:
        attribute = target if kind == "cause" else other(target, prompts.attributes)
        base.append(prompts.row(attribute, b))
        source.append(prompts.row(attribute, s))
        label.append(prompts.rows[source[-1] if kind == "cause" else base[-1]].label)
    return PairBatch.of(base, source, label, [kind != "cause" for _, _, kind in pairs])
