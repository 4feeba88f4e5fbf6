"""Facts, prompts, known facts and pairs, against what the paper and RAVEL say."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from conftest import HOME, SHARED
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from data.intervention_data import index_pairs, make_pairs
from data.names import KINDS, MODES, PARTS, SPLITS, other
from data.ravel_data_prep import ATTRIBUTES, City, Prompts, build_prompts, known_facts, read_cities
from masks.scores import label_baseline
from toy import world as toy

PAPER_CITIES = [
    *("Ankara", "Beijing", "Brandon", "Brooks", "Brussels", "Calais", "Churchill", "Cork", "Cornwall", "Dawson"),
    *("Dayton", "Delhi", "Dublin", "Edmonton", "Istanbul", "Jakarta", "Jasper", "Jerusalem", "Kabul", "Karachi"),
    *("Kyoto", "Manila", "Medina", "Montreal", "Mumbai", "Norfolk", "Providence", "Quebec", "Santos", "Shanghai"),
    *("Tampa", "Tulsa", "Tunis", "Vernon", "Vienna", "Wallace", "Wichita", "Wilmington", "Windsor", "Zurich"),
]


def paper_cities() -> list[City]:
    table = {city.name: city for city in read_cities(HOME / "data" / "cities.csv")}
    return [table[name] for name in PAPER_CITIES]


def prompts_of(cities: list[City]) -> Prompts:
    """Prompts without a tokenizer: the label of a value is a number for its first word."""
    words: dict[str, int] = {}
    labels = {
        a: torch.tensor([words.setdefault(c.value(a).split()[0], len(words)) for c in cities]) for a in ATTRIBUTES
    }
    tokens = {a: torch.arange(len(cities))[:, None].expand(-1, 9) for a in ATTRIBUTES}
    return Prompts(cities, tokens, labels, suffix=8)


# ---------------------------------------------------------------- the table of cities


def test_cities_csv_agrees_with_ravel():
    """Every fact is RAVEL's too, so the default table finds the same known cities as RAVEL's would."""
    file = SHARED / "ravel" / "ravel_city_entity_attributes.json"
    if not file.exists():
        pytest.skip("RAVEL's table is not at hand")
    ravel = {city.name: city for city in read_cities(file)}
    assert len(ravel) == 3552
    ours = read_cities(HOME / "data" / "cities.csv")
    assert len(ours) > 200
    assert [city for city in ours if ravel.get(city.name) != city] == []


def test_the_papers_forty_cities_are_there():
    cities = {city.name: city for city in paper_cities()}
    assert len(cities) == 40
    assert {cities[name].country for name in ("Windsor", "Cornwall", "Brandon", "Churchill")} == {"Canada"}
    assert cities["Istanbul"].continent == "Asia"


def test_toy_cities_are_balanced():
    cities = toy.toy_cities()
    assert Counter(c.country for c in cities) == dict.fromkeys({c.country for c in cities}, 6)
    assert sorted(Counter(c.continent for c in cities).values()) == [24] * 5
    assert len({c.name for c in cities}) == 120
    assert len({c.country.split()[0] for c in cities}) == 20  # no two countries share a label
    assert not {"Toronto", "Beijing", "Miami", "Santiago", "London"} & {c.name for c in cities}


def test_the_same_city_twice_with_the_same_facts_counts_once(tmp_path):
    file = tmp_path / "c.csv"
    file.write_text("\ufeffcontinent,city,population,country\nEurope,Paris,2,France\nEurope,Paris,3,France\n")
    assert read_cities(file) == [City("Paris", "France", "Europe")]


# ---------------------------------------------------------------- prompts


@pytest.mark.parametrize(("attribute", "length"), [("country", 59), ("continent", 61)])
def test_prompts_with_gpt2s_tokenizer(gpt2_tokenizer, attribute, length):
    prompts = build_prompts(paper_cities(), gpt2_tokenizer)
    assert [c.name for c in prompts.cities] == PAPER_CITIES
    tokens = prompts.tokens[attribute]
    assert tokens.shape == (40, length)
    assert prompts.suffix == 8
    assert [gpt2_tokenizer.decode(t) for t in tokens[:, -8]] == [" " + name for name in PAPER_CITIES]
    assert gpt2_tokenizer.decode(tokens[0]) == (
        f"Toronto is a city in the {attribute} of {'Canada' if attribute == 'country' else 'North America'}. "
        f"Beijing is a city in the {attribute} of {'China' if attribute == 'country' else 'Asia'}. "
        f"Miami is a city in the {attribute} of {'United States' if attribute == 'country' else 'North America'}. "
        f"Santiago is a city in the {attribute} of {'Chile' if attribute == 'country' else 'South America'}. "
        f"London is a city in the {attribute} of {'England' if attribute == 'country' else 'Europe'}. "
        f"Ankara is a city in the {attribute} of"
    )
    wanted = [" " + city.value(attribute).split()[0] for city in prompts.cities]
    assert [gpt2_tokenizer.decode(t) for t in prompts.labels[attribute]] == wanted
    differing = (tokens != tokens[0]).any(0).nonzero()[:, 0].tolist()
    assert differing == [length - 8]  # prompts differ in the city alone


def test_cities_of_several_tokens_are_skipped_and_named(gpt2_tokenizer):
    cities = [City("Paris", "France", "Europe"), City("Ouagadougou", "Burkina Faso", "Africa")]
    prompts = build_prompts(cities, gpt2_tokenizer)
    assert [c.name for c in prompts.cities] == ["Paris"]
    assert prompts.skipped["not one known token"] == ["Ouagadougou"]
    with pytest.raises(UserError, match="none of the 1 cities is a single token"):
        build_prompts(cities[1:], gpt2_tokenizer)


def test_values_that_share_their_first_token_are_reported(gpt2_tokenizer):
    cities = [City("Jasper", "South Africa", "Africa"), City("Cork", "South Korea", "Asia")]  # one-token names
    collisions = build_prompts(cities, gpt2_tokenizer).collisions()
    assert collisions == {"country": ["South Africa / South Korea"], "continent": []}


def test_known_facts_need_both_answers():
    cities = paper_cities()[:5]
    prompts = prompts_of(cities)
    calls = []

    def predict(tokens):
        """Wrong about the second city's country and the fourth's continent."""
        attribute = ATTRIBUTES[len(calls) // 2]
        calls.append(tokens)
        answer = prompts.labels[attribute][tokens[:, 0]].clone()
        answer[tokens[:, 0] == (1 if attribute == "country" else 3)] = -1
        return answer

    known, report = known_facts(prompts, predict, batch_size=3, progress=False)
    assert [c.name for c in known.cities] == [cities[i].name for i in (0, 2, 4)]
    assert known.labels["country"].tolist() == [prompts.labels["country"][i] for i in (0, 2, 4)]
    assert known.skipped == {"country unknown": [cities[1].name], "continent unknown": [cities[3].name]}
    assert report == {"cities": 5, "country unknown": 1, "continent unknown": 1, "known": 3}


# ---------------------------------------------------------------- pairs


@pytest.mark.parametrize(("target", "baseline"), [("country", 0.565625), ("continent", 0.6775)])
def test_the_papers_baseline_of_doing_nothing(target, baseline):
    """All 1,600 pairs of each kind, every fact taken as known (Chaudhary & Geiger's setting)."""
    prompts = prompts_of(paper_cities())
    parts = make_pairs(prompts, target, "paper", "pairs", seed=0)
    everything = index_pairs([pair for part in PARTS for pair in parts[part]], prompts, target)
    scores = label_baseline(everything, prompts.all_labels())
    assert (scores["n_cause"], scores["n_isolation"]) == (1600, 1600)
    assert scores["isolation"] == 1.0
    assert scores["cause"] == {"country": 210, "continent": 568}[target] / 1600
    assert scores["disentangle"] == baseline


def test_paper_mode_has_140_steps_an_epoch():
    parts = make_pairs(prompts_of(paper_cities()), "country", "paper", "pairs", seed=0)
    assert {part: len(pairs) for part, pairs in parts.items()} == {"train": 2240, "validation": 320, "test": 640}


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(12, 40),
    order=st.randoms(use_true_random=False),
    target=st.sampled_from(ATTRIBUTES),
    mode=st.sampled_from(MODES),
    split=st.sampled_from(SPLITS),
    seed=st.integers(0, 5),
    cap=st.one_of(st.none(), st.integers(1, 50)),
)
def test_pairs_keep_their_promises(n, order, target, mode, split, seed, cap):
    cities = paper_cities()
    order.shuffle(cities)
    cities = cities[:n]
    prompts = prompts_of(cities)
    try:
        parts = make_pairs(prompts, target, mode, split, seed, cap)
    except UserError as error:
        assert "leave no" in str(error)  # a part whose cities all share a value
        return
    assert parts == make_pairs(prompts, target, mode, split, seed, cap)
    by_name = {city.name: city for city in cities}
    everything = [pair for pairs in parts.values() for pair in pairs]
    assert len(set(everything)) == len(everything)
    for part, pairs in parts.items():
        for kind in KINDS:
            of_kind = [pair for pair in pairs if pair[2] == kind]
            assert of_kind
            assert cap is None or len(of_kind) <= cap
            if mode == "strict":
                asked = target if kind == "cause" else other(target)
                first = [[by_name[name].value(asked).split()[0] for name in pair[:2]] for pair in of_kind]
                assert all(base != source for base, source in first)
        if split == "cities" and part != "train":
            seen = {name for pair in parts["train"] for name in pair[:2]}
            assert not seen & {name for pair in pairs for name in pair[:2]}
    if mode == "paper" and split == "pairs" and cap is None:
        assert len(everything) == 2 * n * n


def test_labels_of_pairs_by_hand():
    """Base Kyoto, source Calais, target country: cause wants France, isolation keeps Asia."""
    cities = [City("Kyoto", "Japan", "Asia"), City("Calais", "France", "Europe")]
    prompts = prompts_of(cities)
    pairs = index_pairs([("Kyoto", "Calais", "cause"), ("Kyoto", "Calais", "isolation")], prompts, "country")
    assert pairs.base.tolist() == [0, 2]  # rows 0, 1: country prompts; 2, 3: continent prompts
    assert pairs.source.tolist() == [1, 3]
    assert pairs.label.tolist() == [prompts.labels["country"][1], prompts.labels["continent"][0]]
    assert pairs.is_cause.tolist() == [True, False]
    swapped = index_pairs([("Kyoto", "Calais", "cause")], prompts, "continent")
    assert (swapped.base.item(), swapped.label.item()) == (2, prompts.labels["continent"][1])


def test_pair_files_are_plain_json():
    parts = make_pairs(prompts_of(paper_cities()), "country", "strict", "cities", seed=0)
    again = json.loads(json.dumps(parts))
    assert all(base in PAPER_CITIES and source in PAPER_CITIES for base, source, _ in again["test"])
