"""Ask a model all that RAVEL's templates ask, and keep what it knows.

A prompt is kept if the model, writing greedily, writes one of the value's spellings whole; what it wrote is then the
prompt's label, as in RAVEL, whose labels are the model's own answers.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from common.errors import UserError
from data.answers import answer_tokens, spellings
from data.facts import Entity, Facts, Template
from data.names import PARTS
from data.prompts import NO_LABEL, Prompt, Prompts, Row, start_of, tokenise
from imports import torch

LONGEST = 16  # tokens of an answer; a value with more is left out
NAMED = "named in the template itself"
LONG = f"with a value of more than {LONGEST} tokens"


@dataclass(frozen=True)
class Limits:
    """What is asked at most, and of that what is kept at most.

    max_entities: that are asked about; max_templates: of each attribute; both drawn evenly from the parts of RAVEL's
    splits, the same every time; None: all.
    top_entities: those with the most prompts answered rightly are kept (SAEBench: 500); top_templates: of each
    attribute, those that are answered rightly for most entities (SAEBench: 90).
    """

    max_entities: int | None = None
    max_templates: int | None = None
    top_entities: int = 500
    top_templates: int = 90


@dataclass
class Asked:
    """Prompts that the model is to answer: rows without a label, and the possible answers of each."""

    entities: list[Entity]
    templates: list[Template]
    attributes: tuple[str, ...]
    rows: list[Prompt] = field(default_factory=list)
    answers: list[list[tuple[int, ...]]] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)  # why -> prompts

    def written(self, likeliest: Callable[[Prompts], torch.Tensor]) -> dict[int, tuple[int, ...]]:
        """Of each row that the model answers rightly, the tokens of the answer that it writes.

        likeliest: function that gives the model's likeliest next token [R] of prompts.
        """
        found: dict[int, tuple[int, ...]] = {}
        so_far: dict[int, tuple[int, ...]] = dict.fromkeys(range(len(self.rows)), ())
        while so_far:
            rows = [replace(self.rows[r], tokens=self.rows[r].tokens + text) for r, text in so_far.items()]
            best = likeliest(Prompts(self.entities, rows, {}, self.templates, self.attributes)).tolist()
            longer = {r: (*text, token) for (r, text), token in zip(so_far.items(), best, strict=True)}
            found |= {r: text for r, text in longer.items() if text in self.answers[r]}
            so_far = {
                r: text
                for r, text in longer.items()
                if r not in found and any(answer[: len(text)] == text for answer in self.answers[r])
            }
        return dict(sorted(found.items()))


def questions(facts: Facts, tokenizer, limits: Limits) -> Asked:
    """Every template with every entity that has its attribute.  Raises UserError if nothing can be asked.

    A template that names an entity is not asked about it: it may give its answer away.
    """
    start = start_of(tokenizer)
    entities = drawn(facts.entities, limits.max_entities)
    templates = [
        template
        for attribute in facts.attributes
        for template in drawn([t for t in facts.templates if t.attribute == attribute], limits.max_templates)
    ]
    asked = Asked(entities, templates, facts.attributes)
    for number, template in enumerate(templates):
        chosen = [i for i, entity in enumerate(entities) if template.attribute in entity.values]
        named = [i for i in chosen if entities[i].name in template.before or entities[i].name in template.after]
        asked.left_out[NAMED] += len(named)
        chosen = [i for i in chosen if i not in set(named)]
        texts, rows = tokenise(template, [entities[i] for i in chosen], tokenizer, start=start)
        for row in rows:
            if isinstance(row, str):
                asked.left_out[row] += 1
        whole = [(i, text, row) for i, text, row in zip(chosen, texts, rows, strict=True) if isinstance(row, Row)]
        values = [spellings(template.attribute, entities[i].value(template.attribute)) for i, _, _ in whole]
        found = answer_tokens(tokenizer, [text for _, text, _ in whole], [row for _, _, row in whole], values)
        for (i, _, row), answers in zip(whole, found, strict=True):
            short = [answer for answer in answers if len(answer) <= LONGEST]
            if short:
                asked.rows.append(row.prompt(i, number, template, -1))
                asked.answers.append(short)
            else:
                asked.left_out[LONG if answers else NO_LABEL] += 1
    if not asked.rows:
        why = "; ".join(f"{n} {why}" for why, n in asked.left_out.items() if n)
        raise UserError(f"none of {facts.entity_type}'s prompts can be asked with this model's tokenizer ({why})")
    return asked


def known(asked: Asked, written: dict[int, tuple[int, ...]], limits: Limits) -> tuple[Prompts, dict]:
    """The prompts that the model answers rightly, of the templates and entities that it knows best, and a report.

    written: as `Asked.written` has it.
    The report says how many prompts were asked, and of each template how many were answered rightly.
    """
    n_asked, n_right = (Counter(asked.rows[r].template for r in rows) for rows in (range(len(asked.rows)), written))
    templates: set[int] = set()
    for attribute in asked.attributes:
        of_attribute = [number for number in n_right if asked.templates[number].attribute == attribute]
        accuracy = {number: n_right[number] / n_asked[number] for number in of_attribute}
        templates |= set(_best(accuracy, limits.top_templates))
    rows = [r for r in written if asked.rows[r].template in templates]
    entities = set(_best(Counter(asked.rows[r].entity for r in rows), limits.top_entities))
    rows = [r for r in rows if asked.rows[r].entity in entities]
    labelled = [replace(asked.rows[r], label=written[r][0], answer=written[r]) for r in rows]
    prompts = Prompts(asked.entities, labelled, {}, asked.templates, asked.attributes).pick(range(len(labelled)))
    return prompts, {
        "prompts asked": len(asked.rows),
        "answered rightly": len(written),
        "kept": len(rows),
        "entities asked about": len(asked.entities),
        "not asked": {why: n for why, n in asked.left_out.items() if n},
        "templates": [
            {
                "attribute": template.attribute,
                "template": str(template),
                "part": template.part,
                "asked": n_asked[number],
                "right": n_right[number],
                "kept": number in templates,
            }
            for number, template in enumerate(asked.templates)
        ],
    }


def _best(scores: dict[int, float], most: int) -> list[int]:
    """The keys with the highest numbers; of equal ones the first."""
    return sorted(scores, key=lambda key: (-scores[key], key))[:most]


def drawn(items: list, most: int | None) -> list:
    """So many of them, evenly from each part, in their order."""
    if most is None or most >= len(items):
        return list(items)
    chosen: set[int] = set()
    for part in PARTS:
        of_part = [i for i, item in enumerate(items) if item.part == part]
        n = min(len(of_part), max(1, round(most * len(of_part) / len(items))))
        chosen |= set(random.Random(f"{part} {len(items)}").sample(of_part, n))
    return [items[i] for i in sorted(chosen)]
