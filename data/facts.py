"""The table of facts: cities, their countries and their continents.

A city is an *entity* with two *attributes*, its country and its continent.
"""

import codecs
import csv
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from data.names import ATTRIBUTES

COLUMNS = ("city", *ATTRIBUTES)
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # as spreadsheets write them, by the user's language
HEADER = f"its first line must be {','.join(COLUMNS)}, or the same with semicolons or tabs"


@dataclass(frozen=True)
class City:
    """An entity and its two facts."""

    name: str
    country: str
    continent: str

    def value(self, attribute: str) -> str:
        return getattr(self, attribute)


def read_cities(path: str | Path) -> list[City]:
    """Cities with country and continent, from a csv or RAVEL's own json.

    The csv has columns city, country, continent (others are ignored), as a spreadsheet
    may save it: with commas, semicolons or tabs, in UTF-8 or UTF-16; what is not plain
    there is said on stderr.  The json is ravel_city_entity_attributes.json:
    {city: {"Country": .., "Continent": ..}}.  The same city twice with the same facts
    counts once.

    Raises UserError if the file cannot be read, a column or value is missing, or
    a city occurs twice with different facts.
    """
    path = Path(path)
    text, encoding = _decoded(path)
    rows = _json_rows(text, path) if path.suffix.lower() == ".json" else _csv_rows(text, path, encoding)
    cities: dict[str, City] = {}
    for where, row in rows:
        for column, value in row.items():
            if not isinstance(value, str) or not value.strip():
                raise UserError(f"{path}, {where}: {column} is empty; fill it in or remove the row")
        city = City(*(row[column].strip() for column in COLUMNS))
        known = cities.setdefault(city.name, city)
        if known != city:
            raise UserError(
                f"{path}, {where}: {city.name} is in {city.country}, {city.continent} here but in "
                f"{known.country}, {known.continent} before; keep one of the two"
            )
    if not cities:
        raise UserError(f"{path} holds no cities; it needs rows of city,country,continent")
    return list(cities.values())


def _decoded(path: Path) -> tuple[str, str]:
    """A file's text, and in which encoding it is: by the mark at its beginning, else UTF-8."""
    try:
        content = path.read_bytes()
        encoding = "UTF-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "UTF-8"
        text = content.decode("utf-8-sig" if encoding == "UTF-8" else encoding)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or f"it is not {encoding} text; save it in that encoding"
        raise UserError(f"cannot read the cities in {path}: {reason}; name a csv or json with --cities") from None
    if "\0" in text:  # UTF-16 or -32 without a mark, or no text at all
        raise UserError(
            f"{path} is in an encoding that cannot be told; save it as UTF-8, or name another with --cities"
        )
    return text, encoding


def _csv_rows(text: str, path: Path, encoding: str):
    lines = text.splitlines()
    delimiter, names = _header(lines[0] if lines else "", path)
    form = f"{encoding} with {DELIMITERS[delimiter]}"
    is_plain = form == "UTF-8 with commas" and set(COLUMNS) <= set(names)
    if not set(COLUMNS) <= set(names):
        names = _plain(names)
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}, read as {form}; {HEADER}")
    if any(names.count(column) > 1 for column in COLUMNS):
        raise UserError(f"{path} has two columns of one name ({', '.join(names)}); {HEADER}")
    if not is_plain:
        _say_once(f"note: {path} is read as {form}, its columns as {', '.join(names)}")
    # strict: a quote that never closes is an error, not a city of many lines
    reader = csv.DictReader(lines[1:], names, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            yield f"line {reader.line_num + 1}", {column: row[column] for column in COLUMNS}
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num + 2}: {error}; is it a csv?") from None


def _header(line: str, path: Path) -> tuple[str, list[str]]:
    """The delimiter by which the first line has most of our columns, and all names in it."""
    try:
        found = [
            (delimiter, next(csv.reader([line], delimiter=delimiter, strict=True), [])) for delimiter in DELIMITERS
        ]
    except csv.Error as error:
        raise UserError(f"{path}, line 1: {error}; {HEADER}") from None
    return max(found, key=lambda each: len(set(COLUMNS) & set(_plain(each[1]))))


def _plain(names: list[str]) -> list[str]:
    return [name.strip().casefold() for name in names]


@functools.cache
def _say_once(line: str) -> None:  # a command may read the table twice
    print(line, file=sys.stderr)


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
