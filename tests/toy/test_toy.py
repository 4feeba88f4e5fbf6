"""The toy world's known answers: what each method must score there, hard mask, held-out cities.

The bounds are those the world was designed for; README's section on the toy world
gives the spread that was measured over mask seeds and world seeds.
"""

import itertools
import json
from collections import defaultdict

import pytest
import torch
import transformers
from helpers_masks import evaluate

import main
import stats
from data.facts import read_cities
from data.names import PAPER
from data.pairs import batch_of, make_pairs, named
from data.prompts import build_prompts, known_facts
from featurizers.builders import Ingredients
from featurizers.das import Das
from featurizers.methods import METHODS
from featurizers.neuron import Neuron
from featurizers.sae import Sae
from grid.profiles import PROFILES
from masks.engines import FastEngine
from masks.scores import outcomes
from masks.training import MaskRun, Schedule, train, untrained
from models import load_subject
from results.estimates import outcomes_of
from results.pairs import NamedPairs
from saes.loading import load_sae
from saes.releases import RELEASES, locate
from toy import world as toy

PLANTED = toy.Recipe().planted_layer
SEEDS = (0, 1)
PROFILE = PROFILES["toy"]
SCHEDULE = Schedule(PROFILE["epochs"], PROFILE["batch_size"], PROFILE["lr"], tuple(PROFILE["temperature"]))
AT_PLANTED = ("--model", "toy", "--layers", str(PLANTED))


@pytest.fixture(scope="module")
def output(toy_world, tmp_path_factory):
    """The results of all methods at the planted block, by the command line."""
    output = tmp_path_factory.mktemp("toy")
    assert main.main([*AT_PLANTED, "--seeds", *map(str, SEEDS), "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def scores(output):
    """{(target, method): [hard test scores, one per seed]} at the planted block."""
    found = defaultdict(list)
    for file in sorted(output.glob("toy/*/*/layer*-seed[01].json")):
        result = json.loads(file.read_text())
        found[result["target"], result["method"]].append(result["test"]["hard"] | {"l0": result["l0"]})
    assert set(found) == {(target, method) for target in PAPER for method in METHODS}
    assert all(len(of_seeds) == len(SEEDS) for of_seeds in found.values())
    return found


class World:
    """A toy world's inputs, for masks that the command line does not offer."""

    def __init__(self, folder):
        self.subject = load_subject(str(folder))
        prompts = build_prompts(read_cities(folder / "cities.csv"), self.subject.tokenizer, "bare")
        everyone = self.subject.harvest(prompts, list(range(self.subject.n_layers)), progress=False)
        known, self.report = known_facts(prompts, everyone.best_R)
        self.cache = everyone.keep(known)
        self.prompts = self.cache.prompts

    def parts(self, target: str, seed: int) -> dict[str, list]:
        return make_pairs(self.prompts, target, "strict", "cities", seed, PROFILE["max_pairs"])

    def pairs(self, target: str, seed: int):
        return {part: batch_of(pairs, self.prompts, target) for part, pairs in self.parts(target, seed).items()}

    def test_pairs(self, target: str, seed: int) -> NamedPairs:
        return NamedPairs.of(named(self.parts(target, seed), self.prompts))

    def hard_scores(self, featurizer_of) -> dict[tuple[str, int], float]:
        """Train by the toy's own settings at the planted block; disentangle on held-out cities, by target and seed.

        featurizer_of: seed -> featurizer.
        """
        cells = list(itertools.product(PAPER, SEEDS))
        pairs = [self.pairs(*cell) for cell in cells]
        runs = []
        for (_, seed), of_cell in zip(cells, pairs, strict=True):
            featurizer = featurizer_of(seed)
            rotation = featurizer if isinstance(featurizer, Das) else None
            engine = FastEngine(self.subject, self.cache, PLANTED, featurizer)
            runs.append(MaskRun(engine, rotation, of_cell["train"], seed))
        found = {}
        for cell, of_cell, run, trained in zip(cells, pairs, runs, train(runs, SCHEDULE, "cpu"), strict=True):
            result = evaluate(run.engine, trained.theta, of_cell["test"], PROFILE["temperature"][1])
            found[cell] = result["hard"]["disentangle"]
        return found


@pytest.fixture(scope="module")
def planted(toy_world):
    return World(toy_world)


def each(scores, method):
    return [s["disentangle"] for target in PAPER for s in scores[target, method]]


# ---------------------------------------------------------------- what must come out


def test_das_finds_the_planted_subspaces(scores):
    assert min(each(scores, "das")) >= 0.93


def test_neurons_stay_well_below_das(scores):
    assert all(0.68 <= score <= 0.92 for score in each(scores, "neuron"))
    for das, neuron in zip(each(scores, "das"), each(scores, "neuron"), strict=True):
        assert neuron <= das - 0.05


@pytest.mark.parametrize("method", list(RELEASES))
def test_sparse_saes_do_not_disentangle(scores, method):
    assert all(0 < s["l0"] <= 64 for target in PAPER for s in scores[target, method])
    assert max(each(scores, method)) <= 0.75


def test_baselines_are_where_strict_mode_puts_them(scores):
    for target in PAPER:
        assert all((s["cause"], s["isolation"]) == (0, 1) for s in scores[target, "none"])
        assert all(s["cause"] >= 0.95 and s["isolation"] <= 0.05 for s in scores[target, "full"])


def test_the_oracle_sae_disentangles(planted, toy_world):
    """An SAE whose latents are the planted axes: what the SAE path can reach when there is something to find."""
    sae = load_sae("bloom", toy_world / "saes" / "oracle" / f"blocks.{PLANTED + 1}.hook_resid_pre")
    scores = planted.hard_scores(lambda _: Sae(sae))
    assert min(scores.values()) >= 0.97, scores


def test_neurons_disentangle_where_the_plant_is_in_the_coordinates(neuron_world):
    scores = World(neuron_world).hard_scores(lambda _: Neuron(64))
    assert min(scores.values()) >= 0.97, scores


def test_das_finds_nothing_where_nothing_is_planted(control_world):
    world = World(control_world)
    scores = world.hard_scores(lambda seed: METHODS["das"].build(Ingredients(world.subject.d_model, seed)))
    assert max(scores.values()) <= 0.70, scores


@pytest.mark.parametrize("target", PAPER)
def test_the_fact_is_read_just_after_the_planted_block(planted, target):
    """Full patch: the source's answer up to the planted block, no longer two blocks on."""
    test = planted.pairs(target, 0)["test"]
    cause = []
    for layer in range(planted.subject.n_layers):
        engine = FastEngine(planted.subject, planted.cache, layer, Neuron(64))
        theta = untrained(engine, 1.0, "cpu").theta
        cause.append(evaluate(engine, theta, test, 0.1)["hard"]["cause"])
    assert min(cause[: PLANTED + 1]) >= 0.95
    assert max(cause[PLANTED + 2 :]) <= 0.10


def test_the_model_knows_every_fact(planted, neuron_world, control_world):
    for world in (planted, World(neuron_world), World(control_world)):
        assert world.report["known"] == 120


# ---------------------------------------------------------------- which method is better, of five seeds


@pytest.fixture(scope="module")
def estimates(output) -> dict:
    """estimates.json of neuron, das and openai; two of the seeds are done."""
    flags = [*AT_PLANTED, "--methods", "neuron", "das", "openai", "--targets", "country"]
    assert main.main([*flags, "--seeds", "0", "1", "2", "3", "4", "--output", str(output)]) == 0
    return json.loads((output / "toy" / "estimates.json").read_text())


def test_das_is_better_than_neurons_and_an_sae_worse(estimates):
    """p, corrected, was at most .003 when this was written; .01 is asked for."""
    found = {d["method"]: d for d in estimates["differences"]}
    assert set(found) == {"das", "openai"}
    for method, d in found.items():
        assert d["against"] == "neuron"
        assert d["n_seeds"] == 5
        assert d["p_holm"] < 0.01
        assert d["verdict"] == ("better" if method == "das" else "worse")
        assert d["low"] <= d["difference"] <= d["high"]


def test_das_is_perfect_and_its_interval_has_a_width(estimates):
    for row in estimates["scores"]:
        if (row["method"], row["mask"], row["score"]) == ("das", "hard", "disentangle"):
            low, high = row["interval95_new_seeds"]
            assert low < 0.97 < high <= 1


def test_neurons_cannot_be_told_from_neurons_with_another_seed(planted):
    """Masks trained twice on the same pairs, which come in another order the second time."""
    engine = FastEngine(planted.subject, planted.cache, PLANTED, Neuron(planted.subject.d_model))
    seeds = (0, 1, 2)
    parts = [planted.pairs("country", seed) for seed in seeds]
    orders = list(itertools.product((0, 10), seeds))
    runs = [MaskRun(engine, None, parts[seed]["train"], seed + more) for more, seed in orders]
    trained = train(runs, SCHEDULE, "cpu")
    cells = ([], [])
    for (more, seed), its in zip(orders, trained, strict=True):
        hits = outcomes(engine, its.theta, parts[seed]["test"], PROFILE["temperature"][1])["hard"]
        cells[more // 10].append(outcomes_of(hits.numpy(), planted.test_pairs("country", seed), "country"))
    found = stats.difference(*cells, "disentangle", new_seeds=True)
    assert stats.verdict(found.value, found.p) == stats.CANNOT_TELL
    assert found.low < 0 < found.high


# ---------------------------------------------------------------- the folder


def test_the_folder_is_a_hugging_face_checkpoint(toy_world):
    tokenizer = transformers.AutoTokenizer.from_pretrained(toy_world)
    ids = tokenizer("<|endoftext|> Bordeaux is a city in the country of")["input_ids"]
    assert len(ids) == 9
    model = transformers.AutoModelForCausalLM.from_pretrained(toy_world)
    with torch.no_grad():
        answer = model(torch.tensor([ids])).logits[0, -1].argmax()
    assert tokenizer.decode([int(answer)]).strip() == "France"
    assert sum(f.stat().st_size for f in toy_world.rglob("*") if f.is_file()) < 10e6


def test_saes_of_all_four_kinds_are_read_back_at_every_layer(toy_world):
    for release, about in RELEASES.items():
        for layer in range(6):
            sae = load_sae(about.family, locate(release, toy_world / "saes", layer, 6), layer, d_model=64)
            assert (sae.n_latents, sae.layer) == (256, layer)


def test_the_oracle_sae_reconstructs_exactly(planted, toy_world):
    sae = load_sae("bloom", toy_world / "saes" / "oracle" / f"blocks.{PLANTED + 1}.hook_resid_pre")
    x = planted.cache.residuals[PLANTED]
    assert (sae.decode(*sae.encode(x)) - x).pow(2).sum(-1).max() < 1e-8


def test_a_world_of_the_same_recipe_is_kept_and_another_is_rebuilt(tmp_path, monkeypatch):
    built = []

    def fake(folder, recipe, saes, progress):
        built.append(recipe)
        (folder / "world.json").write_text(json.dumps(toy.dataclasses.asdict(recipe)))

    monkeypatch.setattr(toy, "_build", fake)
    one, two = toy.Recipe(seed=1), toy.Recipe(seed=2)
    for recipe in (one, one, two, two):
        toy.ensure(tmp_path / "w", recipe, progress=False)
    assert built == [one, two]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w"]  # nothing half built is left


def test_leftovers_of_a_killed_build_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "_build", lambda folder, *_: (folder / "world.json").write_text("{}"))
    dead = tmp_path / ".w-building-abc"
    dead.mkdir()
    toy.ensure(tmp_path / "w", progress=False)
    assert not dead.exists()


def test_whoever_may_read_the_world_may_read_its_weights(toy_world):
    modes = {path.stat().st_mode & 0o777 for path in toy_world.rglob("*") if path.is_file()}
    assert len(modes) == 1
