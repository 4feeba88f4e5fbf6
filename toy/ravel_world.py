"""A toy world with RAVEL's kinds of facts: three attributes, several templates each, splits of cities and templates.

Like toy.world, but after the planted block three subspaces of a rotation carry country, continent and language,
whatever the prompt asks; so das disentangles all three on cities and templates that it has not seen.  Built by tests.
"""

import json
from collections import Counter
from pathlib import Path

from data.facts import Entity, Facts, Template
from data.prompts import Prompts, tokenise
from data.ravel import FILES
from toy.world import START, Recipe, build_world, toy_cities, train_and_save, word_tokenizer

ATTRIBUTES = ("country", "continent", "language")
LANGUAGES = {  # five that several countries share
    "English": ("United States", "Canada", "Nigeria", "Kenya"),
    "Spanish": ("Spain", "Mexico", "Cuba", "Argentina"),
    "French": ("France", "Morocco", "Egypt", "Turkey"),
    "German": ("Germany", "Italy", "Brazil", "Peru"),
    "Chinese": ("China", "Japan", "India", "Chile"),
}
# Two words, the city, three words: all prompts are equally long.  The last two of each are held out.
BEFORE = ("I know", "We saw", "They like", "You visit", "She left")
AFTER = ("has as its", "belongs to the", "goes with the", "lies within the", "is of the")
PARTS = ("train", "train", "train", "val", "test")
RECIPE = Recipe()


def ravel_facts() -> Facts:
    """The 120 toy cities, with a language; in each country the fifth is for validation, the sixth for the test.

    Parts are in the words of RAVEL's files, as that is where they go.
    """
    language_of = {country: language for language, countries in LANGUAGES.items() for country in countries}
    entities, seen = [], Counter()
    for city in toy_cities():
        country = city.value("country")
        part = ("train", "train", "train", "train", "val", "test")[seen[country]]
        seen[country] += 1
        values = {**city.values, "language": language_of[country]}
        entities.append(Entity(city.name, {a: value.replace(" ", "") for a, value in values.items()}, part))
    templates = [
        Template(attribute, f"{before} ", f" {after} {attribute}", part)
        for attribute in ATTRIBUTES
        for before, after, part in zip(BEFORE, AFTER, PARTS, strict=True)
    ]
    return Facts("city", ATTRIBUTES, entities, templates)


def ensure(folder: Path, recipe: Recipe = RECIPE, progress: bool = False) -> Path:
    """A checkpoint and RAVEL's four files of its facts; built unless it is there."""
    return build_world(folder, recipe, lambda building: _build(building, recipe, progress))


def _build(folder: Path, recipe: Recipe, progress: bool) -> None:
    facts = ravel_facts()
    tokenizer = _tokenizer(facts)
    train_and_save(folder, recipe, ravel_prompts(facts, tokenizer), tokenizer, progress)
    for what, content in zip(FILES, _files(facts), strict=True):
        (folder / f"ravel_city_{what}.json").write_text(json.dumps(content, indent=1))


def ravel_prompts(facts: Facts, tokenizer) -> Prompts:
    """Every template with every city."""
    rows = []
    for number, template in enumerate(facts.templates):
        _, found = tokenise(template, facts.entities, tokenizer, start=f"{START} ")
        for i, (entity, row) in enumerate(zip(facts.entities, found, strict=True)):
            (label,) = tokenizer(entity.value(template.attribute))["input_ids"]
            rows.append(row.prompt(i, number, template, label))
    return Prompts(facts.entities, rows, {}, facts.templates, facts.attributes)


def _tokenizer(facts: Facts):
    texts = [str(template) for template in facts.templates]
    return word_tokenizer([*texts, *(text for e in facts.entities for text in (e.name, *e.values.values()))])


def _files(facts: Facts) -> list[dict]:
    """The content of RAVEL's four files."""
    titles = {attribute: attribute.title() for attribute in facts.attributes}
    return [
        {entity.name: {titles[a]: value for a, value in entity.values.items()} for entity in facts.entities},
        {titles[a]: [str(t) for t in facts.templates if t.attribute == a] for a in facts.attributes},
        {entity.name: entity.part for entity in facts.entities},
        {str(template): template.part for template in facts.templates},
    ]
