"""RAVEL's files: what is read from them, and what is told when they are not what they should be."""

import json
from pathlib import Path

import pytest
from helpers_cli import require_words
from helpers_data import SHARED

from common.errors import UserError
from data.facts import Entity, Template
from data.names import RAVEL
from data.ravel import FILES, place_of, read_ravel

TABLE = {
    "Paris": {"Country": "France", "Continent": "Europe", "Work Location": "office"},
    "Kyoto": {"Country": "Japan", "Continent": "Asia", "Work Location": ""},
    "Lima": {"Country": "Peru", "Continent": None, "Work Location": 7},
}
PROMPTS = {
    "Country": ["%s is in", "the land of %s is"],
    "Continent": ["%s lies in", 'city "%s", continent "'],
    "Work Location": ["%s:"],
}
ENTITY_PARTS = {"Paris": "train", "Kyoto": "val", "Lima": "test"}
PROMPT_PARTS = dict.fromkeys(("%s is in", "%s lies in", "%s:"), "train") | {
    "the land of %s is": "test",
    'city "%s", continent "': "val",
}


def write(folder: Path, *contents) -> Path:
    """RAVEL's four files of a type town; what is not given is sound."""
    sound = (TABLE, PROMPTS, ENTITY_PARTS, PROMPT_PARTS)
    for what, content, usual in zip(FILES, (*contents, *[None] * 4)[:4], sound, strict=True):
        (folder / f"ravel_town_{what}.json").write_text(json.dumps(usual if content is None else content))
    return folder


def test_facts_templates_and_parts(tmp_path):
    facts = read_ravel(write(tmp_path), "town")
    assert facts.attributes == ("country", "continent", "work_location")
    assert facts.entities == [
        Entity("Paris", {"country": "France", "continent": "Europe", "work_location": "office"}, "train"),
        Entity("Kyoto", {"country": "Japan", "continent": "Asia"}, "validation"),  # an empty value is none
        Entity("Lima", {"country": "Peru", "work_location": "7"}, "test"),
    ]
    assert facts.templates == [
        Template("country", "", " is in", "train"),
        Template("country", "the land of ", " is", "test"),
        Template("continent", "", " lies in", "train"),
        Template("continent", 'city "', '", continent "', "validation"),
        Template("work_location", "", ":", "train"),
    ]
    assert read_ravel(tmp_path, "town", ["continent", "country"]).attributes == ("country", "continent")


def changed(content: dict, **changes) -> dict:
    return {**content, **changes}


BAD = {
    "an attribute that is not there": (
        (),
        ["contry"],
        ["town has no attribute 'contry'", "did you mean country", "country, continent"],
    ),
    "a template without a gap": (
        (None, changed(PROMPTS, Country=["Paris is in"])),
        None,
        ["attribute_to_prompts.json", "Country", "one %s", "this has 0", "Paris is in"],
    ),
    "a template with two": ((None, changed(PROMPTS, Country=["%s or %s is in"])), None, ["one %s", "this has 2"]),
    "a template that is no text": ((None, changed(PROMPTS, Country=[3])), None, ["one %s", "no text"]),
    "no list of templates": ((None, changed(PROMPTS, Country="%s is in")), None, ["Country has no list of templates"]),
    "no object of values": (
        (changed(TABLE, Paris="France"),),
        None,
        ["entity_attributes.json", "'Paris'", "no object of attributes"],
    ),
    "a value that is a list": (
        (changed(TABLE, Paris={"Country": ["France"]}),),
        None,
        ["entity_attributes.json", "'Paris'", "Country is no text but ['France']"],
    ),
    "a value that is true": ((changed(TABLE, Paris={"Country": True}),), None, ["Country is no text but True"]),
    "no entities": (({},), None, ["entity_attributes.json", "holds no object"]),
    "a list": (([],), None, ["entity_attributes.json", "holds no object"]),
    "an attribute that nobody has": (
        ({name: {"Country": "Peru", "Continent": ""} for name in TABLE},),
        ["continent"],
        ["has no value of Continent", "--attributes"],
    ),
    "files of two types": (
        (None, None, {"abandon": "train"}),
        None,
        ["entity_to_split.json", "no part for 3 of 3 entity names", "'Paris'", "one entity type"],
    ),
    "a template without a part": (
        (None, None, None, {"%s is in": "train"}),
        None,
        ["prompt_to_split.json", "no part for 4 of 5 template names"],
    ),
    "a part that is none": (
        (None, None, changed(ENTITY_PARTS, Lima="dev")),
        None,
        ["entity_to_split.json", "'Lima'", "'dev' is none of train, val, test"],
    ),
    "an attribute that is no name of a folder": (
        (None, changed(PROMPTS, **{"../up": ["%s is"]})),
        None,
        ["'../up' is no name of an attribute"],
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_not_as_it_should_be(tmp_path, what):
    contents, attributes, words = BAD[what]
    with pytest.raises(UserError) as error:
        read_ravel(write(tmp_path, *contents), "town", attributes)
    assert "\n" not in str(error.value)
    require_words(str(error.value), words)


def test_file_that_is_not_there(tmp_path):
    (write(tmp_path) / "ravel_town_prompt_to_split.json").unlink()
    with pytest.raises(UserError, match=r"no .*ravel_town_prompt_to_split.json; ./setup.sh data fetches"):
        read_ravel(tmp_path, "town")


def test_where_facts_are(tmp_path):
    assert place_of("verb", tmp_path) == (tmp_path, "verb")
    assert place_of("x/ravel_nobel_prize_winner_entity_to_split.json", tmp_path) == (Path("x"), "nobel_prize_winner")
    assert place_of("data/cities.csv", tmp_path) is None


@pytest.mark.skipif(not (SHARED / "ravel").is_dir(), reason="RAVEL's files are not at hand")
@pytest.mark.parametrize(
    ("entity_type", "entities", "templates"),
    [
        # the counts of its files, by another way: grep
        ("city", (1787, 818, 947), (131, 73, 69)),
        ("nobel_prize_winner", (460, 234, 234), (137, 85, 79)),
        ("occupation", (388, 210, 201), None),  # without Gender Bias, which has no values
        ("physical_object", (276, 150, 137), (86, 45, 34)),
        ("verb", (510, 234, 242), (186, 96, 77)),
    ],
)
def test_ravels_own_files(entity_type, entities, templates):
    facts = read_ravel(SHARED / "ravel", entity_type)
    assert facts.attributes == tuple(a for a in RAVEL[entity_type] if a != "gender_bias")

    def sizes(items):
        return tuple(sum(item.part == part for item in items) for part in ("train", "validation", "test"))

    assert sizes(facts.entities) == entities
    assert templates is None or sizes(facts.templates) == templates
