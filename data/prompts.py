"""Prompts: an entity in a sentence that ends just before the value of one of its attributes.

A prompt is a row of tokens with fields: whose it is, what it asks for, and where the patch goes.  The
patch goes to the *last* token of the entity's name, wherever the tokenizer puts it: the whole prompt is
tokenised, and the name is found by the tokenizer's offsets, never by tokenising the pieces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from common.errors import UserError
from data.facts import Entity, Template
from data.names import PAPER, sentence
from imports import torch

# The five solved examples of the paper's prompts (Chaudhary & Geiger 2024).
EXAMPLES = (
    {"city": "Toronto", "country": "Canada", "continent": "North America"},
    {"city": "Beijing", "country": "China", "continent": "Asia"},
    {"city": "Miami", "country": "United States", "continent": "North America"},
    {"city": "Santiago", "country": "Chile", "continent": "South America"},
    {"city": "London", "country": "England", "continent": "Europe"},
)


@dataclass(frozen=True)
class Prompt:
    """One row: the tokens of a whole prompt, start token included if the tokenizer wants one.

    entity: index into `Prompts.entities`; at: index of the token that is patched, the entity's last one;
    n_own: how many tokens the entity has; label: the next token of the right answer.
    template: index into `Prompts.templates`; answer: all tokens of the right answer, where more than the first counts;
    step: how many tokens of an answer stand behind the prompt already.
    """

    entity: int
    attribute: str
    tokens: tuple[int, ...]
    at: int
    n_own: int
    label: int
    template: int = 0
    answer: tuple[int, ...] = ()
    step: int = 0


@dataclass
class Prompts:
    """Prompts of n entities: with one template an attribute, first all about the first, then all about the next."""

    entities: list[Entity]
    rows: list[Prompt]
    skipped: dict[str, list[str]] = field(default_factory=dict)  # why -> names
    templates: list[Template] = field(default_factory=list)
    attributes: tuple[str, ...] = PAPER

    def __len__(self) -> int:
        """How many entities."""
        return len(self.entities)

    def row(self, attribute: str, entity: int) -> int:
        """The index of an entity's prompt about an attribute, where there is one template for each attribute."""
        return self.attributes.index(attribute) * len(self) + entity

    def rows_about(self, attribute: str) -> list[int]:
        """The rows that ask for an attribute, without those that have begun to answer."""
        return [r for r, prompt in enumerate(self.rows) if prompt.attribute == attribute and not prompt.step]

    def labels(self) -> torch.Tensor:
        """[R] int64: the label of every row."""
        return torch.tensor([prompt.label for prompt in self.rows])

    def values_of(self, attribute: str) -> torch.Tensor:
        """[R] int64: a number for the value that the entity of each row has, whatever the row asks for."""
        values = [self.entities[prompt.entity].values.get(attribute) for prompt in self.rows]
        numbers = {value: i for i, value in enumerate(dict.fromkeys(values))}
        return torch.tensor([numbers[value] for value in values])

    def tokens_of(self, entity: int) -> int:
        """How many tokens an entity's name has, where there is one template for each attribute."""
        return self.rows[self.row(self.attributes[0], entity)].n_own

    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(prompt.tokens) for prompt in self.rows)

    def rows_of(self, entities: Iterable[int]) -> list[int]:
        """The rows of these entities."""
        chosen = set(entities)
        return [r for r, prompt in enumerate(self.rows) if prompt.entity in chosen]

    def pick(self, rows: Iterable[int]) -> Prompts:
        """The same with these rows alone, and the entities that they are of."""
        picked = [self.rows[r] for r in rows]
        chosen = sorted({prompt.entity for prompt in picked})
        place = {entity: i for i, entity in enumerate(chosen)}
        picked = [replace(prompt, entity=place[prompt.entity]) for prompt in picked]
        return replace(self, entities=[self.entities[i] for i in chosen], rows=picked)

    def keep(self, entities: Iterable[int]) -> Prompts:
        """The same for a selection of the entities."""
        return self.pick(self.rows_of(entities))

    def collisions(self) -> dict[str, list[str]]:
        """Per attribute, the groups of values that share a label, as 'A / B'."""
        found = {}
        for attribute in self.attributes:
            by_label: dict[int, set[str]] = {}
            for row in self.rows_about(attribute):
                prompt = self.rows[row]
                by_label.setdefault(prompt.label, set()).add(self.entities[prompt.entity].value(attribute))
            found[attribute] = [" / ".join(sorted(v)) for v in by_label.values() if len(v) > 1]
        return found

    def digest(self) -> str:
        """A fingerprint of the facts and tokens that take part."""
        content = [[e.name, *(e.values.get(attribute) for attribute in self.attributes)] for e in self.entities]
        content += [[list(p.tokens), p.at, p.label] for p in self.rows]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def words_of(tokenizer, tokens: Iterable[int]) -> dict[str, str]:
    """The text of each of these tokens, by its number in digits."""
    return {str(token): tokenizer.decode([token]) for token in sorted(set(tokens))}


def text_before(attribute: str, style: str, start_token: str) -> str:
    """All that stands before the city, up to the blank: the five solved examples, or `start_token` alone."""
    if style == "bare":
        return start_token
    return " ".join(sentence(attribute, example["city"], example[attribute]) for example in EXAMPLES)


def paper_templates(style: str, start_token: str) -> list[Template]:
    """The paper's template for each of its attributes; style: few-shot or bare."""
    found = []
    for attribute in PAPER:
        before = text_before(attribute, style, start_token)
        found.append(Template(attribute, f"{before} " if before else "", sentence(attribute, "")))
    return found


# ---------------------------------------------------------------- from text to tokens


def start_of(tokenizer) -> str:
    """The start token's text, where the tokenizer has one and does not add it itself.

    Raises UserError if the tokenizer gives no offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"the tokenizer ({type(tokenizer).__name__}) gives no offsets, by which entities are found in a prompt; "
            "put a tokenizer.json beside the model"
        )
    return "" if _adds_start(tokenizer) else tokenizer.bos_token or ""


def build_prompts(cities: list[Entity], tokenizer, style: str = "few-shot", one_token: bool = False) -> Prompts:
    """Tokenise both prompts of every city; leave out cities whose tokens cannot be told apart.

    The tokenizer adds its start token if that is its policy.  style ``bare``: where it adds none, the
    prompt begins with the start token all the same.  one_token: leave out cities of several tokens.
    Cities that are left out are listed in `Prompts.skipped` with the reason.

    Raises UserError if the tokenizer gives no offsets, or if no city is left.
    """
    templates = paper_templates(style, start_of(tokenizer))
    found: list[list[Prompt | str]] = []
    for number, template in enumerate(templates):
        texts, tokenised = tokenise(template, cities, tokenizer, one_token)
        values = [city.value(template.attribute) for city in cities]
        labels = _labels(tokenizer, texts, [row.tokens if isinstance(row, Row) else () for row in tokenised], values)
        found.append(
            [
                row if isinstance(row, str) else NO_LABEL if label is None else row.prompt(i, number, template, label)
                for i, (row, label) in enumerate(zip(tokenised, labels, strict=True))
            ]
        )
    return _complete(cities, found, one_token, templates)


def _complete(
    cities: list[Entity], found: list[list[Prompt | str]], one_token: bool, templates: list[Template]
) -> Prompts:
    """The cities of which all prompts could be made; why the others could not."""
    reasons = [next((f[i] for f in found if isinstance(f[i], str)), None) for i in range(len(cities))]
    skipped: dict[str, list[str]] = {why: [] for why in REASONS if one_token or why != NOT_ONE}
    for city, why in zip(cities, reasons, strict=True):
        if why:
            skipped[why].append(city.name)
    chosen = [i for i, why in enumerate(reasons) if why is None]
    if not chosen:
        why = "; ".join(f"{len(names)} {why}" for why, names in skipped.items() if names)
        raise UserError(
            f"none of the {len(cities)} cities can be used with this model's tokenizer ({why}; the first: "
            f"{cities[0].name}); use other cities with --cities"
        )
    rows = [prompts[i] for prompts in found for i in chosen]
    return Prompts(cities, rows, skipped, templates).pick(range(len(rows)))


NOT_ONE = "not one token"
NOT_KNOWN = "with a token that the tokenizer does not know"
MERGED = "merged with a neighbour into one token"
NO_LABEL = "with a value that the tokenizer cannot spell"
REASONS = (NOT_ONE, NOT_KNOWN, MERGED, NO_LABEL)


@dataclass(frozen=True)
class Row:
    """A tokenised prompt before it has an answer; as in `Prompt`."""

    tokens: tuple[int, ...]
    at: int
    n_own: int

    def prompt(self, entity: int, number: int, template: Template, label: int, answer=()) -> Prompt:
        return Prompt(entity, template.attribute, self.tokens, self.at, self.n_own, label, number, answer)


def tokenise(
    template: Template, entities: list[Entity], tokenizer, one_token: bool = False, start: str = ""
) -> tuple[list[str], list[Row | str]]:
    """The texts of a template with each of these entities; and of each its row, or the reason why it cannot be one.

    start: text before the template; one_token: entities of several tokens are none.
    """
    before = start + template.before
    texts = [before + entity.name + template.after for entity in entities]
    encoded = tokenizer(texts, return_offsets_mapping=True)
    unknown = tokenizer.unk_token_id
    return texts, [
        _row(tokens, offsets, len(before), len(before) + len(entity.name), text, unknown, one_token)
        for tokens, offsets, entity, text in zip(
            encoded["input_ids"], encoded["offset_mapping"], entities, texts, strict=True
        )
    ]


def _row(tokens, offsets, begin: int, end: int, text: str, unknown: int | None, one_token: bool) -> Row | str:
    own = [i for i, (a, b) in enumerate(offsets) if a < end and b > begin]
    if not own:
        return NOT_KNOWN
    first, last = offsets[own[0]][0], offsets[own[-1]][1]
    # Some tokenizers count the blank before a word to its token, which does no harm.
    if text[first:begin].strip() or last > end:
        return MERGED
    if unknown is not None and any(tokens[i] == unknown for i in own):
        return NOT_KNOWN
    if one_token and len(own) > 1:
        return NOT_ONE
    return Row(tuple(tokens), own[-1], len(own))


def _labels(tokenizer, texts: list[str], prompts: list[tuple[int, ...]], values: list[str]) -> list[int | None]:
    """The first token of each value where it follows its prompt; None where that cannot be told.

    prompts: the tokens of the texts.
    It is looked up in the whole text: what a tokenizer makes of a word alone may be another token.
    """
    followed = [f"{text} {value.split()[0]}" for text, value in zip(texts, values, strict=True)]
    encoded = tokenizer(followed, return_offsets_mapping=True)
    found: list[int | None] = []
    for text, tokens, offsets, prompt in zip(
        texts, encoded["input_ids"], encoded["offset_mapping"], prompts, strict=True
    ):
        place = next((i for i, (a, b) in enumerate(offsets) if a <= len(text) + 1 < b), None)
        # The prompt's own tokens must stay as they are once the value follows.
        told = place == len(prompt) and tuple(tokens[:place]) == prompt and tokens[place] != tokenizer.unk_token_id
        found.append(tokens[place] if told else None)
    return found


def _adds_start(tokenizer) -> bool:
    tokens = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and tokens[:1] == [tokenizer.bos_token_id]


# ---------------------------------------------------------------- known facts


def known_facts(prompts: Prompts, best_R: torch.Tensor) -> tuple[list[int], dict]:
    """The cities of which the model knows all facts, and a report on why others fall out.

    best_R: [R], the model's most likely next token of every row.
    The report: {"cities", reason: count .., "known"}; the names go to `prompts.skipped`.
    """
    right = (best_R.cpu() == prompts.labels()).tolist()
    knows = {attribute: [right[row] for row in prompts.rows_about(attribute)] for attribute in prompts.attributes}
    known = [i for i in range(len(prompts)) if all(knows[attribute][i] for attribute in prompts.attributes)]
    total = len(prompts) + sum(len(names) for names in prompts.skipped.values())
    for attribute in prompts.attributes:
        prompts.skipped[f"{attribute} unknown"] = [
            city.name for city, is_known in zip(prompts.entities, knows[attribute], strict=True) if not is_known
        ]
    return known, {
        "cities": total,
        **{why: len(names) for why, names in prompts.skipped.items()},
        "known": len(known),
    }
