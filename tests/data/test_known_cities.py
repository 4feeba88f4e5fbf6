"""Who takes part: RAVEL's table through the filter of known facts, and why others fall out."""

from __future__ import annotations

import csv
import json
from collections import Counter

import pytest
import torch
from conftest import SHARED
from helpers_cli import error_line

import main
from common.errors import UserError
from data.ravel_data_prep import ATTRIBUTES, build_prompts, known_facts, read_cities
from decoder.loading import load_subject


@pytest.fixture
def table(toy_world, tmp_path):
    """Function that writes RAVEL's json of the toy's cities with changes; returns its path."""
    with open(toy_world / "cities.csv", encoding="utf-8") as file:
        facts = {
            row["city"]: {"Country": row["country"], "Continent": row["continent"]} for row in csv.DictReader(file)
        }

    def write(keep: int = 10, **changes):
        """changes: city -> facts to set."""
        content = dict(list(facts.items())[:keep])
        for city, changed in changes.items():
            content[city] = content.get(city, {"Country": "France", "Continent": "Europe"}) | changed
        path = tmp_path / "ravel_city_entity_attributes.json"
        path.write_text(json.dumps(content))
        return path, list(content)

    return write


FLAGS = ("--model", "toy", "--device", "cpu", "--methods", "none", "--layers", "2", "--mode", "paper")


def test_every_reason_is_counted_printed_and_saved(table, toy_world, tmp_path, capsys):
    _, names = table()
    country, continent, both, value = names[:4]
    path, names = table(
        **{
            country: {"Country": "Japan"},  # a country of the toy's, and not this city's
            continent: {"Continent": "Asia"},
            both: {"Country": "Japan", "Continent": "Asia"},
            value: {"Country": "Atlantis"},
            "Nowhere City": {},  # two words
            "Xyzzy": {},
        }
    )
    capsys.readouterr()
    assert main.main([*FLAGS, "--cities", str(path), "--output", str(tmp_path / "out")]) == 0
    err = capsys.readouterr().err
    assert "6 of 12 cities take part (left out: 2 not one known token, 1 value unknown to the tokenizer, " in err
    assert "2 country unknown, 2 continent unknown)" in err
    saved = json.loads((tmp_path / "out" / "toy" / "cities.json").read_text())
    assert saved["left out"] == {
        "not one known token": ["Nowhere City", "Xyzzy"],
        "value unknown to the tokenizer": [value],
        "country unknown": [country, both],
        "continent unknown": [continent, both],
    }
    assert saved["names"] == names[4:10]
    counts = {key: saved[key] for key in ("cities", "known", *saved["left out"])}
    assert list(counts.values()) == [12, 6, 2, 1, 2, 2]


def test_where_nobody_is_known_it_is_said_why(table, toy_world, tmp_path, capsys):
    _, names = table(3)
    path, _ = table(3, **{name: {"Country": "Japan"} for name in names})
    assert main.main([*FLAGS, "--cities", str(path), "--output", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "0 of 3 cities take part (left out: 3 country unknown)" in err
    assert "knows both facts of 0 of the 3 cities" in error_line(err)
    assert not (tmp_path / "out").exists()


def test_the_prefix_is_computed_once_and_prompts_go_in_batches(toy_world):
    """And the answers are those of a plain forward pass."""
    subject = load_subject(str(toy_world))
    prompts = build_prompts(read_cities(toy_world / "cities.csv"), subject.tokenizer, "few-shot")
    calls = Counter()
    prefix, blocks = subject.prefix, subject.run_blocks

    def counted(name, function):
        def call(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        return call

    subject.prefix, subject.run_blocks = counted("prefix", prefix), counted("blocks", blocks)
    guesses = []

    def predict(tokens):
        guesses.append(subject.predict(tokens, prompts.suffix))
        return guesses[-1]

    known_facts(prompts, predict, batch_size=50, progress=False)
    assert calls == {"prefix": 2, "blocks": 6}  # two attributes, 120 cities in batches of 50
    with torch.no_grad():
        plain = [subject.model(prompts.tokens[a]).logits[:, -1].argmax(-1) for a in ATTRIBUTES]
    assert torch.equal(torch.cat(guesses), torch.cat(plain))


@pytest.mark.skipif(not (SHARED / "ravel").is_dir(), reason="RAVEL's table is not at hand")
def test_ravel_s_own_table(gpt2_tokenizer):
    """3,552 cities, none twice; those of one token, counted with the tokenizer alone."""
    cities = read_cities(SHARED / "ravel" / "ravel_city_entity_attributes.json")
    assert len(cities) == len({city.name for city in cities}) == 3552
    single = [city.name for city in cities if len(gpt2_tokenizer(" " + city.name)["input_ids"]) == 1]
    prompts = build_prompts(cities, gpt2_tokenizer)
    assert [city.name for city in prompts.cities] == single
    assert (len(single), len(prompts.skipped["not one known token"])) == (380, 3172)
    where = {city.name: (city.country, city.continent) for city in prompts.cities}
    assert where["Windsor"] == ("Canada", "North America")  # as the original experiment had them
    assert where["Istanbul"] == ("Turkey", "Asia")


@pytest.mark.parametrize("same", [True, False], ids=["alike", "differing"])
def test_a_city_twice_in_the_json(tmp_path, same):
    """json's own reader would keep the last and say nothing."""
    path = tmp_path / "cities.json"
    second = "Canada" if same else "England"
    path.write_text(
        '{"Windsor": {"Country": "Canada", "Continent": "North America"}, '
        f'"Windsor": {{"Country": "{second}", "Continent": "North America"}}}}'
    )
    if same:
        assert len(read_cities(path)) == 1
    else:
        with pytest.raises(UserError, match=r"cities\.json: 'Windsor' occurs twice with different content"):
            read_cities(path)
