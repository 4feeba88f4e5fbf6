"""Counterfactual pairs as RAVEL draws them, over the prompts that a model answers rightly.

The base prompt asks for an attribute of the base entity; the source prompt is any template, of whichever attribute,
with the source entity: its vector must not depend on what is asked.  For a target attribute A:

    cause          base asks for A; right is what the model answers to base's template with the *source* entity
    isolation:B    base asks for another attribute B; right is the *base* entity's answer

A pair is drawn only if the two entities' values, and the first tokens of the model's answers for them, differ (in
tests the answers, where these count as a whole).  Sources are drawn with weights 1 / (20 + n), n entities having their
value, which evens out frequent values (RAVEL's own, its constant 20).

    train           training entities, training templates
    validation      validation entities, training templates
    test            test entities, training templates: entities held out
    test_templates  training entities, test templates: templates held out

Every other attribute has as many isolation pairs as the next, all of them together as many as there are cause pairs.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from common.errors import UserError
from data.batches import PairBatch
from data.names import KINDS, isolation
from data.prompts import Prompt, Prompts

SPLIT = {  # part -> the parts of RAVEL's splits that its entities and its templates are of
    "train": ("train", "train"),
    "validation": ("validation", "train"),
    "test": ("test", "train"),
    "test_templates": ("train", "test"),
}
EVEN = 20  # in the weights of sources
PER_BASE = 10  # sources of a base prompt, at most
MAX_PAIRS = 2000  # of a kind in a part, where --max-pairs says nothing
Pair = tuple[int, int, str]  # rows of base and source, kind


def draw_ravel(
    prompts: Prompts, target: str, seed: int, max_pairs: int | None = None, whole: Container[str] = ()
) -> dict[str, list[Pair]]:
    """The pairs of a target by part.

    max_pairs: of cause, and of isolation, in a part; whole: attributes whose answers count as a whole, so that in a
    test they may begin alike.
    Raises UserError if a part would have no pair of a kind.
    """
    rng = random.Random(f"{seed} {target} ravel")  # the same for every method and layer
    others = [attribute for attribute in prompts.attributes if attribute != target]
    if not others:
        raise UserError(f"{target} is the only attribute: isolation needs another; name more with --attributes")
    n_cause = max_pairs or MAX_PAIRS
    wanted = {target: (KINDS[0], n_cause)} | {a: (isolation(a), max(1, n_cause // len(others))) for a in others}
    found: dict[str, list[Pair]] = {}
    for part, (entity_part, template_part) in SPLIT.items():
        pool = _Pool(prompts, entity_part, template_part)
        found[part] = []
        for attribute, (kind, n) in wanted.items():
            pairs = pool.draw(attribute, n, rng, may_begin_alike=part != "train" and attribute in whole)
            if not pairs:
                raise UserError(
                    f"no {kind} pair for {part} (target {target}): the model answers too few prompts about "
                    f"{attribute}; leave it out of --attributes, or ask more with --max-entities and --max-templates"
                )
            found[part] += [(base, source, kind) for base, source in pairs]
    return found


class _Pool:
    """The prompts of one part."""

    def __init__(self, prompts: Prompts, entity_part: str, template_part: str):
        self.prompts = prompts
        self.rows = [
            r
            for r, prompt in enumerate(prompts.rows)
            if prompts.entities[prompt.entity].part == entity_part
            and prompts.templates[prompt.template].part == template_part
        ]
        self.of_entity: dict[int, list[int]] = defaultdict(list)
        self.of_template: dict[int, list[int]] = defaultdict(list)
        for r in self.rows:
            self.of_entity[prompts.rows[r].entity].append(r)
            self.of_template[prompts.rows[r].template].append(r)

    def draw(self, attribute: str, n: int, rng: random.Random, may_begin_alike: bool) -> list[tuple[int, int]]:
        """Rows of base and source of at most n different pairs; all base prompts are used about equally often."""
        rows = self.prompts.rows
        bases = [r for r in self.rows if rows[r].attribute == attribute]
        rng.shuffle(bases)
        frequency = Counter(self._value(entity, attribute) for entity in {rows[r].entity for r in bases})
        found: dict[tuple[int, int], None] = {}
        for _ in range(PER_BASE):
            for base in bases:
                if len(found) == n:
                    return list(found)
                # Only entities of which the model answers this very template: their answer is the label.
                sources = [
                    rows[r].entity
                    for r in self.of_template[rows[base].template]
                    if self._differ(rows[base], rows[r], may_begin_alike)
                ]
                if sources:
                    weights = [1 / (EVEN + frequency[self._value(entity, attribute)]) for entity in sources]
                    (entity,) = rng.choices(sources, weights)
                    found[base, rng.choice(self.of_entity[entity])] = None
        return list(found)

    def _value(self, entity: int, attribute: str) -> str:
        return self.prompts.entities[entity].value(attribute)

    def _differ(self, a: Prompt, b: Prompt, may_begin_alike: bool) -> bool:
        """Whether two prompts of one template have different values, and answers that differ in their first token."""
        answers_differ = a.answer != b.answer if may_begin_alike else a.label != b.label
        return answers_differ and self._value(a.entity, a.attribute) != self._value(b.entity, b.attribute)


@dataclass
class Table:
    """The rows that pairs need, each once; they are what is run through the model."""

    prompts: Prompts
    rows: list[Prompt] = field(default_factory=list)
    index: dict[tuple, int] = field(default_factory=dict)

    def __post_init__(self):
        self.answer_of = {(p.template, p.entity): p.answer for p in self.prompts.rows}

    def batch(self, pairs: Iterable[Pair], groups: list[str], whole: Container[str], continues: bool) -> PairBatch:
        """groups: names of kinds, by number; whole: attributes whose answers count as a whole.

        continues: whether the tokens of the answer behind its first are asked for too.
        """
        columns: list[list] = [[] for _ in range(6)]
        for b, s, kind in pairs:
            base, source = self.prompts.rows[b], self.prompts.rows[s]
            answer = self.answer_of[base.template, source.entity] if kind == KINDS[0] else base.answer
            for step in range(len(answer) if continues else 1):
                row = replace(base, tokens=base.tokens + answer[:step], label=answer[step], step=step, answer=())
                for column, value in zip(
                    columns,
                    (
                        self._row((b, answer[:step]), row if step else base),
                        self._row((s, ()), source),
                        answer[step],
                        groups.index(kind),
                        step,
                        continues and base.attribute in whole,
                    ),
                    strict=True,
                ):
                    column.append(value)
        return PairBatch.of(*columns)

    def _row(self, key: tuple, row: Prompt) -> int:
        if key not in self.index:
            self.index[key] = len(self.rows)
            self.rows.append(row)
        return self.index[key]

    def asked(self) -> Prompts:
        """The prompts of all batches made so far, in the order that these count them."""
        return replace(self.prompts, rows=self.rows)


def named_ravel(pairs: Mapping[str, list[Pair]], prompts: Prompts) -> dict:
    """The pairs as files keep them: by part, [base entity, source entity, kind, base template, source template,
    tokens of the model's answer about the base entity, of that about the source entity to the same template].

    Templates are numbers into "templates" and "asked_for", their attributes; "facts": all that is known of the
    entities, by attribute.
    """
    rows, entities = prompts.rows, prompts.entities
    answer_of = {(p.template, p.entity): p.answer for p in rows}
    used = sorted({rows[r].template for part in pairs.values() for pair in part for r in pair[:2]})
    place = {number: i for i, number in enumerate(used)}
    content: dict = {
        part: [
            [
                *(entities[rows[r].entity].name for r in (b, s)),
                kind,
                *(place[rows[r].template] for r in (b, s)),
                *(list(answer_of[rows[b].template, rows[r].entity]) for r in (b, s)),
            ]
            for b, s, kind in found
        ]
        for part, found in pairs.items()
    }
    taking_part = sorted({rows[r].entity for r in itertools.chain(*(p[:2] for found in pairs.values() for p in found))})
    return {
        **content,
        "templates": [str(prompts.templates[number]) for number in used],
        "asked_for": [prompts.templates[number].attribute for number in used],
        "facts": {entities[i].name: entities[i].values for i in taking_part},
    }


def shared_first_tokens(prompts: Prompts, attribute: str) -> float:
    """How often two entities with different values have answers that begin alike, in one template: from 0 to 1."""
    alike = total = 0
    by_template: dict[int, list[Prompt]] = defaultdict(list)
    for r in prompts.rows_about(attribute):
        by_template[prompts.rows[r].template].append(prompts.rows[r])
    for rows in by_template.values():
        values = Counter(prompts.entities[p.entity].value(attribute) for p in rows)
        labels = Counter(p.label for p in rows)
        both = Counter((prompts.entities[p.entity].value(attribute), p.label) for p in rows)
        squares = [sum(n * n for n in counts.values()) for counts in (values, labels, both)]
        total += len(rows) ** 2 - squares[0]  # ordered pairs with different values
        alike += squares[1] - squares[2]
    return alike / total if total else 0.0
