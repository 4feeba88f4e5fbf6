"""Who takes part: RAVEL's table through the filter of known facts, and why others fall out."""

import csv
import json

import pytest
import torch
from helpers_cli import error_line
from helpers_data import SHARED, paper_cities, prompts_of

import main
from data.facts import read_cities
from data.prompts import build_prompts, known_facts
from models import load_subject


def test_known_facts_need_both_answers():
    """The answers are wrong about the second city's country and the fourth's continent."""
    cities = paper_cities()[:5]
    prompts = prompts_of(cities)
    best = prompts.labels()
    best[prompts.row("country", 1)] = best[prompts.row("continent", 3)] = -1
    known, report = known_facts(prompts, best)
    assert known == [0, 2, 4]
    assert prompts.skipped == {"country unknown": [cities[1].name], "continent unknown": [cities[3].name]}
    assert report == {"cities": 5, "country unknown": 1, "continent unknown": 1, "known": 3}
    kept = prompts.keep(known)
    assert [city.name for city in kept.entities] == [cities[i].name for i in known]
    wanted = [prompts.rows[prompts.row(a, i)].label for a in ("country", "continent") for i in known]
    assert kept.labels().tolist() == wanted


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
NOT_KNOWN = "with a token that the tokenizer does not know"
NO_LABEL = "with a value that the tokenizer cannot spell"


def test_every_reason_is_counted_printed_and_saved(table, toy_world, tmp_path, capsys):
    """Several tokens are a reason of their own in mode paper, which takes cities of one token."""
    _, names = table()
    country, continent, both, value = names[:4]
    path, names = table(
        **{
            country: {"Country": "Japan"},  # a country of the toy's, and not this city's
            continent: {"Continent": "Asia"},
            both: {"Country": "Japan", "Continent": "Asia"},
            value: {"Country": "Atlantis"},
            "France Spain": {},  # two words that the tokenizer knows
            "Nowhere City": {},
            "Xyzzy": {},
        }
    )
    capsys.readouterr()
    assert main.main([*FLAGS, "--cities", str(path), "--output", str(tmp_path / "out")]) == 0
    err = capsys.readouterr().err
    assert f"6 of 13 cities take part (left out: 1 not one token, 2 {NOT_KNOWN}, 1 {NO_LABEL}, " in err
    assert "2 country unknown, 2 continent unknown)" in err
    saved = json.loads((tmp_path / "out" / "toy" / "cities.json").read_text())
    assert saved["left out"] == {
        "not one token": ["France Spain"],
        NOT_KNOWN: ["Nowhere City", "Xyzzy"],
        NO_LABEL: [value],
        "country unknown": [country, both],
        "continent unknown": [continent, both],
    }
    assert saved["names"] == names[4:10]
    assert saved["tokens"] == dict.fromkeys(names[4:10], 1)
    counts = {key: saved[key] for key in ("cities", "known", *saved["left out"])}
    assert list(counts.values()) == [13, 6, 1, 2, 1, 2, 2]


def test_cities_of_several_tokens_take_part(table, toy_world, tmp_path):
    """Unless --one-token is asked for; whether the model knows them is another question."""
    path, _ = table(**{"France Spain": {}})
    for flags, names in ((("--no-one-token",), ["France Spain"]), ((), [])):
        out = tmp_path / f"out{len(flags)}"
        argv = [*FLAGS, *flags, "--unfiltered", "--cities", str(path), "--output", str(out)]
        assert main.main(argv) == 0
        saved = json.loads((out / "toy" / "cities.json").read_text())
        assert saved["names"][10:] == names
        assert saved["tokens"].get("France Spain") == (2 if names else None)


def test_where_nobody_is_known_it_is_said_why(table, toy_world, tmp_path, capsys):
    _, names = table(3)
    path, _ = table(3, **{name: {"Country": "Japan"} for name in names})
    assert main.main([*FLAGS, "--cities", str(path), "--output", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "0 of 3 cities take part (left out: 3 country unknown)" in err
    assert "knows both facts of 0 of the 3 cities" in error_line(err)
    assert not (tmp_path / "out").exists()


def test_harvest_runs_each_prefix_once_and_prompts_in_batches(toy_world):
    """And the answers are those of a plain forward pass."""
    subject = load_subject(str(toy_world))
    prompts = build_prompts(read_cities(toy_world / "cities.csv"), subject.tokenizer, "few-shot")
    shapes = []
    hook = subject.structure.trunk.register_forward_hook(lambda *call: shapes.append(call[2][0].shape[:2]))
    cache = subject.harvest(prompts, [2], batch_size=50, progress=False)
    hook.remove()
    at = {a: prompts.rows[prompts.row(a, 0)].at for a in ("country", "continent")}
    assert sorted(shapes) == sorted(
        [(1, length) for length in at.values()] + 2 * [(50, 8), (50, 8), (20, 8)]
    )  # two attributes, 120 cities in batches of 50, from the city on
    with torch.no_grad():
        plain = [subject.model(torch.tensor([row.tokens])).logits[0, -1].argmax(-1) for row in prompts.rows]
    assert torch.equal(cache.best_R, torch.stack(plain))


@pytest.mark.skipif(not (SHARED / "ravel").is_dir(), reason="RAVEL's table is not at hand")
def test_ravels_own_table(gpt2_tokenizer):
    """3,552 cities, none twice; those of one token, counted with the tokenizer alone."""
    cities = read_cities(SHARED / "ravel" / "ravel_city_entity_attributes.json")
    assert len(cities) == len({city.name for city in cities}) == 3552
    single = [city.name for city in cities if len(gpt2_tokenizer(" " + city.name)["input_ids"]) == 1]
    prompts = build_prompts(cities, gpt2_tokenizer, one_token=True)
    assert [city.name for city in prompts.entities] == single
    assert (len(single), len(prompts.skipped["not one token"])) == (380, 3172)
    where = {city.name: (city.value("country"), city.value("continent")) for city in prompts.entities}
    assert where["Windsor"] == ("Canada", "North America")  # as the original experiment had them
    assert where["Istanbul"] == ("Turkey", "Asia")
