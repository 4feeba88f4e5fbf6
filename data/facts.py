"""The table of facts: cities, their countries and their continents.

A city is an *entity* with two *attributes*, its country and its continent.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from data.names import ATTRIBUTES


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
