"""Several processes and commands on one folder of results: each cell is done once, and no stop or kill shows."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers_cli import error_line, fails, finish, require_words
from helpers_forks import fork
from helpers_grid import pair_files, require_no_leftovers, require_same, results, run
from safetensors.torch import save_file

import imports
from common.leases import look
from common.processes import machine
from grid import checkpoints
from grid.launchers import here
from grid.trainer import Trainer
from main import main
from masks.training import Training

LONG = ("--model", "toy", "--device", "cpu", "--methods", "neuron", "das", "--layers", "1", "2", "3", "--joint", "2")
LONG = (*LONG, "--epochs", "4", "--max-pairs", "64")
N_CELLS = 12
# As main.py, but its leases tell often how far it is.
TALKATIVE = """
import sys
import common.leases, main

if __name__ == "__main__":
    common.leases.EVERY = 0.02
    if "processes" in sys.argv:
        import grid.launchers.processes
        grid.launchers.processes.EVERY = 0.02
    sys.exit(main.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def undisturbed(toy_world, tmp_path_factory) -> Path:
    """The results of one process that nothing stopped."""
    return run(tmp_path_factory.mktemp("undisturbed"), *LONG)[0]


def lease_of(root: Path, layer: int):
    found = look(root / "tasks" / f"layer{layer:02d}.lease")
    return found.owner if found else None


def wait_until(is_so, process: subprocess.Popen, patience: float = 280) -> None:
    """Raises AssertionError if the process ends before."""
    end = time.monotonic() + patience
    while not is_so():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def is_training(root: Path) -> bool:
    """Whether some layer has taken steps and is not done."""
    return any((owner := lease_of(root, layer)) and owner.progress.get("steps") for layer in (1, 2, 3))


def descendants_of(pid: int) -> list[int]:
    """Children, then theirs: multiprocessing's own, of which one forks the workers, and the workers."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(FileNotFoundError):  # it ended meanwhile
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return found[1:]


def are_gone(pids: list[int], patience: float) -> bool:
    end = time.monotonic() + patience
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def go_on(folder: Path, undisturbed: Path) -> None:
    """The same command, once more, ends where an undisturbed one does, and leaves nothing else behind."""
    root, _ = run(folder, *LONG)
    require_same(results(root), results(undisturbed))
    require_no_leftovers(root)


# ---------------------------------------------------------------- stopped


@pytest.fixture(scope="module")
def stopped(undisturbed, tmp_path_factory) -> Path:
    """The folder of a command that SIGTERM stopped while it trained; not to be changed."""
    folder = tmp_path_factory.mktemp("stopped")
    process = fork(*LONG, "--output", folder / "out", code=TALKATIVE)
    try:
        wait_until(lambda: is_training(folder / "out" / "toy"), process)
        process.terminate()
        status, out, err = finish(process)
    finally:
        process.kill()
    assert (status, out) == (143, "")
    assert "run the same command again" in err.splitlines()[-1]
    return folder


def test_training_goes_on_where_it_was_stopped(undisturbed, stopped, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(stopped, tmp_path / "copy"))
    (path,) = (folder / "out" / "toy" / "tasks").iterdir()  # the lease is gone, the training is there
    saved = checkpoints.read(path)
    assert int(saved.tensors["done"]) > 0
    taken_up = []
    real = Training.take_up

    def take_up(training, state):
        real(training, state)
        taken_up.append(training.done)

    monkeypatch.setattr(Training, "take_up", take_up)
    go_on(folder, undisturbed)
    assert taken_up == [int(saved.tensors["done"])]


def test_stop_is_told_by_status_and_when_it_goes_on(stopped, tmp_path, capsys):
    folder = Path(shutil.copytree(stopped, tmp_path / "copy"))
    assert main([*LONG, "--status", "--output", str(folder / "out")]) == 0
    assert "missing; it was stopped, and its training is kept" in " ".join(capsys.readouterr().out.split())
    run(folder, *LONG)
    assert re.search(r"layer \d goes on where it was stopped: [\d,]+ steps are taken", capsys.readouterr().err)


def test_killed_while_a_group_is_saved_one_by_one(undisturbed, tmp_path, monkeypatch, capsys):
    """The rest of the group is saved from the training that is kept: no step of it is taken again."""
    real, steps = Trainer._finish, []

    def kill_at_second(self, run, prepared, trained):
        if trained is not None and list(self.spec.store.root.glob("*/*/layer01-seed0.json")):
            raise RuntimeError("killed")
        real(self, run, prepared, trained)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(Trainer, "_finish", kill_at_second)
        run(tmp_path, *LONG)
    root = tmp_path / "out" / "toy"
    assert len(results(root)) == 1
    take = Training._take
    monkeypatch.setattr(Training, "_take", lambda self, *more: steps.append(self.done) or take(self, *more))
    capsys.readouterr()
    go_on(tmp_path, undisturbed)
    err = capsys.readouterr().err
    assert "layer 1 goes on where it was stopped" in err
    assert "begun anew" not in err
    assert len(steps) == 5  # of six groups of two runs


def test_unfinished_training_of_other_settings_is_begun_anew(stopped, tmp_path, capsys):
    folder = Path(shutil.copytree(stopped, tmp_path / "copy"))
    (path,) = (folder / "out" / "toy" / "tasks").iterdir()
    layer = str(int(path.stem.removeprefix("layer")))
    for result in folder.glob("out/toy/*/*/layer*"):
        result.unlink()
    argv = ["1" if word == "4" else word for word in LONG if word not in {"1", "2", "3"} - {layer}]
    argv.remove("--joint") if "--joint" in argv else None
    run(folder, *argv)
    (note,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: the unfinished")]
    require_words(note, [path.name, "begun anew", "other settings"])
    assert not path.exists()


def test_what_a_dead_machine_left(undisturbed, tmp_path, capsys):
    """A lease, a damaged training and an empty one."""
    tasks = tmp_path / "out" / "toy" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "layer02.lease").write_text(json.dumps({"machine": "node7-a", "pid": 1, "started": "1", "since": 1e9}))
    os.utime(tasks / "layer02.lease", (1e9, 1e9))
    for layer, content in ((1, b"no safetensors"), (2, b"")):
        (tasks / f"layer0{layer}.safetensors").write_bytes(content)
    go_on(tmp_path, undisturbed)
    assert capsys.readouterr().err.count("begun anew: it cannot be read") == 2


def test_what_a_process_left_that_was_killed_at_its_very_end(undisturbed, tmp_path):
    """All is done: its lease and its last training are of no use to anybody."""
    root = Path(shutil.copytree(undisturbed.parent, tmp_path / "out")) / "toy"
    names = [str(path.relative_to(root).with_suffix("")) for path in root.glob("*/*/layer02*.json")]
    (root / "tasks").mkdir()
    owner = {"machine": machine(), "pid": 1, "started": "1", "since": 1e9}
    (root / "tasks" / "layer02.lease").write_text(json.dumps(owner))
    about = {"about": json.dumps({"digest": "", "runs": names})}
    save_file({"done": torch.tensor(1)}, root / "tasks" / "layer02.safetensors", about)
    go_on(tmp_path, undisturbed)
    assert not (root / "tasks").exists()


def kill_at_random(folder: Path, rng: random.Random, *more) -> int:
    """Start the command and kill it once within its work; how many cells were done by then."""
    root = folder / "out" / "toy"
    process = fork(*LONG, *more, "--output", folder / "out", code=TALKATIVE)
    try:
        wait_until(lambda: process.poll() is not None or (root / "tasks").exists(), process)
        time.sleep(rng.uniform(0, 3))
        process.send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        finish(process)
    finally:
        process.kill()
    return len(list(root.glob("*/*/layer*.json")))


def test_killed_at_random(undisturbed, tmp_path):
    """A few; benchmarks/kills.py does 60."""
    rng = random.Random(3)
    for _ in range(2):
        if kill_at_random(tmp_path, rng) == N_CELLS:
            break
    go_on(tmp_path, undisturbed)


# ---------------------------------------------------------------- several commands on one folder


def test_three_commands_at_once(undisturbed, tmp_path):
    """Two of the same grid and one of a part of it: each cell is done once, and all three print their table."""
    root = tmp_path / "out" / "toy"
    part = [word for word in LONG if word not in ("neuron", "1")]
    commands = [fork(*argv, "--output", tmp_path / "out") for argv in (LONG, LONG, part)]
    inodes: dict[str, set] = {}
    try:
        while any(command.poll() is None for command in commands):
            for path in root.glob("*/*/layer*.json"):
                inodes.setdefault(path.name + path.parent.name + path.parent.parent.name, set()).add(path.stat().st_ino)
            time.sleep(0.02)
        ends = [finish(command) for command in commands]
    finally:
        for command in commands:
            command.kill()
    for status, out, err in ends:
        assert status == 0, err
        assert "disentangle, hard mask, test pairs" in out
    assert len(inodes) == N_CELLS
    assert {len(seen) for seen in inodes.values()} == {1}, "a cell was done twice"
    require_same(results(root), results(undisturbed))
    require_no_leftovers(root)


def test_result_that_another_command_made_meanwhile_with_other_settings(toy_world, tmp_path, capsys, monkeypatch):
    """It is told, and no table mixes the two."""
    argv = ["--model", "toy", "--methods", "none", "--targets", "country", "--layers", "2", "--max-pairs", "32"]
    other, _ = run(tmp_path / "other", *argv)

    def do_shares(spec, worker, progress):
        for path in other.glob("country/none/*"):
            shutil.copy(path, spec.store.root / "country")
        (spec.store.root / "country" / "none").mkdir()
        for path in (spec.store.root / "country").glob("layer*"):
            path.rename(path.parent / "none" / path.name)

    monkeypatch.setattr(here, "do_shares", do_shares)
    monkeypatch.chdir(tmp_path)
    assert main([*argv[:-1], "40", "--output", "out"]) == 2
    require_words(error_line(capsys.readouterr().err), ["layer02-seed0.json"])


# ---------------------------------------------------------------- processes

PROC = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="finds processes through /proc")


def start_processes(folder: Path, *more: str) -> tuple[subprocess.Popen, list[int]]:
    """The command with two processes, once one of them trains: (it, all its descendants)."""
    process = fork(*LONG, *more, "--launcher", "processes", "2", "--output", folder / "out", code=TALKATIVE)
    wait_until(lambda: is_training(folder / "out" / "toy"), process)
    found = descendants_of(process.pid)
    assert len(found) == 4  # multiprocessing's own two, and the workers
    return process, found


def test_processes_do_what_one_does(undisturbed, tmp_path, capsys):
    """More of them than there are layers are asked for."""
    root, out = run(tmp_path, *LONG, "--workers", "4")
    assert "country: toy" in out
    assert "cells 12/12, steps " in capsys.readouterr().err
    require_same(results(root), results(undisturbed))
    assert pair_files(root) == pair_files(undisturbed)
    for name in ("cities.json", "estimates.json"):
        assert (root / name).read_bytes() == (undisturbed / name).read_bytes()
    require_no_leftovers(root)


@PROC
@pytest.mark.parametrize(
    "what",
    [
        *("ctrl-C", "ctrl-C in a terminal", "the parent is killed"),
        *("a worker is killed", "the newest worker is killed", "what forks workers is killed"),
    ],
)
def test_processes_that_are_stopped(undisturbed, tmp_path, what):
    """Nothing lives on, and the training that was stopped in good order goes on where it was."""
    # Long, where training must be kept: between two groups of runs there is none.
    process, children = start_processes(tmp_path, *(("--epochs", "60") if "ctrl-C" in what else ()))
    root = tmp_path / "out" / "toy"
    workers = [owner.pid for layer in (1, 2, 3) if (owner := lease_of(root, layer))] or children[-1:]
    killed = {
        "a worker is killed": workers[0],
        "the newest worker is killed": children[-1],
        "what forks workers is killed": next(pid for pid in children if descendants_of(pid)),
    }.get(what)
    try:
        if killed:
            os.kill(killed, signal.SIGKILL)
        elif what == "the parent is killed":
            process.kill()
        else:
            for pid in children if what == "ctrl-C in a terminal" else ():
                os.kill(pid, signal.SIGINT)  # a terminal tells the whole group
            process.send_signal(signal.SIGINT)
        status, _, err = finish(process)
    finally:
        process.kill()
    code = 2 if "worker" in what else -signal.SIGKILL if what == "the parent is killed" else 130
    assert status == code, err
    assert "Traceback" not in err
    assert are_gone(children, 10)
    # The folder goes with the last file in it.  What a killed one was writing stays until `go_on`, nothing of others.
    left = {path.suffix for path in (root / "tasks").glob("*") if not path.name.endswith(f".{killed}.tmp")}
    if "worker" in what:
        assert left <= {".safetensors", ".lease"}
        assert len(list(root.glob("*/*/layer*.json"))) < N_CELLS, "the other one went on to the end"
    else:
        assert left == {".safetensors"}, (left, err)
    if not what.startswith("ctrl-C"):
        go_on(tmp_path, undisturbed)


@PROC
@pytest.mark.parametrize(
    ("number", "code", "n_begun"),  # 2: libraries are imported, and no worker is there; 3: one is
    [(signal.SIGKILL, -9, 2), (signal.SIGKILL, -9, 3), (signal.SIGTERM, 143, 2), (signal.SIGINT, 130, 3)],
)
def test_processes_that_are_stopped_while_they_start(toy_world, tmp_path, number, code, n_begun):
    """No signal is lost, and nobody does the work of a parent that is gone."""
    # Long, as a worker that is there trains until the parent's next look, up to a second later.
    process = fork(*LONG, "--epochs", "60", "--launcher", "processes", "2", "--output", tmp_path / "out")
    try:
        wait_until(lambda: len(descendants_of(process.pid)) >= n_begun, process)
        children = descendants_of(process.pid)
        process.send_signal(number)
        children += descendants_of(process.pid)
        status, _, err = finish(process)
    finally:
        process.kill()
    assert status == code, err
    assert are_gone(children, 30)
    assert list((tmp_path / "out").rglob("layer*.json")) == []


def test_processes_find_what_is_read_ahead_from_any_folder(tmp_path):
    """A process has the module before it is asked for anything."""
    code = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
from grid.launchers.processes import _context, _handing_on

os.chdir(sys.argv[1])
with ProcessPoolExecutor(1, _context("cpu", ["common.leases"])) as pool, _handing_on():
    print(pool.submit(eval, "'common.leases' in __import__('sys').modules").result())
"""
    assert finish(fork(tmp_path, code=code)) == (0, "True\n", "")


def test_error_in_a_process_is_told_and_kept_for_status(toy_world, tmp_path, capsys):
    argv = ["--model", "toy", "--methods", "das", "--layers", "1", "2", "--lr", "1e6", "--output", str(tmp_path)]
    assert main([*argv, "--workers", "2"]) == 2
    require_words(error_line(capsys.readouterr().err), ("das diverged", "--lr"))
    assert main([*argv, "--status"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"4 cells: 0 done, [24] failed", out)
    assert "failed: das diverged" in " ".join(out.split())


# ---------------------------------------------------------------- how far it is


def test_status_and_collect_while_it_runs(undisturbed, tmp_path, capsys):
    root = tmp_path / "out" / "toy"
    output = ("--output", str(tmp_path / "out"))
    assert main([*LONG, "--collect", *output]) == 2
    require_words(error_line(capsys.readouterr().err), ("none of 12 cells", "--status"))
    process = fork(*LONG, *output, code=TALKATIVE)
    try:
        wait_until(lambda: (owner := lease_of(root, 2)) and owner.progress.get("steps"), process)
        assert main([*LONG, "--status", *output]) == 0
        out = capsys.readouterr().out
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert max(map(len, out.splitlines())) <= 80
    text = " ".join(out.split())
    assert re.match("12 cells: 4 done, 4 at work, 4 missing", text)
    said = rf"layer 2 0/4 done; at work: \S+ \(process {process.pid}\) since .*step \d+ of 128, loss \d"
    assert re.search(said, text)
    assert "layer 3 0/4 done; missing" in text
    assert main([*LONG, "--status", *output]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "4 done, 4 failed, 4 missing" in text
    assert "ended without a word" in text
    before = {path: path.read_bytes() for path in root.rglob("*.json")}
    assert main([*LONG, "--collect", *output]) == 0
    out = capsys.readouterr().out
    assert out.startswith("4 of 12 cells are done; the others are left out\n")
    assert "-- layer 1" in out
    assert "-- layer 2" not in out
    assert main([*LONG, "--collect", "--epochs", "7", *output]) == 2
    require_words(error_line(capsys.readouterr().err), ["layer01-seed0.json", "epochs 4 there, 7 now", "collect with"])
    assert {path: path.read_bytes() for path in before} == before


# ---------------------------------------------------------------- the command line


BAD = [
    (["--launcher", "slrum"], ["slrum", "slurm", "processes"]),
    (["--launcher", "here", "2"], ["here 2", "processes 4"]),
    (["--launcher", "processes", "0"], ["processes 0"]),
    (["--launcher", "processes", "2", "--workers", "3"], ["disagree"]),
    (["--launcher", "slurm", "--workers", "2"], ["--slurm array="]),
    (["--slurm", "time=3"], ["--launcher slurm"]),
    (["--launcher", "slurm", "--slurm", "gpu"], ["'gpu'", "partition="]),
    (["--gpus", "0"], ["--gpus", "at least 1"]),
]


@pytest.mark.parametrize(("flags", "words"), BAD)
def test_launcher_that_makes_no_sense(tmp_path, capsys, flags, words):
    require_words(fails(capsys, tmp_path / "out", "--model", "toy", *flags), words)


def test_slurm_without_submitit(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    line = fails(capsys, tmp_path / "out", "--model", "toy", "--launcher", "slurm")
    require_words(line, ["submitit", "pip install submitit==" + imports.OPTIONAL["submitit"]])


def test_slurm_where_there_is_none(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    require_words(
        fails(capsys, tmp_path / "out", "--model", "toy", "--launcher", "slurm"), ["sbatch", "--launcher here"]
    )
