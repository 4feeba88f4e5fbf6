"""Do the work in several processes of this machine, each on a GPU of its own where there are several.

The processes need no hand-out of work: each does what nobody holds (grid/work.py).  This one watches the leases, passes
ctrl-C and SIGTERM on as SIGTERM, and sees to it that none outlives it.  Signals wait for its next look: what one would
raise within the pool could leave a lock there that nobody opens again.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

from common.errors import UserError
from common.paths import HOME
from common.stopping import Stopped, held, is_asked, listening, stop_here
from grid.devices import use_gpu
from grid.progress import Progress
from grid.work import Job, Work, do_shares, say_who
from imports import torch, tqdm, transformers
from models import load_subject

EVERY = 1.0  # seconds between two looks at the leases, and between their renewals
PATIENCE = 8.0  # seconds that a process is given to stop once its parent is gone
MOST_PATIENCE = 300.0  # and while it is there: to write a large training to a slow disk takes a while
# What transformers reads only when it is asked for: here, so once for all processes that are forked.
READ_AHEAD = (transformers.AutoModelForCausalLM, transformers.AutoTokenizer)


def launch(job: Job) -> bool:
    """Raises UserError if a process meets an error of the user or is killed."""
    work = job.prepare()
    if not work.by_share:
        return True
    sent = replace(work, inputs=replace(work.inputs, subject=None, cache=None))  # a model is read faster than sent
    # As bytes: tensors on their own would go through a socket of this process, which a kill in the midst leaves broken.
    sent = pickle.dumps((sent, job.worker))
    n = min(job.settings.workers, len(work.by_share))
    with (
        held(),
        Progress(*work.size()) as progress,
        ProcessPoolExecutor(n, _context(job.settings.device, _libraries(work)), initializer=_live_with_parent) as pool,
    ):
        try:
            _watch(_start(pool, sent, n), work, progress)
        except BaseException:
            _stop(multiprocessing.active_children())
            raise
    return True


def _libraries(work: Work) -> list[str]:
    """The modules that every process needs: this file with all that it imports, and transformers' of the model."""
    return [__name__, type(work.inputs.subject.model).__module__]


def _context(device: str, read_ahead: list[str]):
    """How processes begin: forked from one that has read these modules and does nothing else, where that is safe.

    Of this process's threads a fork would copy the locks alone; and CUDA cannot be used behind a fork if anything
    asked for it before.
    """
    if device != "cpu" or not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(read_ahead)
    return context


@contextlib.contextmanager
def _handing_on():
    """What is started within does not hear ctrl-C, which is this process's to hear, and finds our modules.

    Python hands sys.path to the process that forks, which in some versions (3.11) passes it over: from any folder but
    ours it would read nothing ahead, without a word.
    """
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOME), before]))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _start(pool: ProcessPoolExecutor, sent: bytes, n: int) -> list[Future]:
    with _handing_on():
        works = [pool.submit(_work, sent, number, EVERY) for number in range(n)]
        # The pool watches the processes that it knew when it was last told of work, before it started the newest one.
        return [*works, pool.submit(int)]


def _stop(processes: list) -> None:
    """End these processes, which keep their training first; one that does not is killed after minutes."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + MOST_PATIENCE
    for process in processes:
        process.join(max(0, end - time.monotonic()))
        if process.is_alive():
            process.kill()


def _watch(works: list[Future], work: Work, progress: Progress) -> None:
    """Show how far the work is until it is done.  Raises Stopped, and what a process raised."""
    waiting, told = set(works), set()
    while waiting:
        stop_here()
        done, waiting = wait(waiting, EVERY, FIRST_EXCEPTION)
        say_who(work, told, {process.pid for process in multiprocessing.active_children()})
        progress.found(*work.count())
        for ended in done:
            try:
                ended.result()
            except BrokenProcessPool:
                raise UserError(
                    "a worker was killed (the system may be out of memory); finished runs are kept: run the same "
                    "command again, with fewer --workers if memory is short"
                ) from None


# ---------------------------------------------------------------- in a process of its own


def _work(sent: bytes, number: int, every: float) -> None:
    """Do shares until there are none.

    sent: the work and what does it, from the process that started this one; number: of this process; every: seconds
    between two renewals of a lease.
    """
    try:
        with listening(signal.SIGTERM):
            work, worker = pickle.loads(sent)  # noqa: S301 - it comes from the process that started this one
            s = work.settings
            tqdm.tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system's, which a kill leaves behind
            torch.set_num_threads(s.threads or 1)
            use_gpu(s, number)
            subject = load_subject(s.place.path, s.device, s.dtype, s.spread)
            work = replace(work, inputs=replace(work.inputs, subject=subject))
            do_shares(work, worker, Progress(0, 0, shown=False), every=every)
    except Stopped:  # what is to be kept was; the pool would have an idle process wait for more
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _live_with_parent() -> None:
    """Stop once the parent is gone, killed even: a process that waits for work would otherwise wait for ever."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()


def _stop_with_parent() -> None:
    multiprocessing.parent_process().join()
    if not is_asked():  # told twice, it would stop at once and leave what it is writing
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)
