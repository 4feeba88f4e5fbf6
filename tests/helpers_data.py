"""The paper's forty cities, and prompts that need no tokenizer."""

from common.paths import HOME
from data.facts import Entity, read_cities
from data.names import PAPER
from data.prompts import Prompt, Prompts

SHARED = HOME.parent / "shared"  # RAVEL's tables and GPT-2's tokenizer, where they are at hand
PAPER_CITIES = [
    *("Ankara", "Beijing", "Brandon", "Brooks", "Brussels", "Calais", "Churchill", "Cork", "Cornwall", "Dawson"),
    *("Dayton", "Delhi", "Dublin", "Edmonton", "Istanbul", "Jakarta", "Jasper", "Jerusalem", "Kabul", "Karachi"),
    *("Kyoto", "Manila", "Medina", "Montreal", "Mumbai", "Norfolk", "Providence", "Quebec", "Santos", "Shanghai"),
    *("Tampa", "Tulsa", "Tunis", "Vernon", "Vienna", "Wallace", "Wichita", "Wilmington", "Windsor", "Zurich"),
]


def make_city(name: str, country: str, continent: str) -> Entity:
    return Entity(name, {"country": country, "continent": continent})


def paper_cities() -> list[Entity]:
    table = {city.name: city for city in read_cities(HOME / "data" / "cities.csv")}
    return [table[name] for name in PAPER_CITIES]


def prompts_of(cities: list[Entity]) -> Prompts:
    """Prompts without a tokenizer: a city is its number, the label of a value a number for its first word."""
    words: dict[str, int] = {}
    return Prompts(
        cities,
        [
            Prompt(i, a, (i, *range(100, 108)), 0, 1, words.setdefault(city.value(a).split()[0], len(words)))
            for a in PAPER
            for i, city in enumerate(cities)
        ],
    )
