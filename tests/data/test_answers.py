"""The ways to write a value, and its tokens behind a prompt."""

import pytest

from data.answers import answer_tokens, spellings, written
from data.facts import Entity, Template
from data.prompts import tokenise


@pytest.mark.parametrize(
    ("attribute", "value", "wanted"),
    [
        ("country", "France", ["France"]),
        ("country", "United States", ["United States", "the United States"]),
        ("country_of_birth", "United Kingdom", ["United Kingdom", "England", "the United Kingdom"]),
        ("language", "Mandarin", ["Mandarin", "Chinese"]),
        ("language", "Dutch, French", ["Dutch, French", "Dutch", "French"]),
        ("gender", "male", ["male"]),
    ],
)
def test_spellings(attribute, value, wanted):
    assert spellings(attribute, value) == wanted


def test_time_zones_by_their_offset_in_winter_and_summer():
    pytest.importorskip("zoneinfo").ZoneInfo("Asia/Kolkata")
    assert spellings("timezone", "Asia/Kolkata") == ["Asia/Kolkata", "UTC+5:30", "UTC+05:30"]
    assert spellings("timezone", "America/Chicago") == [
        *("America/Chicago", "UTC-6", "UTC-06:00", "UTC-5", "UTC-05:00")
    ]
    assert spellings("timezone", "Nowhere/Town") == ["Nowhere/Town"]


@pytest.mark.parametrize(
    ("text", "spelling", "wanted"),
    [
        ("Paris is in", "France", " France"),
        ("Paris:", "France", " France"),
        ('{"city": "Paris", "country": "', "France", "France"),
        ("Paris (", "48", "48"),
        ("its latitude is ", "48", "48"),
        ("the word is pronounced as /", "x", "x"),
        ("The time zone of Lima is UTC", "UTC-5", "-5"),
        ("The time zone of Lima is UTC", "America/Lima", " America/Lima"),
        ("The time zone of Lima is", "UTC-5", " UTC-5"),
    ],
)
def test_a_blank_where_there_should_be_one(text, spelling, wanted):
    assert written(text, spelling) == wanted


ENDS = [" is in", '", "country": "', " (", " at latitude ", ":"]


@pytest.mark.parametrize("after", ENDS)
def test_tokens_spell_the_answer(gpt2_tokenizer, after):
    """What the tokens stand for is the answer; and but for a blank at the end, prompt and answer as one text."""
    entities = [Entity("Paris", {}), Entity("New York City", {})]
    texts, rows = tokenise(Template("country", '{"city": "', after), entities, gpt2_tokenizer)
    values = [["France", "United States"], ["41"]]
    found = answer_tokens(gpt2_tokenizer, texts, rows, values)
    assert [len(answers) for answers in found] == [2, 1]
    for text, row, answers, spelled in zip(texts, rows, found, values, strict=True):
        for answer, spelling in zip(answers, spelled, strict=True):
            blank = "" if after[-1] in ' ("' else " "
            assert gpt2_tokenizer.decode(answer) == blank + spelling
            if after[-1] != " ":
                assert tuple(gpt2_tokenizer(text + blank + spelling)["input_ids"]) == row.tokens + answer
