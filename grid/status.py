"""How far some work is, read from its folder alone: what is done, at work, queued, dead or missing."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from common.errors import UserError
from common.leases import Found, look
from common.text import duration, filled
from grid.settings import Settings
from grid.shares import Share, shared_out
from results.provenance import difference
from results.run import Run
from results.shapes import is_amount
from results.store import Store

DECISIVE = (  # settings that a result's config repeats as they are
    *("mode", "split", "prompt", "unfiltered", "max_pairs", "engine", "one_token", "dtype"),
    *("epochs", "batch_size", "batching", "lr", "temperature", "precision"),
)
ENDING = "COMPLETING"  # squeue's word for a task that has ended or was killed, or is about to be queued again
TAIL = 4096  # bytes at the end of a log, in which its last line is looked for


def done_of(runs: list[Run], store: Store) -> list[Run]:
    """The runs that are done, said on stdout if these are not all.  Raises UserError if there is none."""
    done = [run for run in runs if store.is_done(run)]
    if not done:
        raise UserError(f"none of {len(runs)} cells is done in {store.root}; --status tells how far they are")
    if len(done) < len(runs):
        print(f"{len(done)} of {len(runs)} cells are done; the others are left out")
    return done


def require_settings(results: list[dict], settings: Settings, store: Store) -> None:
    """Raises UserError if some results were made with other settings, as far as that shows without a model."""
    for result in results:
        then = {key: result["config"].get(key) for key in DECISIVE}
        then = {key: value for key, value in then.items() if value is not None}  # None: plays no part
        differs = difference(then, {key: getattr(settings, key) for key in then})
        if differs:
            run = Run(*(result[key] for key in ("target", "method", "layer", "seed")))
            raise UserError(
                f"{store.json_path(run)} was made with another configuration ({differs}); collect with the "
                "flags of the run, or name another --output"
            )


def print_status(cells: list, per: str, is_done: Callable[[object], bool], store: Store, work: str = "") -> None:
    """Print how many cells are done, at work, queued, failed and missing; then of each share by whom, or why not.

    cells, per, work: as `grid.shares.shared_out` takes them.
    """
    counts = dict.fromkeys(("done", "at work", "queued", "failed", "missing"), 0)
    lines = []
    shares = shared_out(cells, per, work)
    n_done = {share: sum(map(is_done, of_share)) for share, of_share in shares.items()}
    tasks = {share: task_of(store, share) for share, of_share in shares.items() if n_done[share] < len(of_share)}
    queue = states_in_queue(tasks.values())
    for share, of_share in shares.items():
        done = n_done[share]
        counts["done"] += done
        line = f"{share.name}  {done}/{len(of_share)} done"
        if share in tasks:
            state, text = _state(share, store, tasks[share], queue)
            counts[state] += len(of_share) - done
            line += f"; {state}{text}"
        lines.append(filled(line))
    said = ", ".join(f"{n} {state}" for state, n in counts.items() if n or state == "done")
    print("\n".join([f"{len(cells)} cells: {said}", *lines, str(store.root)]))


def _state(share: Share, store: Store, task: dict | None, queue: dict[str, str]) -> tuple[str, str]:
    """The state of what is not done of a share: a key of the counts above, and what more there is to say."""
    found = look(store.lease_path(share))
    if found is not None and not found.is_free:
        return "at work", _at_work(found)
    if task is not None and task["job"] in queue:
        told = queue[task["job"]]
        state = "at work" if told in ("RUNNING", ENDING) else "queued"
        return state, f": Slurm job {task['job']} is {told.lower()}"
    if found is not None and found.owner is not None:
        owner = found.owner
        why = owner.error or f"it ended without a word (killed, or out of memory): {owner}"
        return "failed", f": {why}{_last_line(owner.log)}"
    if task is not None:
        where = "" if shutil.which("squeue") else " or waits; there is no squeue here to ask"
        return "failed", f": Slurm job {task['job']} has ended{where}{_last_line(task['log'])}"
    return "missing", "; it was stopped, and its training is kept" if store.state_path(share).exists() else ""


def _at_work(found: Found) -> str:
    """By whom, since when, and how far."""
    if found.owner is None:
        return ""
    told = found.owner.progress
    parts = [f": {found.owner}"]
    if "at" in told:
        parts.append(f"{told['at']}")
    if "steps" in told and "of" in told:
        parts.append(f"step {told['steps']} of {told['of']}")
    if isinstance(told.get("loss"), float):
        parts.append(f"loss {told['loss']:.3f}")
    if is_amount(told.get("left")):
        parts.append(f"about {duration(told['left'])} left")
    return ", ".join([*parts, f"heard {duration(max(0, found.age))} ago"])


def task_of(store: Store, share: Share) -> dict | None:
    """The Slurm task that was submitted for a share: "job" and "log"; None if there is none."""
    try:
        task = json.loads(store.job_path(share).read_text(encoding="utf-8"))
        return {"job": str(task["job"]), "log": str(task["log"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def states_in_queue(tasks: Iterable[dict | None]) -> dict[str, str]:
    """What squeue says of these tasks, job -> state, of those that it still knows; nothing where there is no squeue."""
    jobs = [task["job"] for task in tasks if task is not None and task["job"].replace("_", "").isdecimal()]
    if not jobs or shutil.which("squeue") is None:
        return {}
    ask = ["squeue", "--noheader", "--array", "--jobs", ",".join(jobs), "--format", "%i %T"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split() for line in said.splitlines())


def _last_line(log: str | None) -> str:
    """'; LOG ends: its last line', as far as there is one."""
    if log is None:
        return ""
    try:
        with open(Path(log), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return f"; no log at {log}"
    told = [line.strip() for line in lines if line.strip()]
    last = next((line for line in reversed(told) if "Exited with exit code" not in line), "nothing")  # srun's own
    return f"; {log} ends: {last[-300:]}"
