"""Submit the work to a Slurm cluster: one array, a task per layer, through submitit.

This process only submits.  A task reads the same command line on its machine, and does its layer as any process does
(grid/work.py); all that tasks share is the folder of results.  Asked to make room or out of time, a task stops between
two steps, keeps its training there, and has Slurm queue it again.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

from common import command
from common.errors import UserError
from common.files import write_json
from common.paths import HOME
from common.stopping import listening
from common.text import filled
from grid.devices import settle
from grid.experiment import Experiment
from grid.layers import model_info
from grid.plan import plan
from grid.progress import Progress
from grid.settings import Settings, read_settings
from grid.status import states_in_queue, task_of
from grid.work import clear_away, do_layers
from results.store import Store

TIME = "60"  # minutes, unless --slurm time= says otherwise; a task that needs more goes on after it is queued again
MOST_TIMEOUTS = 50


@dataclass
class Task:
    """A layer of a grid, to be called on another machine.  argv: of main.py; replaced: see grid.spec.GridSpec."""

    argv: list[str]
    layer: int
    replaced: dict

    def __call__(self) -> None:
        """Do the layer; exits with the code that the command would have."""
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

        settings = read_settings(self.argv)
        settle(settings)
        runs = [run for run in plan(settings, model_info(settings)) if run.layer == self.layer]
        settings.layers = [self.layer]
        store = Store(settings.output, settings.model)
        spec = Experiment(settings, store, runs, replaced=self.replaced).prepare()
        log = submitit.JobEnvironment().paths.stderr
        with Progress(len(spec.configs), spec.steps(spec.configs)) as progress:
            do_layers(spec, progress, log=str(log))
        clear_away([self.layer], store)
        store.forget_job(self.layer)


def launch(experiment: Experiment) -> bool:
    """Submit what is neither done nor in the queue.  Raises UserError if Slurm or submitit is not here, or refuses."""
    from imports import submitit

    settings, store = experiment.settings, experiment.store
    if shutil.which("sbatch") is None:
        raise UserError("there is no sbatch on this machine; start where jobs are submitted, or use --launcher here")
    store.prepare()
    replaced = {run: store.stamp(run) for run in experiment.runs} if settings.force else {}
    unfinished = {run.layer for run in experiment.runs if not store.is_done(run) or settings.force}
    queued = {layer for layer in unfinished if states_in_queue([task_of(store, layer)])}
    for layer in sorted(queued):
        print(f"layer {layer} is in the queue already, as Slurm job {task_of(store, layer)['job']}")
    tasks = [
        Task(settings.argv, layer, {run: stamp for run, stamp in replaced.items() if run.layer == layer})
        for layer in sorted(unfinished - queued)
    ]
    if tasks:
        executor = submitit.SlurmExecutor(store.root / "slurm", max_num_timeout=MOST_TIMEOUTS)
        executor.update_parameters(**_parameters(settings))
        for task, job in zip(tasks, _submit(executor, tasks), strict=True):
            write_json(store.job_path(task.layer), {"job": job.job_id, "log": str(job.paths.stderr)})
            print(f"layer {task.layer}: Slurm job {job.job_id}")
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
        raise UserError(f"Slurm did not take the job: {said}; see --slurm") from None


def _parameters(settings: Settings) -> dict:
    """--slurm as submitit takes it: all of sbatch's options as they are, but time and the tasks at once as numbers."""
    options = {"time": TIME, **settings.slurm}
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
