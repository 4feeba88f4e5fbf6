"""A grid as an array of a real Slurm: killed and preempted tasks, and the same command again.

Skipped where Slurm's daemons are not installed: apt-get install slurmctld slurmd slurm-client munge.
"""

import json
import shutil
import subprocess
import time
from pathlib import Path

import helpers_slurm
import pytest
from helpers_cli import finish, require_words
from helpers_forks import fork
from helpers_grid import require_no_leftovers, require_same, results, run

from common.errors import UserError
from common.leases import look
from grid.launchers.slurm import minutes

GRID = ("--model", "toy", "--device", "cpu", "--methods", "neuron", "das", "--layers", "2", "3", "--targets", "country")
GRID = (*GRID, "--epochs", "60", "--max-pairs", "64")
SLURM = ("--launcher", "slurm", "--slurm", "time=10", "mem=300M", "array=2")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if not helpers_slurm.is_installed():
        pytest.skip("Slurm is not installed")
    with helpers_slurm.slurm(tmp_path_factory.mktemp("slurm")) as conf, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(conf))
        yield conf


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def submit(folder: Path, *more: str) -> str:
    status, out, err = finish(fork(*GRID, *(more or SLURM), "--output", folder / "out"))
    assert status == 0, err
    return out


def wait_until(is_so, what: str, patience: float = 180) -> None:
    end = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < end, f"{what}: {said('squeue', '--all')}"
        time.sleep(0.2)


def is_training(root: Path, layer: int) -> bool:
    found = look(root / "tasks" / f"layer{layer:02d}.lease")
    return bool(found and found.owner and found.owner.progress.get("steps"))


def test_killed_and_preempted_tasks(slurm, toy_world, tmp_path):
    """One task is killed, one is told to make room; the results are those of one process, to the last bit."""
    undisturbed, _ = run(tmp_path / "one", *GRID)
    root = tmp_path / "out" / "toy"
    out = submit(tmp_path)
    job = out.partition("Slurm job ")[2].partition("_")[0]
    require_words(out, [f"layer 2: Slurm job {job}_0", f"layer 3: Slurm job {job}_1", root / "slurm"])
    assert "300M" in said("scontrol", "show", "job", job)

    signals = {2: ("KILL", f"{job}_0"), 3: ("TERM", f"{job}_1")}

    def stop_those_that_train() -> bool:
        for layer in [layer for layer in signals if is_training(root, layer)]:
            number, task = signals.pop(layer)
            said("scancel", f"--signal={number}", task)
        return not signals

    wait_until(stop_those_that_train, "both layers have trained")
    wait_until(lambda: set(said("squeue", "-h", "-r", "-o", "%T").split()) == {"PENDING"}, "both have stopped")
    assert (root / "tasks" / "layer03.safetensors").exists()
    text = " ".join(submit(tmp_path, "--status").split())
    require_words(text, ["layer 2", "failed", f"{job}_0 has ended", f"{job}_0_0_log.err ends: "])
    require_words(text, ["layer 3", f"queued: Slurm job {job}_1 is pending"])

    out = submit(tmp_path)  # again: what died is taken again, what is queued is not
    require_words(out, [f"layer 3 is in the queue already, as Slurm job {job}_1", "layer 2: Slurm job "])
    assert out.count("Slurm job") == 2
    said("scontrol", "update", f"JobId={job}_1", "StartTime=now")  # Slurm would have it wait for two minutes
    wait_until(lambda: not said("squeue", "-h"), "all is done")
    assert submit(tmp_path, "--status").startswith("4 cells: 4 done\n")
    require_same(results(root), results(undisturbed))
    assert "disentangle, hard mask, test pairs" in submit(tmp_path, "--collect")
    shutil.rmtree(root / "slurm")
    require_no_leftovers(root)


def test_task_that_meets_an_error_of_the_user(slurm, toy_world, tmp_path):
    argv = ("--model", "toy", "--methods", "das", "--layers", "2", "--lr", "1e6", "--output", tmp_path / "out")
    assert finish(fork(*argv, *SLURM))[0] == 0
    wait_until(lambda: not said("squeue", "-h"), "it has ended")
    _, out, _ = finish(fork(*argv, "--status"))
    require_words(" ".join(out.split()), ["2 cells: 0 done, 2 failed", "failed: das diverged", "lower --lr"])


def test_saes_scored_by_tasks(slurm, toy_world, tmp_path):
    """A task per layer and SAE; one is killed, and the same command takes it again."""
    code = "import sys, eval_sae; sys.exit(eval_sae.main())"
    saes = ("--model", "toy", "--device", "cpu", "--methods", "openai", "bloom", "--layers", "2")

    def scored(folder: Path, *more: str) -> str:
        status, out, err = finish(fork(*saes, *more, "--output", folder, code=code))
        assert status == 0, err
        return out

    def rows(folder: Path) -> list[dict]:
        found = json.loads((folder / "toy" / "sae-quality.json").read_text())["rows"]
        return [{key: value for key, value in row.items() if key != "seconds"} for row in found]

    scored(tmp_path / "one")
    out = scored(tmp_path / "out", *SLURM, "--per", "method")
    job = out.partition("Slurm job ")[2].partition("_")[0]
    require_words(out, [f"layer 2, openai: Slurm job {job}_0", f"layer 2, bloom: Slurm job {job}_1"])
    wait_until(lambda: f"{job}_0" in said("squeue", "-h", "-t", "RUNNING", "-o", "%i"), "the first task runs")
    said("scancel", "--signal=KILL", f"{job}_0")
    wait_until(lambda: not said("squeue", "-h"), "all have ended")
    assert scored(tmp_path / "out", "--status", "--per", "method").startswith("2 cells: 1 done, 1 failed\n")
    require_words(scored(tmp_path / "out", *SLURM, "--per", "method"), ["layer 2, openai: Slurm job "])
    wait_until(lambda: not said("squeue", "-h"), "all is done")
    assert scored(tmp_path / "out", "--collect") == scored(tmp_path / "one").replace("/one/", "/out/")
    assert rows(tmp_path / "out") == rows(tmp_path / "one")
    shutil.rmtree(tmp_path / "out" / "toy" / "slurm")
    require_no_leftovers(tmp_path / "out" / "toy")


def test_slurm_that_refuses(slurm, toy_world, tmp_path):
    status, out, err = finish(fork(*GRID, *SLURM, "partition=none", "--output", tmp_path / "out"))
    assert (status, out) == (2, "")
    require_words(err.splitlines()[-1], ["error: Slurm did not take the job", "nvalid partition", "--slurm"])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("90", 90), ("90:30", 91), ("1:30:00", 90), ("2-3", 3060), ("1-0:30", 1470), ("1-00:00:01", 1441), ("0:10", 1)],
)
def test_time_limit(text, wanted):
    """The forms of sbatch's own page; seconds are rounded up."""
    assert minutes(text) == wanted


def test_what_is_no_time_limit():
    with pytest.raises(UserError, match="time=soon"):
        minutes("soon")
