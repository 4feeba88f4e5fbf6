"""Train a grid's layers in several processes of one machine.

Each worker reads the model once and then asks for layer after layer, the costliest first
(a patch after block L runs through the blocks after L).  A layer is trained by one worker,
just as one process would: the results are the same.
"""

import multiprocessing
import signal
import threading
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from common.errors import UserError
from grid.trainer import GridSpec, Progress, Trainer
from imports import MissingLibrary, torch, tqdm
from models import load_subject


def train_in_processes(spec: GridSpec, n_workers: int, progress: Progress) -> None:
    """Do a grid with so many processes.  Raises UserError if one meets an error of the user or is killed."""
    layers = spec.layers()
    context = multiprocessing.get_context("spawn")  # fork copies torch's lock state but not its threads
    sent = replace(spec, inputs=replace(spec.inputs, subject=None, cache=None))  # a model is read faster than sent
    workers, lines = [], []
    # Only this process hears ctrl-C, and ends its workers; they inherit that it is ignored.
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in range(min(n_workers, len(layers))):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(sent, theirs), daemon=True)
            worker.start()
            theirs.close()
            workers.append(worker)
            lines.append(ours)
    finally:
        signal.signal(signal.SIGINT, heard)
    try:
        _serve(lines, layers, progress)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _serve(lines: list[Connection], layers: list[int], progress: Progress) -> None:
    """Hand out layers and show what the workers report, until all have hung up."""
    waiting = iter(layers)
    open_lines, has_layer = set(lines), set()
    while open_lines:
        for line in wait(open_lines):
            try:
                kind, *content = line.recv()
            except (EOFError, ConnectionResetError):
                open_lines.remove(line)
                if line in has_layer:
                    raise UserError(
                        "a worker was killed (the system may be out of memory); finished runs are kept: run the same "
                        "command again, with fewer --workers if memory is short"
                    ) from None
                continue
            if kind == "error":
                raise UserError(content[0])
            if kind == "bug":
                raise RuntimeError(f"in a worker:\n{content[0]}")
            if kind == "free":
                has_layer.discard(line)
                layer = next(waiting, None)
                if layer is not None:
                    has_layer.add(line)
                line.send(layer)
            else:
                getattr(progress, kind)(*content)


# ---------------------------------------------------------------- in a worker


class _Reports(Progress):
    """Progress that is told to the parent process, a few times a second."""

    def __init__(self, line: Connection):
        self.line = line
        self.runs = 0

    def begin(self, text: str) -> None:
        self.line.send(("begin", text))

    def step(self, runs: int, loss, accuracy) -> None:
        self.runs += runs
        if self.is_time():
            self.flush()

    def flush(self) -> None:
        self.line.send(("advance", self.runs))
        self.runs = 0


def _work(spec: GridSpec, line: Connection) -> None:
    """Ask for layers until there are none; or until the parent is gone, and nobody waits for them any more."""
    try:
        s = spec.settings
        tqdm.tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system's, which a kill would leave behind
        torch.set_num_threads(s.threads or 1)
        subject = load_subject(s.place.path, s.device, s.dtype, s.spread)
        trainer = Trainer(replace(spec, inputs=replace(spec.inputs, subject=subject)), progress=False)
        reports = _Reports(line)
        while True:
            line.send(("free",))
            layer = line.recv()
            if layer is None:
                return
            trainer.do_layer(layer, reports)
            reports.flush()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except (UserError, MissingLibrary) as error:
        line.send(("error", str(error)))
    except Exception:  # noqa: BLE001 - whatever it is, it is shown where the command was given
        line.send(("bug", traceback.format_exc()))
