"""Counterfactual pairs, against what the paper says."""

import hashlib
import json

import pytest
from helpers_data import PAPER_CITIES, make_city, paper_cities, prompts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.paths import HOME
from data.facts import read_cities
from data.names import KINDS, MODES, PAPER, PARTS, SPLITS
from data.pairs import batch_of, make_pairs, named, other
from data.prompts import build_prompts
from masks.scores import score


@pytest.mark.parametrize(("target", "baseline"), [("country", 0.565625), ("continent", 0.6775)])
def test_make_pairs_baseline_of_the_paper(target, baseline):
    """All 1,600 pairs of each kind, every fact taken as known (Chaudhary & Geiger's setting): doing nothing."""
    prompts = prompts_of(paper_cities())
    parts = make_pairs(prompts, target, "paper", "pairs", seed=0)
    everything = batch_of([pair for part in PARTS for pair in parts[part]], prompts, target)
    scores = score(prompts.labels()[everything.base] == everything.label, everything.kind)
    assert (scores["n_cause"], scores["n_isolation"]) == (1600, 1600)
    assert scores["isolation"] == 1.0
    assert scores["cause"] == {"country": 210, "continent": 568}[target] / 1600
    assert scores["disentangle"] == baseline


def test_make_pairs_paper_mode_has_140_steps_an_epoch():
    parts = make_pairs(prompts_of(paper_cities()), "country", "paper", "pairs", seed=0)
    assert {part: len(pairs) for part, pairs in parts.items()} == {"train": 2240, "validation": 320, "test": 640}


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(12, 40),
    order=st.randoms(use_true_random=False),
    target=st.sampled_from(PAPER),
    mode=st.sampled_from(MODES[:2]),
    split=st.sampled_from(SPLITS[:2]),
    seed=st.integers(0, 5),
    cap=st.one_of(st.none(), st.integers(1, 50)),
)
def test_make_pairs_promises(n, order, target, mode, split, seed, cap):
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
    everything = [pair for pairs in parts.values() for pair in pairs]
    assert len(set(everything)) == len(everything)
    for part, pairs in parts.items():
        for kind in KINDS:
            of_kind = [pair for pair in pairs if pair[2] == kind]
            assert of_kind
            assert cap is None or len(of_kind) <= cap
            if mode == "strict":
                asked = target if kind == "cause" else other(target, PAPER)
                first = [[cities[city].value(asked).split()[0] for city in pair[:2]] for pair in of_kind]
                assert all(base != source for base, source in first)
        if split == "cities" and part != "train":
            seen = {city for pair in parts["train"] for city in pair[:2]}
            assert not seen & {city for pair in pairs for city in pair[:2]}
    if mode == "paper" and split == "pairs" and cap is None:
        assert len(everything) == 2 * n * n


def test_batch_of_by_hand():
    """Base Kyoto, source Calais, target country: cause wants France, isolation keeps Asia."""
    cities = [make_city("Kyoto", "Japan", "Asia"), make_city("Calais", "France", "Europe")]
    prompts = prompts_of(cities)
    labels = prompts.labels().tolist()
    assert len(set(labels)) == 4
    pairs = batch_of([(0, 1, "cause"), (0, 1, "isolation")], prompts, "country")
    assert pairs.base.tolist() == [0, 2]  # rows 0, 1: country prompts; 2, 3: continent prompts
    assert pairs.source.tolist() == [1, 3]
    assert pairs.label.tolist() == [labels[1], labels[2]]
    assert pairs.is_cause.tolist() == [True, False]
    swapped = batch_of([(0, 1, "cause")], prompts, "continent")
    assert (swapped.base.item(), swapped.label.item()) == (2, labels[3])


def test_named_gives_plain_json():
    prompts = prompts_of(paper_cities())
    parts = make_pairs(prompts, "country", "strict", "cities", seed=0)
    content = named(parts, prompts)
    assert json.loads(json.dumps(content)) == content
    assert set(content) == {*PARTS, "facts"}
    for part in PARTS:
        assert content[part] == [[PAPER_CITIES[base], PAPER_CITIES[source], kind] for base, source, kind in parts[part]]


@pytest.mark.parametrize(("target", "digest"), [("country", "795e0c6817d2fd02"), ("continent", "18db65c6c6b9f643")])
def test_make_pairs_paper_mode_is_as_it_was(gpt2_tokenizer, target, digest):
    """The digest is that of commit aaecdb3, which knew one-token cities of GPT-2's tokenizer alone."""
    prompts = build_prompts(read_cities(HOME / "data" / "cities.csv"), gpt2_tokenizer, one_token=True)
    pairs = named(make_pairs(prompts, target, "paper", "pairs", seed=0, max_pairs=500), prompts)
    facts = pairs.pop("facts")
    assert {part: len(rows) for part, rows in pairs.items()} == dict.fromkeys(PARTS, 1000)
    assert hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16] == digest
    assert facts["Paris"] == {"country": "France", "continent": "Europe"}
