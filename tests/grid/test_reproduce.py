"""As the paper's code did it: batches of one kind in mode paper, and SAEs without our corrections."""

import json

import pytest
import torch
from helpers_cli import fails
from safetensors.torch import load_file

from featurizers.methods import METHODS, is_method, method_named, ordered, originals_of
from main import main
from results.run import Run
from results.store import Store

SMALL = ("--model", "toy", "--layers", "2", "--targets", "country", "--epochs", "1", "--max-pairs", "40")


def run(output, *more) -> Store:
    assert main([*SMALL, *more, "--output", str(output)]) == 0
    return Store(output, "toy")


def test_saes_that_we_correct_have_an_original():
    assert [name for name in METHODS if originals_of(name)] == ["apollo-e2e", "apollo-e2e+ds", "bloom"]
    assert method_named("bloom:original").of == "bloom" and is_method("bloom:original")
    assert not is_method("openai:original") and not is_method("neuron:original")
    assert ordered(["bloom:original", "bloom", "neuron"]) == ["neuron", "bloom", "bloom:original"]


def test_original_is_what_raw_residual_gives(toy_world, tmp_path, capsys):
    """Theta to the bit, in a result that says so; the method itself as without it."""
    both = run(tmp_path / "both", "--methods", "bloom", "apollo-e2e", "--reproduce")
    out = capsys.readouterr().out
    assert "  original" in out and "minus that of its controls" in out
    raw = run(tmp_path / "raw", "--methods", "bloom", "apollo-e2e", "--raw-residual")
    plain = run(tmp_path / "plain", "--methods", "bloom", "apollo-e2e")
    for method in ("bloom", "apollo-e2e"):
        runs = [Run("country", name, 2, 0) for name in (f"{method}:original", method)]
        thetas = [load_file(both.tensors_path(run))["theta"] for run in runs]
        assert torch.equal(thetas[0], load_file(raw.tensors_path(runs[1]))["theta"])
        assert torch.equal(thetas[1], load_file(plain.tensors_path(runs[1]))["theta"])
        assert not torch.equal(*thetas)
        assert [both.read(run)["config"]["raw_residual"] for run in runs] == [True, False]


def test_reproduce_and_raw_residual_exclude_each_other(tmp_path, capsys):
    line = fails(capsys, tmp_path / "out", *SMALL, "--methods", "bloom", "--reproduce", "--raw-residual")
    assert "--reproduce runs SAEs both ways" in line


def test_mode_paper_cuts_batches_as_the_original(toy_world, tmp_path):
    """56 pairs of a kind to train on: three batches of 16 each; mixed has seven of both."""
    found = {}
    for name, more in (("paper", ()), ("mixed", ("--batching", "mixed"))):
        store = run(tmp_path / name, "--methods", "neuron", "--mode", "paper", "--max-pairs", "56", *more)
        result = store.read(Run("country", "neuron", 2, 0))
        found[name] = (
            result["config"]["batching"],
            load_file(store.tensors_path(Run("country", "neuron", 2, 0)))["theta"],
        )
    assert (found["paper"][0], found["mixed"][0]) == ("original", "mixed")
    assert not torch.equal(found["paper"][1], found["mixed"][1])
    # After n steps of Adam at lr .003 with gradients of one sign no theta can have moved further than n lr.
    assert found["paper"][1].abs().max() <= 6 * 0.003 * 1.01 < found["mixed"][1].abs().max() * 1.5


def test_too_few_pairs_for_whole_batches_are_told_before_anything_is_written(toy_world, tmp_path, capsys):
    argv = [*SMALL, "--methods", "neuron", "--mode", "paper", "--max-pairs", "12"]
    line = fails(capsys, tmp_path / "out", *argv)
    assert "fewer than 16 cause pairs" in line and "--batching mixed" in line


@pytest.mark.parametrize("mode", ["paper", "strict"])
def test_other_models_are_not_set_beside_the_paper(toy_world, tmp_path, capsys, mode):
    store = run(tmp_path, "--methods", "neuron", "--mode", mode)
    assert "beside the paper's" not in capsys.readouterr().out
    assert "published" not in json.loads((store.root / "estimates.json").read_text())
