"""Facts: entities, such as cities, and the values of their attributes, such as their countries.

Here are the tables of cities that users bring; data/ravel.py reads RAVEL's files.
"""

import csv
import functools
import sys
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from data.names import PAPER
from data.texts import decoded, parsed

COLUMNS = ("city", *PAPER)
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # as spreadsheets write them, by the user's language
HEADER = f"its first line must be {','.join(COLUMNS)}, or the same with semicolons or tabs"


@dataclass(frozen=True)
class Entity:
    """A name and what is known of it.

    values: by attribute; part: of RAVEL's split by entities, one of data.names.PARTS; None where there is none.
    """

    name: str
    values: dict[str, str]
    part: str | None = None

    def value(self, attribute: str) -> str:
        return self.values[attribute]


@dataclass(frozen=True)
class Template:
    """A prompt with a gap for an entity, cut off before the value of an attribute.

    before, after: its text on either side of the gap; part: of RAVEL's split by templates, as `Entity.part`.
    """

    attribute: str
    before: str
    after: str
    part: str | None = None

    def filled(self, name: str) -> str:
        return self.before + name + self.after

    def __str__(self) -> str:
        return self.filled("%s")


@dataclass
class Facts:
    """What a grid is about.

    entity_type: what an entity is, such as city; attributes: that take part, of those which the entities have;
    templates: RAVEL's, for these attributes; empty where the table has none.
    """

    entity_type: str
    attributes: tuple[str, ...]
    entities: list[Entity]
    templates: list[Template] = field(default_factory=list)


def read_cities(path: str | Path) -> list[Entity]:
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
    text, encoding = decoded(path)
    rows = _json_rows(text, path) if path.suffix.lower() == ".json" else _csv_rows(text, path, encoding)
    cities: dict[str, Entity] = {}
    for where, row in rows:
        for column, value in row.items():
            if not isinstance(value, str) or not value.strip():
                raise UserError(f"{path}, {where}: {column} is empty; fill it in or remove the row")
        name, *values = (row[column].strip() for column in COLUMNS)
        city = Entity(name, dict(zip(PAPER, values, strict=True)))
        known = cities.setdefault(name, city)
        if known != city:
            raise UserError(
                f"{path}, {where}: {name} is in {', '.join(values)} here but in {', '.join(known.values.values())} "
                "before; keep one of the two"
            )
    if not cities:
        raise UserError(f"{path} holds no cities; it needs rows of city,country,continent")
    return list(cities.values())


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
    table = parsed(text, path)
    if not isinstance(table, dict) or not all(isinstance(facts, dict) for facts in table.values()):
        raise UserError(f'{path} is not RAVEL\'s city table; expected {{city: {{"Country": .., "Continent": ..}}}}')
    for name, facts in table.items():
        yield f"city {name!r}", {"city": name, "country": facts.get("Country"), "continent": facts.get("Continent")}
