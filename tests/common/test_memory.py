"""Memory that runs out: half as much at once from then on, the same results, and one line where nothing helps."""

import pytest
import torch
from helpers_cli import fails

from common.errors import UserError
from common.memory import AtOnce
from main import main
from masks.engines import FastEngine
from results.run import Run
from results.store import Store

TOY = ("--model", "toy", "--layers", "2", "--methods", "none", "neuron", "bloom", "--epochs", "1", "--max-pairs", "128")
TOY = (*TOY, "--seeds", "0", "1")


def out_of(kind: str) -> Exception:
    if kind == "device":
        return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried")


@pytest.mark.parametrize("kind", ["device", "processor"])
def test_halves_until_it_fits_and_stays_there(kind, capsys):
    asked = []

    def work(n: int) -> str:
        asked.append(n)
        if n > 3:
            raise out_of(kind)
        return "done"

    rows = AtOnce(10, "test pairs")
    assert rows(work) == rows(work) == "done"
    assert asked == [10, 5, 3, 3]
    assert capsys.readouterr().err.splitlines() == [
        "note: out of memory; from now on 5 test pairs at a time",
        "note: out of memory; from now on 3 test pairs at a time",
    ]


def test_one_at_a_time_that_does_not_fit_is_the_users_error():
    def work(n: int) -> None:
        raise out_of("device")

    with pytest.raises(UserError, match="out of memory even with prompts one at a time"):
        AtOnce(4, "prompts")(work)


def test_other_errors_are_not_taken_for_it():
    asked = []

    def work(n: int) -> None:
        asked.append(n)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        AtOnce(4, "prompts")(work)
    assert asked == [4]


def limit_rows(monkeypatch, most: int) -> list[int]:
    """Let the model take so many rows in training and testing, and no more; returns those that it was given."""
    given, plain = [], FastEngine.batched_loss

    def limited(engines, base_JB, *rest):
        given.append(base_JB.numel())
        if base_JB.numel() > most:
            raise out_of("device")
        return plain(engines, base_JB, *rest)

    monkeypatch.setattr(FastEngine, "batched_loss", staticmethod(limited))
    return given


def test_grid_goes_on_with_fewer_runs_and_pairs_at_once(toy_world, tmp_path, monkeypatch, capsys):
    """Eight runs of 16 rows do not fit, four do; nor do 256 test pairs, 64 do.  Scores are those of four."""
    assert main([*TOY, "--joint", "4", "--output", str(tmp_path / "four")]) == 0
    given = limit_rows(monkeypatch, 64)
    capsys.readouterr()
    assert main([*TOY, "--joint", "8", "--output", str(tmp_path / "eight")]) == 0
    err = capsys.readouterr().err
    assert "note: out of memory; from now on 4 runs at a time" in err
    assert "note: out of memory; from now on 64 test pairs at a time" in err
    assert max(given) == 256 and given.count(128) == 2  # eight runs and half of 256 pairs: tried once each
    for method in ("none", "neuron", "bloom"):
        for seed in (0, 1):
            run = Run("country", method, 2, seed)
            results = [Store(tmp_path / name, "toy").read(run) for name in ("four", "eight")]
            assert results[0]["test"] == results[1]["test"]


def test_grid_that_fits_nowhere_ends_in_one_line(toy_world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("grid.experiment.verified", lambda *_: None)
    limit_rows(monkeypatch, 0)
    line = fails_with_files(capsys, tmp_path / "out")
    assert "out of memory even with test pairs one at a time" in line


def fails_with_files(capsys, output) -> str:
    capsys.readouterr()
    assert main([*TOY, "--output", str(output)]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_memory_that_runs_out_elsewhere_is_one_line(toy_world, tmp_path, monkeypatch, capsys):
    def load(*_):
        raise out_of("device")

    monkeypatch.setattr("grid.inputs.load_subject", load)
    assert "the device is out of memory" in fails(capsys, tmp_path / "out", *TOY)
