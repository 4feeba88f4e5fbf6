"""A toy world with RAVEL's kinds of facts: three attributes, several templates each, splits of cities and templates.

Like toy.world, but after the planted block three subspaces of a rotation carry country, continent and language,
whatever the prompt asks; so das disentangles all three on cities and templates that it has not seen.  Built by tests.
"""

import dataclasses
import json
from pathlib import Path

from common.files import build_once
from data.facts import Entity, Facts, Template
from data.prompts import Prompts, tokenise
from data.ravel import FILES
from decoder.loading import quiet
from imports import tokenizers, torch, transformers
from toy.world import COUNTRIES, START, UNKNOWN, Recipe, toy_cities, train_model

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
RECIPE = Recipe(d_model=96)


def ravel_facts() -> Facts:
    """The 120 toy cities, with a language; every fifth in each country is for validation, every sixth for the test."""
    language_of = {country: language for language, countries in LANGUAGES.items() for country in countries}
    entities, seen = [], dict.fromkeys((c for countries in COUNTRIES.values() for c in countries), 0)
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

    def is_built() -> bool:
        try:
            return json.loads((folder / "world.json").read_text()) == dataclasses.asdict(recipe)
        except (OSError, ValueError):
            return False

    def build(building: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            _build(building, recipe, progress)

    build_once(folder, is_built, build)
    return folder


def _build(folder: Path, recipe: Recipe, progress: bool) -> None:
    facts = ravel_facts()
    tokenizer = _tokenizer(facts)
    model = train_model(recipe, ravel_prompts(facts, tokenizer), tokenizer, progress)
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for what, content in zip(FILES, _files(facts), strict=True):
        (folder / f"ravel_city_{what}.json").write_text(json.dumps(content, indent=1))
    (folder / "world.json").write_text(json.dumps(dataclasses.asdict(recipe)))


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
    """A word is a token."""
    texts = [str(template) for template in facts.templates]
    texts += [text for entity in facts.entities for text in (entity.name, *entity.values.values())]
    words = dict.fromkeys([START, UNKNOWN, *(word for text in texts for word in text.split())])
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=START, unk_token=UNKNOWN
    )


def _files(facts: Facts) -> list[dict]:
    """The content of RAVEL's four files."""
    titles = {attribute: attribute.title() for attribute in facts.attributes}
    return [
        {entity.name: {titles[a]: value for a, value in entity.values.items()} for entity in facts.entities},
        {titles[a]: [str(t) for t in facts.templates if t.attribute == a] for a in facts.attributes},
        {entity.name: entity.part for entity in facts.entities},
        {str(template): template.part for template in facts.templates},
    ]
