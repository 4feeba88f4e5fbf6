"""Right answers: the ways to write a value, and their tokens where they follow a prompt.

RAVEL's tables have one spelling for a value; a model may prefer another.  SAEBench 0.6.0 accepts some more when it asks
what a model knows, and so do we: of the United States and the United Kingdom the form with "the", for the latter also
England; Chinese for Mandarin; of several languages each one; of a time zone its offset from UTC, in winter or summer.
"""

from __future__ import annotations

import datetime
import functools
import re
import zoneinfo

from data.prompts import Row

WITH_THE = ("United States", "United Kingdom")
ALSO = {("country", "United Kingdom"): ("England",), ("language", "Mandarin"): ("Chinese",)}
NO_BLANK = re.compile(r"[\s\"'(/]$")  # what such a text ends with is followed by its answer without a blank
OFFSET = re.compile(r"(UTC|GMT)\s?$")  # such a text asks for an offset from it


def spellings(attribute: str, value: str) -> list[str]:
    """The ways to write a value, the table's own first."""
    found = [value]
    if attribute == "language":
        found = [part for text in found for part in (text, *re.split(r"\s*,\s*", text)) if part]
    if attribute == "timezone":
        found += _offsets(value)
    attribute = "country" if attribute == "country_of_birth" else attribute
    found += [other for text in found for other in ALSO.get((attribute, text), ())]
    found += [f"the {text}" for text in found if attribute == "country" and text in WITH_THE]
    return list(dict.fromkeys(found))


@functools.cache
def _offsets(zone: str) -> tuple[str, ...]:
    """'America/Chicago' -> UTC-6, UTC-06:00, UTC-5 ..; nothing where this machine has no table of time zones."""
    found = []
    for month in (1, 7):
        try:
            at = datetime.datetime(2024, month, 1, tzinfo=zoneinfo.ZoneInfo(zone))
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            return ()
        minutes = round(at.utcoffset().total_seconds() / 60)
        sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
        minute = f":{rest:02d}"
        found += [f"UTC{sign}{hours}{minute if rest else ''}", f"UTC{sign}{hours:02d}{minute}"]
    return tuple(dict.fromkeys(found))


def written(text: str, spelling: str) -> str:
    """A spelling as it follows a prompt's text, with a blank where there should be one."""
    if match := OFFSET.search(text):
        found = spelling.removeprefix("UTC")
        return found if found != spelling else f" {found}" if match[0] == match[1] else found
    return spelling if NO_BLANK.search(text) else f" {spelling}"


def answer_tokens(tokenizer, texts: list[str], rows: list[Row], values: list[list[str]]) -> list[list[tuple[int, ...]]]:
    """Of each prompt, the tokens of its possible answers, each once.

    texts, rows: of prompts; values: the spellings of each one's value.  An answer that the tokenizer cannot write is
    left out.  Tokens are looked up where they stand, behind the whole prompt; where they would merge with its end, as
    with a blank there, behind a quotation mark.
    """
    asked = [(i, written(text, spelling)) for i, text in enumerate(texts) for spelling in values[i]]
    encoded = tokenizer([texts[i] + answer for i, answer in asked])["input_ids"] if asked else []
    found: list[list[tuple[int, ...]]] = [[] for _ in texts]
    for (i, answer), tokens in zip(asked, encoded, strict=True):
        n = len(rows[i].tokens)
        own = tuple(tokens[n:]) if tuple(tokens[:n]) == rows[i].tokens else _after_a_quote(tokenizer, answer)
        if own and own not in found[i] and tokenizer.unk_token_id not in own:
            found[i].append(own)
    return found


def _after_a_quote(tokenizer, answer: str) -> tuple[int, ...]:
    """() if it merges with that too."""
    encoded = tokenizer(f'"{answer}', return_offsets_mapping=True, add_special_tokens=False)
    behind = [token for token, (a, _) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True) if a >= 1]
    return tuple(behind) if len(behind) < len(encoded["input_ids"]) else ()
