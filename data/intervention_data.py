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

import hashlib
import json
import random
from dataclasses import dataclass

from common.errors import UserError
from data.names import KINDS, PARTS, other
from data.ravel_data_prep import Prompts
from imports import torch

Pair = tuple[str, str, str]  # base city, source city, kind


def make_pairs(
    prompts: Prompts, target: str, mode: str, split: str, seed: int, max_pairs: int | None = None
) -> dict[str, list[Pair]]:
    """All pairs for a target, split into train, validation and test.

    split ``pairs``: the pairs of each kind are shuffled and cut 70 / 10 / 20.
    split ``cities``: the cities are; a pair's two cities come from the same
    part, so no city of a test pair occurs in a training pair.
    max_pairs: at most so many pairs of each kind in each part, drawn by the seed.

    Raises UserError if a part would be left without a pair of one kind.
    """
    names = [city.name for city in prompts.cities]
    if len(names) < 2:
        raise UserError(f"only {len(names)} known city: pairs need at least two; use more cities with --cities")
    rng = random.Random(f"{seed} {target} {mode} {split}")  # the same for every method and layer
    label = {"cause": prompts.labels[target].tolist(), "isolation": prompts.labels[other(target)].tolist()}
    everyone = range(len(names))
    if split == "cities":
        groups = _cut(_shuffled(everyone, rng), minimum=min(2, len(names) // 3))
    parts: dict[str, list[Pair]] = {part: [] for part in PARTS}
    for kind in KINDS:
        if split == "cities":
            found = {part: _ordered(group, label[kind], mode) for part, group in groups.items()}
            found = {part: _shuffled(pairs, rng) for part, pairs in found.items()}
        else:
            found = _cut(_shuffled(_ordered(everyone, label[kind], mode), rng))
        for part, pairs in found.items():
            if not pairs:
                raise UserError(
                    f"{len(names)} known cities leave no {kind} pair for {part} (mode {mode}, split {split}, target "
                    f"{target}); use more cities with --cities, or --split pairs --mode paper"
                )
            parts[part] += [(names[b], names[s], kind) for b, s in pairs[:max_pairs]]
    return parts


def _ordered(cities, label: list[int], mode: str) -> list[tuple[int, int]]:
    # Labels, not values: values that share their first token cannot be told apart.
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


def pairs_digest(pairs: dict[str, list[Pair]]) -> str:
    content = json.dumps({part: [list(pair) for pair in pairs[part]] for part in PARTS})
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass
class PairBatch:
    """Pairs as prompt rows (see `Prompts.row`): what the model sees and should answer."""

    base: torch.Tensor  # [N] int64, row of the base prompt
    source: torch.Tensor  # [N] int64, row of the source prompt
    label: torch.Tensor  # [N] int64, token
    is_cause: torch.Tensor  # [N] bool

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index) -> PairBatch:
        return PairBatch(self.base[index], self.source[index], self.label[index], self.is_cause[index])

    def to(self, device) -> PairBatch:
        return PairBatch(*(t.to(device) for t in (self.base, self.source, self.label, self.is_cause)))


def index_pairs(pairs: list[Pair], prompts: Prompts, target: str) -> PairBatch:
    """Look up rows and labels: a cause pair's label is the source's, an isolation pair's the base's."""
    position = {city.name: i for i, city in enumerate(prompts.cities)}
    base, source, label = [], [], []
    for base_name, source_name, kind in pairs:
        b, s = position[base_name], position[source_name]
        attribute = target if kind == "cause" else other(target)
        base.append(prompts.row(attribute, b))
        source.append(prompts.row(attribute, s))
        label.append(int(prompts.labels[attribute][s if kind == "cause" else b]))
    return PairBatch(
        torch.tensor(base), torch.tensor(source), torch.tensor(label), torch.tensor([p[2] == "cause" for p in pairs])
    )
