"""Kill a small grid again and again, at random moments, and see that its results are those of one nobody touched.

    python benchmarks/kills.py                 60 kills, a quarter of an hour
    python benchmarks/kills.py --kills 5
    python benchmarks/kills.py --slurm         of Slurm's tasks; the daemons must be installed, and you root

SIGKILL, SIGTERM and ctrl-C in turns, of one process and of two (tasks: the first two); the same command goes on in the
same folder until it is through, and begins anew in another folder until there were so many kills. Every result must
then be the same to the last bit: theta, rotation, outcomes, scores, history; and no file may be left over.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "tests"))

import helpers_slurm

from common.paths import HOME
from imports import safetensors_torch, torch

GRID = ("--model", "toy", "--device", "cpu", "--methods", "neuron", "das", "bloom", "--layers", "1", "2", "3")
GRID = (*GRID, "--epochs", "10", "--max-pairs", "64", "--joint", "4")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CHANGES = ("seconds", "commit", "digest")  # of a result, from run to run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=60, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slurm", action="store_true")
    args = parser.parse_args()
    rng, kills, grids, cells = random.Random(args.seed), Counter(), 0, 0
    with tempfile.TemporaryDirectory() as around, contextlib.ExitStack() as stack:
        if args.slurm:
            os.environ["SLURM_CONF"] = str(stack.enter_context(helpers_slurm.slurm(Path(around, "slurm"))))
        began = time.monotonic()
        assert start(Path(around, "undisturbed")).wait() == 0
        takes = time.monotonic() - began
        wanted = contents(Path(around, "undisturbed"))
        while kills.total() < args.kills:
            grids += 1
            folder = Path(around, f"grid{grids}")
            if args.slurm:
                disturb_tasks(folder, rng, takes, kills, args.kills)
            while not args.slurm and (number := disturb(folder, rng, takes)) is not None:
                kills[signal.Signals(number).name] += 1
                print(f"{kills.total()} kills", file=sys.stderr)
                if kills.total() == args.kills:
                    assert start(folder).wait() == 0
                    break
            require_same(contents(folder), wanted)
            cells += len(wanted)
    killed = ", ".join(f"{n} {name}" for name, n in sorted(kills.items()))
    print(f"{kills.total()} kills ({killed}) of {grids} grids: all {cells} results the same, nothing left over")


def start(output: Path, *more: str) -> subprocess.Popen:
    """main.py in a group of its own, whose log goes beside its output."""
    output.mkdir(exist_ok=True)
    command = [sys.executable, HOME / "main.py", *GRID, *more, "--output", output]
    with open(output.with_suffix(".log"), "a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def disturb(output: Path, rng: random.Random, takes: float) -> int | None:
    """Start the grid and kill it; returns the signal, or None if it came to its end before."""
    process = start(output, "--workers", str(rng.choice((1, 2))))
    number = rng.choice(SIGNALS)
    try:
        status = process.wait(rng.uniform(0.3, 1) * takes)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        status = process.wait(120)
    if status == 0:
        return None
    expected = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    early = {signal.SIGTERM: -15, signal.SIGINT: -2}.get(number)  # before Python listens to it
    assert status in (expected, early, 1 if number == signal.SIGINT else None), (status, number)
    return number


def disturb_tasks(output: Path, rng: random.Random, takes: float, kills: Counter, most: int) -> None:
    """Submit the grid, and again until it is done; kill a running task every now and then."""
    submit = ("--launcher", "slurm", "--slurm", "time=10", "mem=300M", "array=2")
    while "18 done" not in said(sys.executable, HOME / "main.py", *GRID, "--status", "--output", output):
        assert start(output, *submit).wait() == 0
        while tasks := said("squeue", "-h", "-r", "-o", "%i %T").split("\n")[:-1]:
            end = time.monotonic() + rng.uniform(0.1, 1) * takes
            while time.monotonic() < end and said("squeue", "-h"):
                for task in (line.split()[0] for line in tasks if line.endswith("PENDING")):
                    # One that is queued again would wait for two minutes.
                    subprocess.run(["scontrol", "update", f"JobId={task}", "StartTime=now"], capture_output=True)
                time.sleep(0.3)
            running = said("squeue", "-h", "-r", "-t", "RUNNING", "-o", "%i").split()
            if running and kills.total() < most:
                number = rng.choice(SIGNALS[:2])
                subprocess.run(["scancel", f"--signal={number.name[3:]}", rng.choice(running)], capture_output=True)
                kills[number.name] += 1
                print(f"{kills.total()} kills", file=sys.stderr)
    shutil.rmtree(output / "toy" / "slurm")


def said(*command) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def contents(output: Path) -> dict[str, tuple[dict, dict]]:
    """Every result: its json and its tensors.  Raises AssertionError if any file is there that is none of a grid's."""
    left = [p for p in output.rglob("*") if p.is_file() and (p.name[0] == "." or p.parent.name == "tasks")]
    assert not left, left
    return {
        str(path.relative_to(output)): (
            {key: value for key, value in json.loads(path.read_text()).items() if key not in CHANGES},
            safetensors_torch.load_file(path.with_suffix(".safetensors")),
        )
        for path in output.glob("*/*/*/layer*.json")
    }


def require_same(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
    for name, (result, tensors) in wanted.items():
        assert found[name][0] == result, name
        assert tensors.keys() == found[name][1].keys()
        assert all(torch.equal(tensor, found[name][1][key]) for key, tensor in tensors.items()), name


if __name__ == "__main__":
    main()
