"""RAVEL's methods in a grid: what each is trained on or fitted to, and what its result says."""

from dataclasses import replace

import pytest
import torch
from helpers_cli import fails
from helpers_grid import run
from helpers_masks import LAYER, make_job, toy_at_layer
from safetensors.torch import load_file

from grid import experiment as experiment_file
from grid.experiment import Experiment
from grid.layers import model_info
from grid.plan import plan
from grid.settings import read_settings
from grid.trainer import Trainer
from masks.training import Schedule, train
from results.run import Run
from results.store import Store

SMALL = ("--model", "toy", "--device", "cpu", "--layers", str(LAYER), "--targets", "country", "--max-pairs", "60")


def trainer_of(output, *more) -> Trainer:
    """A trainer of a grid on the toy world, before anything is trained or written."""
    settings = read_settings([*SMALL, *more, "--output", str(output)])
    settings.device, settings.joint = "cpu", 4
    runs = plan(settings, model_info(settings))
    trainer = Trainer(Experiment(settings, Store(output, "toy"), runs).check(), progress=False)
    trainer._begin()
    return trainer


# ---------------------------------------------------------------- METHOD:cause


def test_cause_is_trained_on_cause_pairs_alone(toy_world, tmp_path, monkeypatch):
    """With false labels on every isolation pair METHOD:cause learns the same, to the bit, and METHOD does not."""
    argv = [*SMALL, "--epochs", "2", "--joint", "1"]
    argv += ["--methods", "neuron", "neuron:cause", "das@8", "das@8:cause", "bloom", "bloom:cause"]
    whole, _ = run(tmp_path / "whole", *argv)
    batch_of = experiment_file.batch_of

    def with_false_labels(pairs, prompts, target):
        batch = batch_of(pairs, prompts, target)
        return replace(batch, label=torch.where(batch.is_cause, batch.label, batch.label.roll(1)))

    monkeypatch.setattr(experiment_file, "batch_of", with_false_labels)
    false, _ = run(tmp_path / "false", *argv)
    for method, key in (("neuron", "theta"), ("das@8", "rotation"), ("bloom", "theta")):
        for name in (method, f"{method}:cause"):
            one, other = (load_file(root / f"{Run('country', name, LAYER, 0)}.safetensors") for root in (whole, false))
            assert torch.equal(one[key], other[key]) == name.endswith(":cause"), name


def test_cause_is_what_training_on_such_pairs_gives(toy_world, tmp_path):
    """The same theta from a mask run with a batch of cause pairs that is made here."""
    root, _ = run(tmp_path, *SMALL, "--epochs", "2", "--methods", "neuron:cause", "--joint", "1")
    found = load_file(root / "country" / "neuron:cause" / f"layer0{LAYER}-seed0.safetensors")["theta"]
    job = make_job(toy_at_layer(toy_world, "bare"), "neuron", 0, 60, "country", "strict", "cities")
    job.pairs = job.pairs[job.pairs.is_cause]
    assert len(job.pairs) == 60
    (trained,) = train([job], Schedule(2, 16, 0.003, (1.0, 0.1)), "cpu")
    torch.testing.assert_close(found, trained.theta, rtol=0, atol=1e-6)


def test_mode_paper_cuts_batches_of_cause_pairs_alone(toy_world, tmp_path):
    """60 cause pairs are three whole batches of 16: 3 steps of Adam at .003, which moves theta by no more each."""
    argv = [*SMALL, "--epochs", "1", "--methods", "neuron:cause", "--mode", "paper"]
    root, _ = run(tmp_path, *argv)
    theta = load_file(root / "country" / "neuron:cause" / f"layer0{LAYER}-seed0.safetensors")["theta"]
    assert 0.005 < theta.abs().max() <= 3 * 0.003 * 1.01


# ---------------------------------------------------------------- what is fitted to training vectors


FITTED = ("pca", "pca:cause", "pca@8", "rlap@8", "bloom@8")


@pytest.mark.parametrize("name", FITTED)
def test_no_other_vector_than_those_of_training_pairs_is_used(toy_world, tmp_path, name):
    """Cities of test and validation pairs get vectors of noise: directions and choice stay, to the bit."""
    found = []
    for is_spoilt in (False, True):
        trainer = trainer_of(tmp_path, "--methods", name)
        (run_,) = trainer.spec.configs
        parts = trainer.spec.pairs["country", 0].parts
        rows = {part: torch.cat([pairs.base, pairs.source]).unique().tolist() for part, pairs in parts.items()}
        others = sorted({*rows["test"], *rows["validation"]})
        assert others and not set(others) & set(rows["train"])
        if is_spoilt:
            x_RD = trainer.cache.residuals[LAYER][:, 0]
            x_RD[others] = 50 * torch.randn(len(others), 64, generator=torch.Generator().manual_seed(1))
        prepared = trainer._prepared(run_)
        if prepared.featurizer:
            found.append(prepared.featurizer.saved()["rotation"])
        if prepared.theta is not None:
            found.append(prepared.engine.widen(prepared.theta) > 0)
    half = len(found) // 2
    assert half
    for one, other in zip(found[:half], found[half:], strict=True):
        assert torch.equal(one, other)


def test_each_target_and_seed_has_directions_of_its_own(toy_world, tmp_path):
    trainer = trainer_of(
        tmp_path, "--methods", "pca", "rlap@8", "--targets", "country", "continent", "--seeds", "0", "1"
    )
    for name in ("pca", "rlap@8"):
        found = [trainer._prepared(r).featurizer.saved()["rotation"] for r in trainer.spec.configs if r.method == name]
        assert len(found) == 4
        apart = [(a - b).abs().max() > 1e-3 for i, a in enumerate(found) for b in found[:i]]
        assert all(apart) if name == "rlap@8" else sum(apart) >= 5


# ---------------------------------------------------------------- what results say


def test_results_say_what_was_trained(toy_world, tmp_path):
    names = ("das:cause", "das@8", "pca@8", "rlap@8", "bloom@8", "random@8")
    root, out = run(tmp_path, *SMALL, "--epochs", "2", "--methods", "none", "full", *names)
    store = Store(root.parent, "toy")
    found = {name: store.read(Run("country", name, LAYER, 0)) for name in names}
    assert {name: len(r["history"]) for name, r in found.items()} == dict.fromkeys(names, 0) | {
        "das:cause": 2,
        "das@8": 2,
    }
    assert {name: r["config"]["temperature"] for name, r in found.items() if r["config"]["lr"]} == {
        "das:cause": [1.0, 0.1],
        "das@8": None,
    }
    assert "temperature" not in found["das@8"]["history"][0]
    assert {name: (r["n_selected"], r["n_features"]) for name, r in found.items() if "@" in name} == {
        **dict.fromkeys(("das@8", "rlap@8", "random@8"), (8, 8)),
        "pca@8": (8, 64),
        "bloom@8": (8, 256),
    }
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("  - random@8") or "  - random@8" in line for line in lines) == 4  # below its controls
    # Random dimensions are a row of their own, and are compared with nothing but what they are the control of.
    assert sum(line.startswith("random@8") for line in lines) == 2


def test_sizes_stand_for_methods_with_an_at(toy_world, tmp_path, capsys):
    argv = [*SMALL, "--methods", "das@:cause", "rlap@", "bloom@4", "--sizes", "16", "2", "16"]
    settings = read_settings([*argv, "--output", str(tmp_path)])
    assert settings.methods == ["das@2:cause", "das@16:cause", "rlap@2", "rlap@16", "bloom@4"]
    line = fails(capsys, tmp_path / "out", *SMALL, "--methods", "rlap@70")
    assert "rlap@70" in line and "64 dimensions" in line


def test_controls_of_sizes_are_random_dimensions(tmp_path):
    settings = read_settings([*SMALL, "--methods", "das@4", "pca@4", "bloom", "--controls", "--output", str(tmp_path)])
    assert settings.methods == [
        *("das@4", "das@4:shuffled", "pca@4", "random@4", "bloom", "bloom:features", "bloom:permuted"),
        *("bloom:random", "bloom:shuffled"),
    ]
