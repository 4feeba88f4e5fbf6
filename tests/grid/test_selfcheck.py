"""The self-check in a grid: before anything is written, once, in every result; alone; and in a bug report."""

import json
import re

import pytest
from helpers_cli import error_line, fails

from common.errors import UserError
from data.facts import read_cities
from data.prompts import build_prompts
from decoder.head import Head
from grid import selfcheck, trainer
from main import main
from models import load_subject
from results.run import Run
from results.store import Store
from verify.check import CHECKS, self_check
from verify.sample import Sample

SMALL = ("--model", "toy", "--layers", "2", "--methods", "neuron", "--targets", "country", "--epochs", "1")
FIGURES = {"logits", "loss", "gradient of theta", "gradient of rotation", "three steps", "joint"}


@pytest.fixture
def counted(monkeypatch) -> list:
    """The samples that were checked."""
    samples, plain = [], selfcheck.self_check
    monkeypatch.setattr(selfcheck, "self_check", lambda sample: (samples.append(sample), plain(sample))[1])
    return samples


def run(output, *more) -> None:
    assert main([*SMALL, *more, "--output", str(output)]) == 0


def test_is_done_once_and_stands_in_every_result(toy_world, tmp_path, counted, capsys):
    run(tmp_path)
    assert "self-check passed at layers 0 2 4; nearest its limit:" in capsys.readouterr().err
    result = Store(tmp_path, "toy").read(Run("country", "neuron", 2, 0))
    assert set(result["verified"]["figures"]) == FIGURES
    assert result["verified"]["layers"] == [0, 2, 4]
    run(tmp_path, "--seeds", "1")
    assert len(counted) == 1
    assert "self-check" not in capsys.readouterr().err
    other = Store(tmp_path, "toy").read(Run("country", "neuron", 2, 1))
    assert other["verified"] == result["verified"]


def test_is_done_anew_for_another_way_to_compute(toy_world, tmp_path, counted, monkeypatch):
    run(tmp_path)
    run(tmp_path, "--seeds", "1", "--precision", "bf16")
    monkeypatch.setattr(selfcheck, "_code_digest", lambda: "of other code")
    run(tmp_path, "--seeds", "2", "--precision", "bf16")
    assert [sample.precision for sample in counted] == ["fp32", "bf16", "bf16"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": {}, "figures": 1}', "truncated"])
def test_file_that_is_damaged_is_made_anew(toy_world, tmp_path, counted, content):
    run(tmp_path)
    path = tmp_path / "toy" / "verified.json"
    path.write_text(path.read_text()[:-40] if content == "truncated" else content)
    run(tmp_path, "--seeds", "1")
    assert len(counted) == 2
    assert set(json.loads(path.read_text())["figures"]) == FIGURES


def test_nothing_is_written_where_it_fails(toy_world, tmp_path, monkeypatch, capsys):
    def refuse(_):
        raise UserError("the self-check failed: for a reason")

    monkeypatch.setattr(selfcheck, "self_check", refuse)
    assert "the self-check failed" in fails(capsys, tmp_path / "out", *SMALL)
    assert "the self-check failed" in fails(capsys, tmp_path / "out", *SMALL, "--verify")


def test_ways_that_were_left_out_are_not_used(toy_world, tmp_path, monkeypatch):
    """As kept from an earlier run, too: each run alone."""
    run(tmp_path)
    path = tmp_path / "toy" / "verified.json"
    content = json.loads(path.read_text())
    content["ways"] |= {"joint": False, "graphed": False}
    path.write_text(json.dumps(content))
    seen, plain = [], trainer.Training

    def training(runs, schedule, *rest):
        seen.append((len(runs), schedule.graphed))
        return plain(runs, schedule, *rest)

    monkeypatch.setattr(trainer, "Training", training)
    run(tmp_path, "--seeds", "1", "2")
    assert seen == [(1, False), (1, False)]


def test_verify_prints_a_table_of_80_columns(toy_world, tmp_path, counted, capsys):
    run(tmp_path)
    capsys.readouterr()
    assert main([*SMALL, "--verify", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert len(counted) == 2  # anew, though it is there
    assert all(len(line) <= 80 for line in out.splitlines())
    rows = dict(re.findall(r"^(\S.*?)\s+(\d\.\de[-+]\d\d) +\de-\d\d", out, re.MULTILINE))
    kept = json.loads((tmp_path / "toy" / "verified.json").read_text())
    assert {what: f"{value:.1e}" for what, value in kept["figures"].items()} == rows
    assert "left out: nothing" in out


def test_doctor_tells_what_a_report_needs(toy_world, tmp_path, capsys):
    argv = ["--model", "toy", "--layers", "2", "--output", str(tmp_path), "--doctor"]
    assert main(argv) == 0
    assert "verified: nothing yet" in capsys.readouterr().out
    run(tmp_path)
    capsys.readouterr()
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    result = Store(tmp_path, "toy").read(Run("country", "neuron", 2, 0))
    for word in (result["config"]["model_digest"], "torch", "device: cpu", "SAE: bloom layer 2: digest", "gradient of"):
        assert word in " ".join(out.split())


def test_doctor_goes_on_where_a_model_cannot_be_read(tmp_path, capsys):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 2}))
    assert main(["--model", str(folder), "--methods", "neuron", "--output", str(tmp_path / "out"), "--doctor"]) == 0
    out, err = capsys.readouterr()
    assert "versions: python" in out and "\nmodel:" in out and "Traceback" not in out + err


def test_nnsight_engine_is_checked_too(toy_world):
    subject = load_subject(str(toy_world))
    prompts = build_prompts(read_cities(toy_world / "cities.csv")[:6], subject.tokenizer, "bare")
    found = self_check(Sample.of(subject, prompts, "nnsight", "fp32"))
    assert set(found.figures) == {what for check in CHECKS for what in check.whats} - {"device", "graph"}


def test_error_is_one_line(toy_world, tmp_path, monkeypatch, capsys):
    """As a fault in the fast path would end: what, where, and what to do."""
    monkeypatch.setattr(Head, "by_slope", staticmethod(lambda weight, _: weight.mul_(1.5)))
    assert main([*SMALL, "--output", str(tmp_path / "out")]) == 2
    line = error_line(capsys.readouterr().err)
    for word in ("not exact for", "on cpu", "gradient of theta", "two forward passes", "--engine nnsight", "--doctor"):
        assert word in line
