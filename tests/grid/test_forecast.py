"""A dry run tells how long a grid takes, from steps of the model at hand; or that there is none."""

import types

import pytest
from helpers_cli import snapshot

from grid import forecast, trainer
from grid.forecast import whole
from main import main

GRID = ("--model", "toy", "--device", "cpu", "--methods", "neuron", "das", "--layers", "2", "5", "--max-pairs", "64")


def forecast_of(capsys, *argv) -> str:
    assert main([*argv, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    return " ".join(out.split())


@pytest.mark.parametrize(("joint", "wanted"), [("12", "2 h 00 min"), ("1", "8 h 00 min")])
def test_time_is_that_of_the_steps(toy_world, tmp_path, monkeypatch, capsys, joint, wanted):
    """Each step takes 90 s by this clock; 2 targets x 2 methods, each 10 epochs of 128 pairs in batches of 16."""
    ticks = iter(range(0, 10**6, 90))
    monkeypatch.setattr(trainer, "time", types.SimpleNamespace(perf_counter=lambda: next(ticks)))
    text = forecast_of(capsys, *GRID, "--joint", joint, "--output", str(tmp_path / "out"))
    assert "4 to do" not in text
    assert f"training: about {wanted} in one process, by 3 steps at layer 2; peak memory " in text
    assert snapshot(tmp_path) == {}


def test_layers_between_are_on_a_straight_line():
    """100 steps at layers 0, 2, 4: 3 s, 2 s, 1 s each; beyond the ends as at the ends."""
    assert whole({0: 100, 2: 100, 4: 100}, {0: 3.0, 4: 1.0}) == pytest.approx(600)
    assert whole({7: 10}, {0: 3.0, 4: 1.0}) == pytest.approx(10)


def test_nothing_to_train(toy_world, tmp_path, capsys):
    argv = ("--model", "toy", "--methods", "none", "--layers", "2", "--output", str(tmp_path))
    assert "there is nothing to train" in forecast_of(capsys, *argv)


def test_model_that_is_not_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(forecast, "is_at_hand", lambda _: False)
    text = forecast_of(capsys, *GRID, "--output", str(tmp_path))
    assert text.endswith("time and memory: not measured, as toy is not on this machine")


def test_work_that_is_done_elsewhere(tmp_path, capsys):
    text = forecast_of(capsys, *GRID, "--launcher", "slurm", "--output", str(tmp_path))
    assert "not measured, as the work is done on other machines" in text
