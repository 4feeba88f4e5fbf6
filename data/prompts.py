"""Prompts: a city in a sentence that ends just before the value of one attribute.

A prompt is a row of tokens with fields: whose it is, what it asks for, and where the patch goes.  The
patch goes to the *last* token of the city's name, wherever the tokenizer puts it: the whole prompt is
tokenised, and the city is found by the tokenizer's offsets, never by tokenising the pieces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from common.errors import UserError
from data.facts import City
from data.names import ATTRIBUTES, sentence
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

    city: index into `Prompts.cities`; at: index of the token that is patched, the city's last one;
    n_own: how many tokens the city has; label: the first token of the right answer.
    """

    city: int
    attribute: str
    tokens: tuple[int, ...]
    at: int
    n_own: int
    label: int


@dataclass
class Prompts:
    """The prompts of n cities about both attributes: first all about the one, then all about the other."""

    cities: list[City]
    rows: list[Prompt]
    skipped: dict[str, list[str]] = field(default_factory=dict)  # why -> names
    templates: dict[str, str] = field(default_factory=dict)  # attribute -> the prompt, with {city} for the city

    def __len__(self) -> int:
        """How many cities."""
        return len(self.cities)

    def row(self, attribute: str, city: int) -> int:
        """The index of a city's prompt about an attribute."""
        return ATTRIBUTES.index(attribute) * len(self) + city

    def rows_about(self, attribute: str) -> list[int]:
        return [r for r, prompt in enumerate(self.rows) if prompt.attribute == attribute]

    def labels(self) -> torch.Tensor:
        """[R] int64: the label of every row."""
        return torch.tensor([prompt.label for prompt in self.rows])

    def tokens_of(self, city: int) -> int:
        """How many tokens a city's name has."""
        return self.rows[city].n_own

    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(prompt.tokens) for prompt in self.rows)

    def keep(self, chosen: list[int]) -> Prompts:
        """The same for a selection of the cities."""
        place = {city: i for i, city in enumerate(chosen)}
        rows = [
            Prompt(place[p.city], p.attribute, p.tokens, p.at, p.n_own, p.label)
            for attribute in ATTRIBUTES
            for p in (self.rows[self.row(attribute, city)] for city in chosen)
        ]
        return Prompts([self.cities[i] for i in chosen], rows, self.skipped, self.templates)

    def collisions(self) -> dict[str, list[str]]:
        """Per attribute, the groups of values that share a label, as 'A / B'."""
        found = {}
        for attribute in ATTRIBUTES:
            by_label: dict[int, set[str]] = {}
            for row in self.rows_about(attribute):
                prompt = self.rows[row]
                by_label.setdefault(prompt.label, set()).add(self.cities[prompt.city].value(attribute))
            found[attribute] = [" / ".join(sorted(v)) for v in by_label.values() if len(v) > 1]
        return found

    def digest(self) -> str:
        """A fingerprint of the facts and tokens that take part."""
        content = [[c.name, c.country, c.continent] for c in self.cities]
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


# ---------------------------------------------------------------- from text to tokens


def build_prompts(cities: list[City], tokenizer, style: str = "few-shot", one_token: bool = False) -> Prompts:
    """Tokenise both prompts of every city; leave out cities whose tokens cannot be told apart.

    The tokenizer adds its start token if that is its policy.  style ``bare``: where it adds none, the
    prompt begins with the start token all the same.  one_token: leave out cities of several tokens.
    Cities that are left out are listed in `Prompts.skipped` with the reason.

    Raises UserError if the tokenizer gives no offsets, or if no city is left.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"the tokenizer ({type(tokenizer).__name__}) gives no offsets, by which cities are found in a prompt; put "
            "a tokenizer.json beside the model"
        )
    start = "" if _adds_start(tokenizer) else tokenizer.bos_token or ""
    found: dict[str, list[Prompt | str]] = {}
    templates = {}
    for attribute in ATTRIBUTES:
        before = text_before(attribute, style, start)
        lead = f"{before} " if before else ""
        templates[attribute] = lead + sentence(attribute, "{city}")
        texts = [lead + sentence(attribute, city.name) for city in cities]
        spans = [(len(lead), len(lead) + len(city.name)) for city in cities]
        encoded = tokenizer(texts, return_offsets_mapping=True)
        labels = _labels(tokenizer, texts, encoded["input_ids"], [city.value(attribute) for city in cities])
        found[attribute] = [
            _prompt(i, attribute, tokens, offsets, spans[i], texts[i], labels[i], tokenizer.unk_token_id, one_token)
            for i, (tokens, offsets) in enumerate(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))
        ]
    return _complete(cities, found, one_token, templates)


def _complete(
    cities: list[City], found: dict[str, list[Prompt | str]], one_token: bool, templates: dict[str, str]
) -> Prompts:
    """The cities of which both prompts could be made; why the others could not."""
    reasons = [next((f[i] for f in found.values() if isinstance(f[i], str)), None) for i in range(len(cities))]
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
    everyone = Prompts(cities, [prompt for prompts in found.values() for prompt in prompts], skipped, templates)
    return everyone.keep(chosen)


NOT_ONE = "not one token"
NOT_KNOWN = "with a token that the tokenizer does not know"
MERGED = "merged with a neighbour into one token"
NO_LABEL = "with a value that the tokenizer cannot spell"
REASONS = (NOT_ONE, NOT_KNOWN, MERGED, NO_LABEL)


def _prompt(
    city: int, attribute: str, tokens, offsets, span, text: str, label: int | None, unknown: int | None, one_token: bool
) -> Prompt | str:
    """A row, or the reason why it cannot be one."""
    begin, end = span
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
    if label is None:
        return NO_LABEL
    return Prompt(city, attribute, tuple(tokens), own[-1], len(own), label)


def _labels(tokenizer, texts: list[str], prompts: list[list[int]], values: list[str]) -> list[int | None]:
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
        told = place == len(prompt) and tokens[:place] == prompt and tokens[place] != tokenizer.unk_token_id
        found.append(tokens[place] if told else None)
    return found


def _adds_start(tokenizer) -> bool:
    tokens = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and tokens[:1] == [tokenizer.bos_token_id]


# ---------------------------------------------------------------- known facts


def known_facts(prompts: Prompts, best_R: torch.Tensor) -> tuple[list[int], dict]:
    """The cities of which the model knows both facts, and a report on why others fall out.

    best_R: [R], the model's most likely next token of every row.
    The report: {"cities", reason: count .., "known"}; the names go to `prompts.skipped`.
    """
    right = (best_R.cpu() == prompts.labels()).tolist()
    knows = {attribute: [right[row] for row in prompts.rows_about(attribute)] for attribute in ATTRIBUTES}
    known = [i for i in range(len(prompts)) if all(knows[attribute][i] for attribute in ATTRIBUTES)]
    total = len(prompts) + sum(len(names) for names in prompts.skipped.values())
    for attribute in ATTRIBUTES:
        prompts.skipped[f"{attribute} unknown"] = [
            city.name for city, is_known in zip(prompts.cities, knows[attribute], strict=True) if not is_known
        ]
    return known, {
        "cities": total,
        **{why: len(names) for why, names in prompts.skipped.items()},
        "known": len(known),
    }
