"""From a table of cities to prompts, and to the facts that a model knows.

A city is an *entity* with two *attributes*, its country and its continent.
Each attribute has one prompt form that ends just before the value; the city is
one token, at the same place in every prompt, and everything before it is the
same for all cities.  A city takes part if the model's most likely next token is
right for both attributes.
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from common.progress import bar
from data.names import ATTRIBUTES
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
class City:
    """An entity and its two facts."""

    name: str
    country: str
    continent: str

    def value(self, attribute: str) -> str:
        return getattr(self, attribute)


# ---------------------------------------------------------------- facts


def read_cities(path: str | Path) -> list[City]:
    """Cities with country and continent, from a csv or RAVEL's own json.

    The csv has columns city, country, continent (others are ignored); the json
    is ravel_city_entity_attributes.json: {city: {"Country": .., "Continent": ..}}.
    The same city twice with the same facts counts once.

    Raises UserError if the file cannot be read, a column or value is missing, or
    a city occurs twice with different facts.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"cannot read the cities in {path}: {reason}; name a csv or json with --cities") from None
    rows = _json_rows(text, path) if path.suffix.lower() == ".json" else _csv_rows(text, path)
    cities: dict[str, City] = {}
    for where, row in rows:
        for column, value in row.items():
            if not isinstance(value, str) or not value.strip():
                raise UserError(f"{path}, {where}: {column} is empty; fill it in or remove the row")
        city = City(*(row[column].strip() for column in ("city", *ATTRIBUTES)))
        known = cities.setdefault(city.name, city)
        if known != city:
            raise UserError(
                f"{path}, {where}: {city.name} is in {city.country}, {city.continent} here but in "
                f"{known.country}, {known.continent} before; keep one of the two"
            )
    if not cities:
        raise UserError(f"{path} holds no cities; it needs rows of city,country,continent")
    return list(cities.values())


def _csv_rows(text: str, path: Path):
    # strict: a quote that never closes is an error, not a city of many lines
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        missing = [column for column in ("city", *ATTRIBUTES) if column not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{path} has no column {', '.join(missing)}; its first line must be city,country,continent")
        for row in reader:
            yield f"line {reader.line_num}", {column: row[column] for column in ("city", *ATTRIBUTES)}
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num + 1}: {error}; is it a csv?") from None


def _json_rows(text: str, path: Path):
    def unique(pairs: list) -> dict:  # json itself would keep the last of two and say nothing
        found = dict(pairs)
        for name, value in pairs if len(found) < len(pairs) else ():
            if found[name] != value:
                raise UserError(f"{path}: {name!r} occurs twice with different content; keep one of the two")
        return found

    try:
        table = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid json ({error}); download it again or use a csv") from None
    if not isinstance(table, dict) or not all(isinstance(facts, dict) for facts in table.values()):
        raise UserError(f'{path} is not RAVEL\'s city table; expected {{city: {{"Country": .., "Continent": ..}}}}')
    for name, facts in table.items():
        yield f"city {name!r}", {"city": name, "country": facts.get("Country"), "continent": facts.get("Continent")}


# ---------------------------------------------------------------- prompts


@dataclass
class Prompts:
    """The prompts of n cities about both attributes.

    Row ``r`` of anything indexed by prompt is attribute ``r // n``, city ``r % n``;
    `row` computes it.
    """

    cities: list[City]
    tokens: dict[str, torch.Tensor]  # attribute -> [n, length] int64
    labels: dict[str, torch.Tensor]  # attribute -> [n] int64, the answer's first token
    suffix: int  # S: how many last tokens begin with the city; the city is at -S
    skipped: dict[str, list[str]] = field(default_factory=dict)  # why -> names

    def __len__(self) -> int:
        return len(self.cities)

    def row(self, attribute: str, city: int) -> int:
        return ATTRIBUTES.index(attribute) * len(self) + city

    def all_labels(self) -> torch.Tensor:
        """[2 n] int64: the label of every prompt row."""
        return torch.cat([self.labels[attribute] for attribute in ATTRIBUTES])

    def keep(self, chosen: list[int]) -> Prompts:
        """The same for a selection of the cities."""
        index = torch.tensor(chosen, dtype=torch.long)
        return Prompts(
            [self.cities[i] for i in chosen],
            {a: t[index] for a, t in self.tokens.items()},
            {a: t[index] for a, t in self.labels.items()},
            self.suffix,
            self.skipped,
        )

    def collisions(self) -> dict[str, list[str]]:
        """Per attribute, the groups of values that share a label, as 'A / B'."""
        found = {}
        for attribute in ATTRIBUTES:
            by_label: dict[int, set[str]] = {}
            for city, label in zip(self.cities, self.labels[attribute].tolist(), strict=True):
                by_label.setdefault(label, set()).add(city.value(attribute))
            found[attribute] = [" / ".join(sorted(v)) for v in by_label.values() if len(v) > 1]
        return found

    def digest(self) -> str:
        """A fingerprint of the facts and tokens that take part."""
        content = [[c.name, c.country, c.continent] for c in self.cities]
        content += [self.tokens[a].tolist() for a in ATTRIBUTES]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def sentence(attribute: str, city: str, value: str = "") -> str:
    """A solved example, or (without value) the question, cut off before the value."""
    question = f"{city} is a city in the {attribute} of"
    return f"{question} {value}." if value else question


def prefix_text(attribute: str, style: str, start_token: str) -> str:
    """All that stands before the city: the five solved examples, or the start token."""
    if style == "bare":
        return start_token
    return " ".join(sentence(attribute, example["city"], example[attribute]) for example in EXAMPLES)


def build_prompts(cities: list[City], tokenizer, style: str = "few-shot") -> Prompts:
    """Tokenise both prompts of every city; skip cities that are not one token.

    That the city is one token, stands at the same place, and that nothing else
    differs between prompts is read off the tokens of the whole text, never from
    splitting a string.  Skipped cities are listed in `Prompts.skipped`.

    Raises UserError if no city is left.
    """

    def encode(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    tails = encode([sentence(attribute, "") for attribute in ATTRIBUTES])
    if len({len(tail) for tail in tails}) > 1:
        raise UserError("with this tokenizer the two questions differ in length; use a GPT-2 tokenizer")
    suffix = 1 + len(tails[0])
    rows: dict[str, list[list[int]]] = {}
    labels: dict[str, list[int]] = {}
    is_single = [True] * len(cities)
    for attribute, tail in zip(ATTRIBUTES, tails, strict=True):
        before = prefix_text(attribute, style, tokenizer.bos_token or "")
        prefix = encode([before])[0]
        rows[attribute] = encode([f"{before} {sentence(attribute, city.name)}" for city in cities])
        for i, ids in enumerate(rows[attribute]):
            expected = [*prefix, ids[len(prefix)] if len(ids) > len(prefix) else -1, *tail]
            is_single[i] &= ids == expected and not _unknown(ids[len(prefix)], tokenizer)
        answers = encode([" " + city.value(attribute).split()[0] for city in cities])
        labels[attribute] = [ids[0] for ids in answers]
    has_labels = [not any(_unknown(labels[a][i], tokenizer) for a in ATTRIBUTES) for i in range(len(cities))]
    chosen = [i for i in range(len(cities)) if is_single[i] and has_labels[i]]
    skipped = {
        "not one known token": [c.name for c, single in zip(cities, is_single, strict=True) if not single],
        "value unknown to the tokenizer": [
            c.name for c, s, known in zip(cities, is_single, has_labels, strict=True) if s and not known
        ],
    }
    if not chosen:
        raise UserError(
            f"none of the {len(cities)} cities is a single token of this model's tokenizer with values that it "
            f"can spell (the first: {cities[0].name}); use other cities with --cities"
        )
    return Prompts(
        [cities[i] for i in chosen],
        {a: torch.tensor([rows[a][i] for i in chosen]) for a in ATTRIBUTES},
        {a: torch.tensor([labels[a][i] for i in chosen]) for a in ATTRIBUTES},
        suffix,
        skipped,
    )


def _unknown(token: int, tokenizer) -> bool:
    return token == tokenizer.unk_token_id


# ---------------------------------------------------------------- known facts


def known_facts(prompts: Prompts, predict, batch_size: int = 64, progress: bool = True) -> tuple[Prompts, dict]:
    """Keep the cities of which the model knows both facts.

    predict: function of tokens [b, length] -> [b], the most likely next token.
    Returns the prompts that are left, and how many cities fell out and why.
    """
    right = {}
    total = 2 * len(prompts)
    with bar(total=total, desc="known facts", unit="prompt", disable=not progress) as done:
        for attribute in ATTRIBUTES:
            guesses = []
            for batch in prompts.tokens[attribute].split(batch_size):
                guesses.append(predict(batch).cpu())
                done.update(len(batch))
            right[attribute] = torch.cat(guesses) == prompts.labels[attribute]
    both = right["country"] & right["continent"]
    known = prompts.keep(both.nonzero()[:, 0].tolist())
    unknown = {
        f"{a} unknown": [c.name for c, knows in zip(prompts.cities, right[a].tolist(), strict=True) if not knows]
        for a in ATTRIBUTES
    }
    known.skipped = prompts.skipped | unknown
    report = {
        "cities": len(prompts) + sum(len(names) for names in prompts.skipped.values()),
        **{why: len(names) for why, names in known.skipped.items()},
        "known": len(known),
    }
    return known, report
