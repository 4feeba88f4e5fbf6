"""Submit the work to a Slurm cluster: one array, a task per share, through submitit.

This process only submits.  A task reads the same command line on its machine, and does its share as any process does
(grid/work.py); all that tasks share is the folder of results.  Asked to make room or out of time, a task stops between
two steps, keeps its training there, and has Slurm queue it again.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from common import command
from common.errors import UserError
from common.files import write_json
from common.paths import HOME
from common.stopping import listening
from common.text import filled
from grid.progress import Progress
from grid.shares import Share
from grid.status import ENDING, states_in_queue, task_of
from grid.work import Job, clear_away, do_shares

TIME = "60"  # minutes, unless --slurm time= says otherwise; a task that needs more goes on after it is queued again
MOST_TIMEOUTS = 50


@dataclass
class Task:
    """A share of a job, to be called on another machine.  again: see `grid.work.Job`."""

    share: Share
    again: Callable[[], Job]

    def __call__(self) -> None:
        """Do the share; exits with the code that the command would have."""
        queue_again = signal.getsignal(signal.SIGUSR2)  # submitit's: as `checkpoint` says, then scontrol requeue, exit
        with listening(signal.SIGUSR2):
            code = command.run(self._work, "what is done is kept, and so is the training")
        if code in (128 + signal.SIGTERM, 128 + signal.SIGUSR2) and not _is_cancelled():
            queue_again(signal.SIGUSR2, None)
        if code:
            sys.exit(code)

    def checkpoint(self):
        """What submitit is to run when the task is queued again: the same; the rest lies in the results' folder."""
        from imports import submitit

        return submitit.helpers.DelayedSubmission(self)

    def _work(self) -> None:
        from imports import submitit

        job = self.again()
        work = job.prepare()
        log = submitit.JobEnvironment().paths.stderr
        with Progress(*work.size()) as progress:
            do_shares(work, job.worker, progress, log=str(log))
        clear_away(job.store)
        job.store.forget_job(self.share)


def launch(job: Job) -> bool:
    """Submit what is neither done nor in the queue.  Raises UserError if Slurm or submitit is not here, or refuses."""
    from imports import submitit

    store = job.store
    if shutil.which("sbatch") is None:
        raise UserError("there is no sbatch on this machine; start where jobs are submitted, or use --launcher here")
    store.prepare()
    left = job.left()
    submitted_before = {share: task for share in left if (task := task_of(store, share))}
    queue = states_in_queue(submitted_before.values())
    queued = {share: task["job"] for share, task in submitted_before.items() if task["job"] in queue}
    for share, job_id in queued.items():
        if queue[job_id] == ENDING:
            print(f"{share.name}: Slurm job {job_id} is just ending; run this again, should it be left undone")
        else:
            print(f"{share.name} is in the queue already, as Slurm job {job_id}")
    tasks = [Task(share, job.again(share)) for share in left if share not in queued]
    if tasks:
        executor = submitit.SlurmExecutor(store.root / "slurm", max_num_timeout=MOST_TIMEOUTS)
        executor.update_parameters(**_parameters(job.settings.slurm))
        for task, submitted in zip(tasks, _submit(executor, tasks), strict=True):
            about = {"job": submitted.job_id, "log": str(submitted.paths.stderr)}
            write_json(store.job_path(task.share), about)
            print(f"{task.share.name}: Slurm job {submitted.job_id}")
    elif not queued:
        print("all cells are done; --collect prints the table")
    print(filled(f"logs: {store.root / 'slurm'}; how far it is: the same command with --status; then --collect"))
    return False


def _submit(executor, tasks: list[Task]) -> list:
    from imports import submitit

    try:
        return executor.submit_array(tasks)
    except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        said = ([line for line in lines if "error:" in line] or lines or [type(error).__name__])[-1]
        raise UserError(f"Slurm did not take the job: {said}; see --slurm in docs/cluster.md") from None


def _parameters(given: dict[str, str]) -> dict:
    """--slurm as submitit takes it: all of sbatch's options as they are, but time and the tasks at once as numbers."""
    options = {"time": TIME, **given}
    at_once = options.pop("array", "256").removeprefix("%")
    if not at_once.isdecimal() or int(at_once) < 1:
        raise UserError(f"--slurm array={at_once} is no number of tasks to run at once, such as array=8")
    return {
        "job_name": options.pop("job-name", "sae-disentangle"),
        "time": minutes(options.pop("time")),
        "array_parallelism": int(at_once),
        "setup": [f"export PYTHONPATH={_quoted(str(HOME))}${{PYTHONPATH:+:$PYTHONPATH}}"],
        "additional_parameters": options,
    }


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def minutes(text: str) -> int:
    """A time limit as sbatch writes it, M, M:S, H:M:S, D-H, D-H:M or D-H:M:S, in minutes.  Raises UserError."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise UserError(f"--slurm time={text} is no time limit; write minutes, H:M:S or D-H:M:S")
    days, *given = match.groups()
    first, second, third = (int(part or 0) for part in given)
    if days is not None:
        seconds = int(days) * 86400 + first * 3600 + second * 60 + third
    elif given[2] is not None:
        seconds = first * 3600 + second * 60 + third
    else:
        seconds = first * 60 + second
    return max(1, -(-seconds // 60))


def _is_cancelled() -> bool:
    """Whether it was scancel that stopped this job: then it is not queued again."""
    ask = ["squeue", "--noheader", "--jobs", os.environ.get("SLURM_JOB_ID", ""), "--format", "%T"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=30).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return False
    return bool(said) and not {"RUNNING", "PREEMPTED", "TIMEOUT", "STOPPED", "SIGNALING"} & set(said)
