"""A grid of runs: its files, doing nothing twice, and going on after a kill as if nothing had happened."""

import ast
import gc
import importlib
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers_cli import error_line, finish, require_words, snapshot, start
from helpers_forks import fork
from helpers_grid import pair_files, require_no_leftovers, require_same, results, run

import imports
from featurizers.methods import METHODS
from grid import profiles, trainer
from grid.profiles import TOY_NOTICE
from grid.table import summary, table
from main import main
from results.estimates import Grid
from results.reading import read_result

TOY = ("--model", "toy", "--device", "cpu")
SMALL = (*TOY, "--methods", "none", "neuron", "bloom", "--layers", "2", "5", "--epochs", "1")
LARGER = (*TOY, "--methods", "neuron", "das", "openai", "--layers", "2", "3", "--epochs", "2", "--max-pairs", "64")
TARGETS = ("country", "continent")
SCORES = {"cause", "isolation", "disentangle"}


@pytest.fixture(scope="module")
def small(toy_world, tmp_path_factory) -> tuple[Path, str]:
    """(results, stdout) of a grid of 12 runs; not to be changed."""
    return run(tmp_path_factory.mktemp("small"), *SMALL)


@pytest.fixture(scope="module")
def undisturbed(toy_world, tmp_path_factory) -> Path:
    """The results of the larger grid, made without interruption; not to be changed."""
    return run(tmp_path_factory.mktemp("undisturbed"), *LARGER)[0]


# ---------------------------------------------------------------- the files


def test_exactly_these_files(small):
    root, _ = small
    expected = {"cities.json", "estimates.json", "verified.json"}
    for target in TARGETS:
        expected.add(f"{target}/pairs-strict-cities-seed0.json")
        for method in ("none", "neuron", "bloom"):
            for layer in ("02", "05"):
                expected |= {f"{target}/{method}/layer{layer}-seed0.{kind}" for kind in ("json", "safetensors")}
    assert {str(path.relative_to(root.parent)) for path in root.parent.rglob("*") if path.is_file()} == {
        f"toy/{name}" for name in expected
    }


def test_whoever_may_read_a_result_may_read_its_tensors(small):
    modes = {path.suffix: path.stat().st_mode for path in small[0].glob("*/*/layer*")}
    assert modes[".safetensors"] == modes[".json"]


def test_keys_of_a_result(small):
    found = results(small[0])
    assert len(found) == 12
    for name, result in found.items():
        target, method, file = name.split("/")
        assert [result[key] for key in ("model", "target", "method")] == ["toy", target, method]
        assert f"layer{result['layer']:02d}-seed{result['seed']}" == file
        assert [result[key] for key in ("mode", "split")] == ["strict", "cities"]
        config = result["config"]
        assert [config[key] for key in ("format", "one_token", "dtype")] == [3, False, "float32"]
        assert config["attention"] in ("sdpa", "eager")
        assert result["notice"] == TOY_NOTICE
        assert result["seconds"] >= 0
        assert result["device"] == "cpu"
        assert result["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", result["commit"])
        assert result["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
        assert {"python", "transformers", "nnsight", "safetensors"} <= result["versions"].keys()
        for part in ("train", "validation", "test"):
            for mask in ("soft", "hard"):
                scores = result[part][mask]
                assert scores.keys() >= {*SCORES, "n_cause", "n_isolation"}
                assert all(0 <= scores[key] <= 1 for key in SCORES)
                assert scores["disentangle"] == pytest.approx((scores["cause"] + scores["isolation"]) / 2)
        baselines = result["baselines"]
        assert baselines.keys() == {"none", "full", "reconstruction"}
        assert baselines["none"].keys() == baselines["full"].keys() == SCORES
        if method == "bloom":
            assert baselines["reconstruction"].keys() == SCORES
        else:
            assert baselines["reconstruction"] is None


def test_config_tells_what_decides_the_result(small):
    """A setting that plays no part in a method is null there, so that changing it redoes nothing in vain."""
    found = results(small[0])
    trained, fixed = found["country/bloom/layer02-seed0"]["config"], found["country/none/layer02-seed0"]["config"]
    keys = ("epochs", "batch_size", "lr", "temperature", "precision")
    assert [trained[key] for key in keys] == [1, 16, 0.003, [1.0, 0.1], "fp32"]
    assert [fixed[key] for key in keys] == [None] * 5
    assert trained["sae_digest"]
    assert found["country/neuron/layer02-seed0"]["config"]["sae_digest"] is None
    assert [trained[key] for key in ("mode", "split", "prompt", "max_pairs", "engine", "seed", "layer")] == [
        *("strict", "cities", "bare", 320, "fast"),
        *(0, 2),
    ]


def test_history(small):
    for name, result in results(small[0]).items():
        if result["method"] == "none" or result["layer"] == 5:
            assert result["history"] == [], name
        else:
            (row,) = result["history"]
            assert row.keys() == {"epoch", "loss", "accuracy", "temperature"}
            assert row["epoch"] == 1
            assert row["loss"] > 0
            assert 0 <= row["accuracy"] <= 1
            assert row["temperature"] == pytest.approx(0.1)  # the last step's


def test_tensors(small):
    """theta has full width, also of an SAE of which only some latents ever fire."""
    for name, result in results(small[0]).items():
        theta = result["tensors"]["theta"]
        outcomes = ["full", "hard", "none", *["reconstruction"] * (result["method"] == "bloom"), "soft"]
        answers = [f"answer_{name}" for name in ("hard", "none", "soft")]
        assert sorted(result["tensors"]) == [*answers, *(f"outcome_{name}" for name in outcomes), "theta"], name
        assert {str(token) for key in answers for token in result["tensors"][key].tolist()} == result["words"].keys()
        assert theta.dtype == torch.float32
        assert theta.shape == (256 if result["method"] == "bloom" else 64,)
        assert result["n_features"] == len(theta)
        assert result["n_selected"] == int((theta > 0).sum())
    theta = results(small[0])["country/bloom/layer02-seed0"]["tensors"]["theta"]
    assert 0 < int((theta == 0).sum()) < 256, "some latents never fire, and some do"


def test_rotation(undisturbed):
    found = results(undisturbed)
    turned = {name: result["tensors"]["rotation"] for name, result in found.items() if "rotation" in result["tensors"]}
    assert set(turned) == {name for name in found if "/das/" in name}
    assert len(turned) == 4
    for rotation in turned.values():
        assert rotation.shape == (64, 64)
        assert rotation.dtype == torch.float32
        assert torch.allclose(rotation.double().T @ rotation.double(), torch.eye(64).double(), atol=1e-6)


def test_pair_files(small, toy_world):
    root, _ = small
    known = set(json.loads((root / "cities.json").read_text())["names"])
    facts = {}
    for line in (toy_world / "cities.csv").read_text().splitlines()[1:]:
        city, country, continent = line.split(",")
        facts[city] = {"country": country, "continent": continent}
    assert known <= facts.keys()
    for target, other in (TARGETS, TARGETS[::-1]):
        pairs = json.loads((root / target / "pairs-strict-cities-seed0.json").read_text())
        assert pairs.keys() == {"train", "validation", "test", "facts"}
        taking_part = pairs.pop("facts")
        assert taking_part == {city: facts[city] for city in taking_part}
        cities = {part: {city for row in rows for city in row[:2]} for part, rows in pairs.items()}
        assert cities["train"] | cities["validation"] | cities["test"] <= known
        assert set(taking_part) == cities["train"] | cities["validation"] | cities["test"]
        assert not cities["train"] & (cities["validation"] | cities["test"])
        assert not cities["validation"] & cities["test"]
        for part, rows in pairs.items():
            assert len({tuple(row) for row in rows}) == len(rows) > 0
            for base, source, kind in rows:
                asked = {"cause": target, "isolation": other}[kind]
                assert facts[base][asked] != facts[source][asked]
            for result in results(root).values():
                if result["target"] == target:
                    assert result["pairs"] == "pairs-strict-cities-seed0.json"
                    for kind in ("cause", "isolation"):
                        count = sum(row[2] == kind for row in rows)
                        assert {result[part][mask][f"n_{kind}"] for mask in ("soft", "hard")} == {count}


def test_last_block_equals_doing_nothing(toy_world, tmp_path):
    """Nothing moves information between positions after it, so no method is trained there."""
    root, _ = run(tmp_path, *TOY, "--methods", "all", "--layers", "5", "--epochs", "1", "--max-pairs", "64")
    found = results(root)
    assert {result["method"] for result in found.values()} == set(METHODS)
    for name, result in found.items():
        assert result["history"] == []
        baseline = result["baselines"]["none"]
        assert (baseline["cause"], baseline["isolation"]) == (0, 1)
        assert result["baselines"]["full"] == baseline
        for part in ("train", "validation", "test"):
            for mask in ("soft", "hard"):
                assert {key: result[part][mask][key] for key in SCORES} == baseline, f"{name}: {part}, {mask}"
        untouched = {"full": torch.inf, "none": -torch.inf}.get(result["method"], 0)
        assert (result["tensors"]["theta"] == untouched).all(), name


# ---------------------------------------------------------------- running again


def no_training(*_, **__):
    raise AssertionError("a finished run is trained again")


def count_trainings(monkeypatch) -> list:
    """A list to which every run is added of which a training step is taken from now on."""
    trained = []
    real = trainer.Training

    def training(jobs, *args):
        made = real(jobs, *args)
        take = made.take_steps

        def take_steps(*more):
            trained.extend(job for job, n in zip(jobs, made.batches.n_steps, strict=True) if made.done < n)
            return take(*more)

        made.take_steps = take_steps
        return made

    monkeypatch.setattr(trainer, "Training", training)
    return trained


def test_running_again_changes_nothing(small, tmp_path, monkeypatch):
    """No training, no file that is written anew, and the same table."""
    root, out = small
    shutil.copytree(root.parent, tmp_path / "out")
    before = snapshot(tmp_path)
    assert len(before) == 29
    monkeypatch.setattr(trainer, "Training", no_training)
    _, again = run(tmp_path, *SMALL)
    after = snapshot(tmp_path)
    assert {name: content for name, (_, content) in after.items()} == {n: content for n, (_, content) in before.items()}
    assert [name for name in after if after[name] != before[name]] == [], "written anew"
    assert again == out


def test_a_larger_grid_does_only_what_is_new(small, tmp_path, monkeypatch):
    root, _ = small
    shutil.copytree(root.parent, tmp_path / "out")
    before = snapshot(root)
    trained = count_trainings(monkeypatch)
    argv = [word if word != "none" else "openai" for word in SMALL]
    again, _ = run(tmp_path, *argv)
    assert len(trained) == 2  # openai of two targets at layer 2; layer 5 is the last block
    after = snapshot(again)
    finished = [name for name in before if "/layer" in name]
    assert len(finished) == 24
    assert [name for name in finished if after[name] != before[name]] == []
    assert len(after) == len(before) + 8


def test_force_does_everything_anew_and_the_same(small, tmp_path):
    root, _ = small
    shutil.copytree(root.parent, tmp_path / "out")
    for path in (tmp_path / "out").rglob("layer*.json"):  # a run may take as long as before, to the millisecond
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": -1.0}))
    before = snapshot(tmp_path / "out" / "toy")
    argv = [word for word in SMALL if word not in ("bloom", "5")]
    again, _ = run(tmp_path, *argv, "--targets", "country", "--force")
    after = snapshot(again)
    changed = {name for name in after if after[name][0] != before[name][0]}
    redone = {f"country/{m}/layer02-seed0.{kind}" for m in ("none", "neuron") for kind in ("json", "safetensors")}
    assert {name for name in changed if "/layer" in name} == redone
    require_same(results(again), results(root))


def test_a_result_is_the_same_alone_and_in_a_grid(undisturbed, tmp_path):
    """A run depends on no other: not on the methods, layers and targets before it."""
    das = [word for word in LARGER if word not in ("neuron", "openai", "3")]
    alone, _ = run(tmp_path, *das, "--targets", "continent")
    name = "continent/das/layer02-seed0"
    assert list(results(alone)) == [name]
    require_same(results(alone), {name: results(undisturbed)[name]})


# ---------------------------------------------------------------- interruptions


def wait_for_results(process: subprocess.Popen, root: Path, count: int) -> None:
    """Until so many results are there."""
    while len(list(root.glob("*/*/layer*.json"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def require_resumed(folder: Path, undisturbed: Path, monkeypatch) -> None:
    """The same command goes on with what a killed process left, and ends where an undisturbed one does."""
    root = folder / "out" / "toy"
    stems = [path.with_suffix("") for path in root.glob("*/*/layer*.json")]
    finished = {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for stem in stems
        for path in (stem.with_suffix(".json"), stem.with_suffix(".safetensors"))
    }
    trained = count_trainings(monkeypatch)
    run(folder, *LARGER)
    after = snapshot(root)
    assert [name for name in finished if after[name] != finished[name]] == []
    assert len(trained) <= 12 - len(stems)  # fewer if it had begun to save a group, whose training is kept
    require_same(results(root), results(undisturbed))
    assert pair_files(root) == pair_files(undisturbed)
    assert (root / "cities.json").read_bytes() == (undisturbed / "cities.json").read_bytes()
    require_no_leftovers(root)
    assert after.keys() == snapshot(undisturbed).keys()


@pytest.mark.parametrize("when", ["after the first result", "at a random moment"])
def test_killed(undisturbed, tmp_path, monkeypatch, when):
    process = fork(*LARGER, "--output", tmp_path / "out")
    rng = random.Random(7)
    is_random = when == "at a random moment"
    try:
        wait_for_results(process, tmp_path / "out" / "toy", rng.randint(2, 6) if is_random else 1)
        if is_random:
            time.sleep(rng.uniform(0, 0.05))
    finally:
        process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it had come to its end before the kill"
    require_resumed(tmp_path, undisturbed, monkeypatch)


KILL_ITSELF = """
import os, signal, sys
import main

renamed = []
rename = os.replace

def replace(source, target):
    if str(target).endswith("layer02-seed0.json"):
        renamed.append(target)
        if len(renamed) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)

os.replace = replace
sys.exit(main.main(sys.argv[1:]))
"""


def test_killed_between_the_two_files_of_a_result(undisturbed, tmp_path, monkeypatch):
    """Its tensors are in place and its json is still under a temporary name: it is not done."""
    status, _, err = finish(fork(*LARGER, "--output", tmp_path / "out", code=KILL_ITSELF))
    assert status == -signal.SIGKILL, err
    root = tmp_path / "out" / "toy"
    assert {str(path.relative_to(root)) for path in root.glob("*/*/layer*")} == {
        *("country/neuron/layer02-seed0.safetensors", "country/neuron/layer02-seed0.json"),
        "country/das/layer02-seed0.safetensors",
    }
    assert [path.parent.name for path in root.rglob(".*.tmp")] == ["das"]
    require_resumed(tmp_path, undisturbed, monkeypatch)


def test_ctrl_c(undisturbed, tmp_path):
    """Exit code 130 and one line; what was finished is there and whole, and nothing half-done is."""
    root = tmp_path / "out" / "toy"
    process = fork(*LARGER, "--output", tmp_path / "out")
    try:
        wait_for_results(process, root, 1)
        process.send_signal(signal.SIGINT)
        status, out, err = finish(process)
    finally:
        process.kill()
    assert status == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert re.split(r"[\r\n]+", err.strip())[-1] == (
        "interrupted: what is done is kept, and so is the training; run the same command again to go on"
    )
    require_no_leftovers(root)
    found = results(root)
    assert 1 <= len(found) < 12
    require_same(found, {name: result for name, result in results(undisturbed).items() if name in found})


# ---------------------------------------------------------------- what is printed


def require_narrow(text: str) -> None:
    assert text
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_no_line_is_wider_than_80_columns(small):
    require_narrow(small[1])
    assert len(small[1].splitlines()) > 30


def test_the_table_of_the_whole_paper_is_no_wider_than_80_columns(small):
    """12 layers, all methods, SAEs of 46,080 latents that are all selected, and three seeds."""
    found = {path: read_result(path, small[0]) for path in small[0].glob("*/*/layer02-seed0.json")}
    rows = [
        found[small[0] / target / ("bloom" if METHODS[method].release else "neuron") / "layer02-seed0.json"]
        | {"target": target, "method": method, "layer": layer, "seed": seed, "model": "openai-community/gpt2"}
        | {"n_features": 46080, "n_selected": 46080, "l0": 46080.0}
        for target in TARGETS
        for method in METHODS
        for layer in range(12)
        for seed in range(3)
    ]
    grid = Grid(rows)
    for text in (table(grid, "hard", "neuron"), summary(grid)):
        require_narrow(text)
        assert all(method in text for method in METHODS)


def plan_of(capsys, *argv) -> str:
    assert main(["--model", "toy", "--plan", *argv]) == 0
    out = capsys.readouterr().out
    require_narrow(out)
    return " ".join(out.split())


def test_plan_counts_the_comparisons_that_the_table_will_make(toy_world, tmp_path, monkeypatch, capsys):
    """2 targets x 2 layers x (das, bloom minus neuron); controls: 2, 3 and 4 of neuron, das, bloom. At layer 5 none."""
    monkeypatch.chdir(tmp_path)
    methods = ("--methods", "neuron", "das", "bloom")
    text = plan_of(capsys, *methods, "--controls", "--layers", "1", "2", "5", "--seeds", "0", "1", "2")
    assert text.count("as one of 8 comparisons with neuron") == 2
    assert text.count("as one of 36 comparisons with controls") == 2
    assert "three seeds speak for others, but barely" in text
    assert re.search(r"country: 640 test pairs a seed, 3 seeds, \d+ cities of \d+ countries", text)
    one, more = (float(x) for x in re.search(r"of (0\.\d+) in one comparison, (0\.\d+) as one of 8", text).groups())
    assert 0 < one < more < 1
    assert "no method here will be compared" in plan_of(capsys, "--methods", "neuron", "--cluster", "city")
    assert list(tmp_path.iterdir()) == []


def no_network(*_, **__):
    raise AssertionError("a dry run asked the network")


def test_dry_run_of_the_default_model(tmp_path, monkeypatch, capsys):
    """It needs no network and writes nothing."""
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.chdir(tmp_path)
    assert main(["--dry-run", "--output", "out", "--saes", "none"]) == 0
    out = capsys.readouterr().out
    require_narrow(out)
    # 2 targets x (12 layers x (none, full, neuron, das, openai, bloom) + 3 layers x 2 of Apollo's)
    assert "156 runs, 0 done, 156 to do" in out
    assert "apollo-e2e+ds  layers 1 5 9 " in out
    assert list(tmp_path.iterdir()) == []


def test_dry_run_counts_what_is_done(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(shutil.copytree(small[0].parent, tmp_path / "out").parent)
    before = snapshot(tmp_path)
    assert main([*SMALL, "--seeds", "0", "1", "--dry-run", "--output", "out"]) == 0
    out = capsys.readouterr().out
    require_narrow(out)
    assert "24 runs, 12 done, 12 to do" in out
    assert snapshot(tmp_path) == before


def test_dry_run_of_the_toy_world_does_not_build_it(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "SAVED", tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "--dry-run", "--output", "out"]) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def wandb_offline(tmp_path, monkeypatch):
    """Commands that are started log without an account or a network, and keep nothing in the user's folders."""
    for kind in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path / "own" / kind.lower()))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)


def test_wandb_offline(toy_world, tmp_path, wandb_offline):
    """Its files lie beside the results and nothing is sent."""
    argv = [*TOY, "--targets", "country", "--methods", "none", "--layers", "2", "--epochs", "1", "--wandb"]
    status, out, err = finish(fork(*argv, "--output", tmp_path / "out"))
    assert status == 0, err
    (log,) = (tmp_path / "out" / "wandb").glob("offline-run-*")
    assert [path.stat().st_size > 0 for path in log.glob("*.wandb")] == [True]
    assert list(results(tmp_path / "out" / "toy")) == ["country/none/layer02-seed0"]
    assert "results: " in out


def test_wandb_logs_what_was_done_before_without_it(toy_world, tmp_path, wandb_offline):
    argv = [*TOY, "--targets", "country", "--methods", "none", "full", "--layers", "2", "--epochs", "1"]
    assert main([*argv, "--output", str(tmp_path / "out")]) == 0
    status, _, err = finish(fork(*argv, "--wandb", "--output", tmp_path / "out"))
    assert status == 0, err
    assert "2 done before, 0 to do" in err
    assert len(list((tmp_path / "out" / "wandb").glob("offline-run-*"))) == 2


# ---------------------------------------------------------------- libraries


def python(code: str, *argv) -> tuple[int, str, str]:
    return finish(start(*argv, code=code))


def test_help_loads_no_library():
    """So that it answers at once."""
    code = """
import sys
import main
try:
    main.main(sys.argv[1:])
finally:
    heavy = {"torch", "numpy", "transformers", "nnsight", "safetensors", "tqdm", "wandb", "huggingface_hub"}
    print("loaded:", sorted(heavy & set(sys.modules)))
"""
    status, out, err = python(code, "--help")
    assert (status, err) == (0, "")
    assert out.startswith("usage: ")
    assert out.endswith("loaded: []\n")
    for flag in ("--model", "--targets", "--methods", "--layers", "--seeds", "--mode", "--split", "--epochs"):
        assert f"  {flag} " in out
    require_narrow(out)


def test_a_missing_library_is_an_error_of_one_line(tmp_path):
    code = "import sys; sys.modules['torch'] = None; import main; sys.exit(main.main(sys.argv[1:]))"
    status, out, err = python(code, "--model", "toy", "--output", tmp_path / "out")
    assert (status, out) == (2, "")
    require_words(error_line(err), ["library torch", "not installed", "./setup.sh", "pip install torch"])
    assert not (tmp_path / "out").exists()


def test_wandb_is_missing(toy_world, tmp_path, monkeypatch, capsys):
    """This is seen before a run has been trained for it."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    argv = [*TOY, "--targets", "country", "--methods", "none", "--layers", "2", "--wandb"]
    assert main([*argv, "--output", str(tmp_path / "out")]) == 2
    require_words(error_line(capsys.readouterr().err), ["library wandb", "./setup.sh"])
    assert not (tmp_path / "out").exists()


def test_the_package_of_a_missing_library(monkeypatch):
    """Its name may be another than the library's own, and only the outermost part of that counts."""
    monkeypatch.setitem(imports.MODULES, "short", "no_such_library.of_this.name")
    with pytest.raises(imports.MissingLibrary, match=r"library no_such_library is not installed.*\./setup\.sh"):
        from imports import short  # noqa: F401
    monkeypatch.setitem(imports.LIBRARIES, "no_such_library", "no-such-package")
    with pytest.raises(imports.MissingLibrary, match=r"pip install no-such-package"):
        _ = imports.no_such_library
    with pytest.raises(imports.MissingLibrary, match=r"pip install no-such-package"):
        imports.require("no_such_library")


def test_no_garbage_is_looked_for_while_a_library_is_imported(tmp_path, monkeypatch):
    (tmp_path / "library_that_looks.py").write_text("import gc\nlooks = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert imports.load("library_that_looks").looks is False
    assert gc.isenabled()


def test_a_library_that_lacks_another_keeps_its_traceback(tmp_path, monkeypatch):
    """That is no matter of installing it, and the user must see which one is missing."""
    (tmp_path / "library_that_needs_another.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(imports.LIBRARIES, "library_that_needs_another", "library-that-needs-another")
    with pytest.raises(ModuleNotFoundError, match="no_such_library") as found:
        _ = imports.library_that_needs_another
    assert not isinstance(found.value, imports.MissingLibrary)


def test_a_name_that_is_no_library_is_a_bug():
    with pytest.raises(ImportError, match="cannot import name 'no_such_library'") as found:
        from imports import no_such_library  # noqa: F401
    assert not isinstance(found.value, imports.MissingLibrary)


def test_every_library_that_editors_see_can_be_imported_by_its_name():
    """The block for editors and type checkers says what `imports.__getattr__` does."""
    [block] = [node for node in ast.parse(Path(imports.__file__).read_text()).body if isinstance(node, ast.If)]
    aliases = [alias for node in block.body for alias in node.names]
    seen = {alias.asname or alias.name: alias.name for alias in aliases}
    made = {name: imports.MODULES.get(name, name) for name in {*imports.MODULES, *imports.LIBRARIES} - {"numpy"}}
    assert seen == made
    for name in seen:
        assert getattr(imports, name) is importlib.import_module(made[name])
