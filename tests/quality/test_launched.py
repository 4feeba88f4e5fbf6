"""SAEs scored by several processes and commands on one folder: each once, as one process scores them."""

import json
import signal
import time
from pathlib import Path

import pytest
from helpers_cli import error_line, finish, require_words
from helpers_forks import fork
from helpers_grid import require_no_leftovers

import eval_sae
from quality import scoring

EVAL = "import sys, eval_sae; sys.exit(eval_sae.main())"
SAES = ("--model", "toy", "--device", "cpu", "--methods", "openai", "bloom", "--layers", "1", "2", "3")
SAES = (*SAES, "--raw-residual")
N_ROWS = 2 * 2 * 3 * 2  # families, with centring and without, layers, attributes


def evaluate(*argv) -> int:
    return eval_sae.main([str(word) for word in argv])


def rows(root: Path) -> list[dict]:
    return json.loads((root / "sae-quality.json").read_text())["rows"]


def without_times(found: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


@pytest.fixture(scope="module")
def undisturbed(toy_world, tmp_path_factory) -> list[dict]:
    """What one process finds."""
    output = tmp_path_factory.mktemp("undisturbed")
    assert evaluate(*SAES, "--output", output) == 0
    return without_times(rows(output / "toy"))


@pytest.mark.parametrize("per", ["layer", "method"])
def test_processes(undisturbed, tmp_path, per, capsys):
    assert evaluate(*SAES, "--workers", "2", "--per", per, "--output", tmp_path) == 0
    out = capsys.readouterr().out
    assert len(undisturbed) == N_ROWS
    assert without_times(rows(tmp_path / "toy")) == undisturbed
    require_no_leftovers(tmp_path / "toy")
    assert evaluate(*SAES, "--output", tmp_path) == 0  # nothing is scored again
    assert capsys.readouterr().out == out


def test_three_commands_at_once(undisturbed, tmp_path):
    """Two of the same SAEs and one of a part of them: each is scored once, none is lost."""
    part = [word for word in SAES if word not in ("openai", "1")]
    commands = [fork(*argv, "--output", tmp_path, code=EVAL) for argv in (SAES, SAES, part)]
    seen: dict[tuple, set] = {}
    while any(command.poll() is None for command in commands):
        if (tmp_path / "toy" / "sae-quality.json").exists():
            for row in rows(tmp_path / "toy"):
                seen.setdefault(tuple(row[k] for k in ("method", "layer", "raw_residual")), set()).add(row["seconds"])
        time.sleep(0.02)
    for command in commands:
        status, _, err = finish(command)
        assert status == 0, err
    assert without_times(rows(tmp_path / "toy")) == undisturbed
    assert all(len(times) == 1 for times in seen.values()), "an SAE was scored twice"
    require_no_leftovers(tmp_path / "toy")


def test_stopped_and_begun_again(undisturbed, tmp_path, monkeypatch, capsys):
    """What is scored is kept, SAE by SAE; --status and --collect tell of it."""
    output = ("--output", tmp_path)
    assert evaluate(*SAES, "--collect", *output) == 2
    require_words(error_line(capsys.readouterr().err), ["none of 12 SAEs is scored", "--status"])
    real = scoring.Scorer._score

    def stop_at_third(self, cell):
        if (tmp_path / "toy" / "sae-quality.json").exists() and len(rows(tmp_path / "toy")) == 4:
            signal.raise_signal(signal.SIGINT)
        return real(self, cell)

    with monkeypatch.context() as patch:
        patch.setattr(scoring.Scorer, "_score", stop_at_third)
        assert evaluate(*SAES, *output) == 130
    assert "what is scored is kept" in capsys.readouterr().err
    assert len(rows(tmp_path / "toy")) == 4
    assert evaluate(*SAES, "--status", *output) == 0
    require_words(capsys.readouterr().out, ["12 cells: 2 done, ", "layer 1  2/4 done", "layer 3  0/4 done; missing"])
    assert evaluate(*SAES, "--collect", *output) == 0
    out, err = capsys.readouterr()
    assert "2 of 12 SAEs are scored; the others are left out" in err
    assert out.count("openai") >= 2
    assert evaluate(*SAES, *output) == 0
    assert without_times(rows(tmp_path / "toy")) == undisturbed
    require_no_leftovers(tmp_path / "toy")


def test_force_scores_again_and_replaces_what_does_not_fit(undisturbed, tmp_path):
    assert evaluate(*SAES, "--output", tmp_path) == 0
    file = tmp_path / "toy" / "sae-quality.json"
    content = json.loads(file.read_text())
    for row in content["rows"]:
        row["city"]["squared_error"] = 1e6
    file.write_text(json.dumps(content))
    assert evaluate(*SAES, "--workers", "2", "--force", "--output", tmp_path) == 0
    assert without_times(rows(tmp_path / "toy")) == undisturbed
    content["config"]["n_cities"] = 3
    file.write_text(json.dumps(content))
    assert evaluate(*SAES, "--force", "--output", tmp_path) == 0
    assert without_times(rows(tmp_path / "toy")) == undisturbed


def test_forced_and_stopped(undisturbed, tmp_path, monkeypatch):
    """What was scored before stays until it is scored again."""
    assert evaluate(*SAES, "--output", tmp_path) == 0
    real, scored = scoring.Scorer._score, []

    def stop_at_third(self, cell):
        scored.append(cell)
        if len(scored) == 3:
            signal.raise_signal(signal.SIGINT)
        return real(self, cell)

    with monkeypatch.context() as patch:
        patch.setattr(scoring.Scorer, "_score", stop_at_third)
        assert evaluate(*SAES, "--force", "--output", tmp_path) == 130
    assert without_times(rows(tmp_path / "toy")) == undisturbed


DAMAGE = {
    "no config": lambda content: content.pop("config"),
    "no rows": lambda content: content.update(rows=3),
    "no method": lambda content: content["rows"][0].pop("method"),
    "a list for a layer": lambda content: content["rows"][1].update(layer=[]),
    "a word for raw": lambda content: content["rows"][1].update(raw_residual="x"),
    "no place": lambda content: content["rows"][2].pop("city"),
    "a word for a metric": lambda content: content["rows"][2]["city"].update(accuracy="x"),
    "a huge metric": lambda content: content["rows"][2]["all"].update(squared_error=10**400),
    "an empty row": lambda content: content["rows"].append({}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_file(undisturbed, tmp_path, capsys, damage):
    """One line, or the row is left out; --force mends it."""
    few = ("--model", "toy", "--device", "cpu", "--methods", "bloom", "--layers", "1", "2", "--output", tmp_path)
    assert evaluate(*few) == 0
    file = tmp_path / "toy" / "sae-quality.json"
    content = json.loads(file.read_text())
    damage(content)
    file.write_text(json.dumps(content))
    capsys.readouterr()
    assert evaluate(*few) == 2
    require_words(error_line(capsys.readouterr().err), [file, "--force"])
    for flags in (["--status"], ["--collect"], ["--collect", "--markdown"]):
        if evaluate(*few, *flags):
            require_words(error_line(capsys.readouterr().err), ["none of 2 SAEs is scored"])
    assert evaluate(*few, "--force") == 0
    assert len(rows(tmp_path / "toy")) == 4


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--launcher", "slum"], ["unknown launcher 'slum' (did you mean slurm?)"]),
        (["--per", "sae"], ["--per", "invalid choice: 'sae'"]),
        (["--check", "--status"], ["--status plays no part in --check"]),
    ],
)
def test_flags_that_make_no_sense(tmp_path, capsys, flags, words):
    assert evaluate(*SAES[:-1], *flags, "--output", tmp_path) == 2
    require_words(error_line(capsys.readouterr().err), words)
