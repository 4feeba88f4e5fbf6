"""What is said of single features and of fewer features, against whole prompts with plain hooks."""

import json

import numpy as np
import pytest
import torch
from helpers_explain import MAX_PAIRS, METHODS, PLANTED, TOP

from data.facts import read_cities
from data.pairs import batch_of, make_pairs
from data.prompts import build_prompts
from explain.effects import grid_of, needed
from explain.subsets import Subsets
from featurizers.directions import FixedDirections
from featurizers.neuron import Neuron
from featurizers.sae import Sae
from masks.engines import FastEngine
from models import load_subject
from saes.loading import load_sae


def explanation(explained, method: str) -> dict:
    return json.loads((explained.root / "explain" / f"{explained.name(method)}.json").read_text())


@pytest.mark.parametrize("method", METHODS)
def test_effects_of_single_features_are_those_of_plain_hooks(explained, toy_world, method):
    judge, found = explained.judge(toy_world, method), explanation(explained, method)
    selected = (judge.tensors["theta"] > 0).nonzero()[:, 0].tolist()
    assert sorted(each["feature"] for each in found["features"]) == selected
    whole, empty = judge.scores(selected), judge.scores([])
    assert found["scores"]["mask"] == pytest.approx(whole, abs=1e-12)
    assert found["scores"]["empty"] == pytest.approx(empty, abs=1e-12)
    whole_nats, empty_nats = judge.nats(selected), judge.nats([])
    some = [each for each in found["features"] if each["effect"] is not None]
    assert len(some) == min(TOP, len(selected))
    for each in some[:3] + some[-1:]:
        without, alone = [i for i in selected if i != each["feature"]], [each["feature"]]
        lost = {name: value - judge.scores(without)[name] for name, value in whole.items()}
        gained = {name: value - empty[name] for name, value in judge.scores(alone).items()}
        assert {name: each["lost"][name] for name in lost} == pytest.approx(lost, abs=1e-12)
        assert {name: each["gained"][name] for name in gained} == pytest.approx(gained, abs=1e-12)
        assert each["effect"] == pytest.approx((lost["disentangle"] + gained["disentangle"]) / 2, abs=1e-12)
        assert each["lost"]["nats"] == pytest.approx(judge.nats(without) - whole_nats, abs=1e-5)
        assert each["gained"]["nats"] == pytest.approx(empty_nats - judge.nats(alone), abs=1e-5)
        assert each["lost"]["low"] <= each["lost"]["disentangle"] <= each["lost"]["high"]


@pytest.mark.parametrize("method", METHODS)
def test_logits_of_subsets_are_those_of_plain_hooks(explained, toy_world, method):
    judge = explained.judge(toy_world, method)
    subject = load_subject(str(toy_world))
    prompts = build_prompts(read_cities(toy_world / "cities.csv"), subject.tokenizer, "bare")
    cache = subject.harvest(prompts, [PLANTED], progress=False)
    pairs = batch_of(make_pairs(prompts, "country", "strict", "cities", 0, MAX_PAIRS)["test"], prompts, "country")
    featurizer = FixedDirections(judge.tensors["rotation"]) if method == "das" else Neuron(64)
    if method == "openai":
        featurizer = Sae(load_sae(method, explained.saes / method / f"{PLANTED}.pt"))
    engine = FastEngine(subject, cache, PLANTED, featurizer)
    alive = torch.arange(engine.n_features) if engine.bound.alive is None else engine.bound.alive
    selected_S = torch.randperm(len(alive), generator=torch.Generator().manual_seed(0))[:20]
    subsets = Subsets(engine, pairs, selected_S)
    rng = np.random.default_rng(0)
    keep_VS = rng.random((6, 20)) < np.array([[0], [0.1], [0.3], [0.6], [0.9], [1]])
    hit_VN, nats_VN = subsets.answers(keep_VS)
    distinct = set()
    for v, keep_S in enumerate(keep_VS):
        kept = alive[selected_S[torch.from_numpy(keep_S)]]
        wanted = judge.logits(kept.tolist())
        logits = engine.logits(pairs, subsets.mask(keep_S[None].repeat(len(pairs), axis=0)))
        assert (logits - wanted).abs().max() < 1e-5 * wanted.abs().max()
        assert np.array_equal(hit_VN[v], (wanted.argmax(-1) == judge.label_N).numpy())
        loss_N = torch.nn.functional.cross_entropy(wanted.double(), judge.label_N, reduction="none")
        assert np.allclose(nats_VN[v], loss_N, atol=1e-4)
        for n in range(judge.n):
            differs = judge.features[n, kept] != judge.features[judge.n + n, kept]
            distinct.add((n, frozenset(kept[differs].tolist())))
    assert (subsets.n_rows, subsets.n_asked) == (len(distinct), keep_VS.shape[0] * judge.n)
    assert method != "openai" or len(distinct) < 0.8 * subsets.n_asked


@pytest.mark.parametrize("method", METHODS)
def test_scores_against_the_number_kept_are_those_of_plain_hooks(explained, toy_world, method):
    judge, found = explained.judge(toy_world, method), explanation(explained, method)
    theta = judge.tensors["theta"]
    by_theta = [i for i in torch.argsort(theta, descending=True, stable=True).tolist() if theta[i] > 0]
    by_effect = [each["feature"] for each in found["features"]]
    for order, features in (("theta", by_theta), ("effect", by_effect)):
        curve = found["curves"][order]
        assert (curve["k"][0], curve["k"][-1]) == (1, len(by_theta))
        for at in {*range(0, len(curve["k"]), 3), len(curve["k"]) - 1}:
            wanted = judge.scores(features[: curve["k"][at]])
            assert {name: curve[name][at] for name in wanted} == pytest.approx(wanted, abs=1e-12)


def test_the_best_32_latents_of_the_oracle_are_planted_ones(oracle):
    """Q's first 32 columns carry the country: latents 0 to 31, and 64 to 95 for the other sign."""
    found = explanation(oracle, "bloom")
    planted = {*range(32), *range(64, 96)}
    ranked = [each["feature"] for each in found["features"]]
    assert len(ranked) > 32
    assert set(ranked[:32]) <= planted
    assert len(planted & set(ranked)) / len(ranked) >= 0.9
    assert found["scores"]["mask"]["disentangle"] >= 0.97
    assert min(each["explained"]["country"] for each in found["features"][:32]) > 0.8


@pytest.mark.parametrize("method", METHODS)
def test_ranking_is_by_effect_then_nats_and_the_rest_follow_by_theta(explained, method):
    features = explanation(explained, method)["features"]
    some = [each for each in features if each["effect"] is not None]
    assert features[: len(some)] == some
    keys = [(each["effect"], each["lost"]["nats"] + each["gained"]["nats"]) for each in some]
    assert keys == sorted(keys, reverse=True)
    rest = [each["theta"] for each in features[len(some) :]]
    assert rest == sorted(rest, reverse=True)
    assert not rest or rest[0] <= min(each["theta"] for each in some)


# ---------------------------------------------------------------- how many are needed, by hand


def test_numbers_that_are_tried():
    assert grid_of(0) == []
    assert grid_of(1) == [1]
    assert grid_of(30) == [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30]
    assert grid_of(100)[-4:] == [50, 63, 79, 100]
    assert grid_of(2734)[-9:] == [100, 158, 251, 398, 631, 1000, 1585, 2512, 2734]


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        ([0.5, 0.6, 0.95, 0.94, 1.0], 16),
        ([0.5, 0.6, 0.95, 0.96, 1.0], 4),
        ([0.96, 0.6, 0.95, 0.96, 1.0], 4),  # above it once and then no more
        ([0.96, 0.95, 0.95, 0.96, 1.0], 1),
        ([0.5, 0.6, 0.7, 0.8, 0.5], None),  # the whole mask has nothing above none
        ([0.1, 0.2, 0.3, 0.4, 0.4], None),
    ],
)
def test_needed_is_the_least_number_from_which_on_all_have_enough(scores, wanted):
    """none is 0.5, the whole mask 1.0: 90 % of what it has above is 0.95."""
    assert needed({"k": [1, 2, 4, 8, 16], "disentangle": scores}, 0.5) == wanted


def test_nothing_selected_needs_nothing():
    assert needed({"k": [], "disentangle": []}, 0.5) is None
