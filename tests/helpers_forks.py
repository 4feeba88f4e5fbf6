"""Commands as processes of their own, forked from one that has imported the libraries already.

To import them takes three seconds, and the tests start some fifty commands.  A forked command differs from one that
is started anew in this alone: helpers_cli.start is for tests that look at the start itself, or set variables that
libraries read as they are imported.
"""

import contextlib
import functools
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
import types

from helpers_cli import HOME, ctrl_c_as_usual, start

from imports import uncollected


class Forked:
    """What the tests use of subprocess.Popen, for a process that is nobody's child here."""

    def __init__(self, code: str | None, argv: list[str]):
        ends = os.pipe(), os.pipe()
        self._status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = [theirs.fileno(), *(write for _, write in ends)]
        request = {"code": code, "argv": argv, "environment": {**os.environ, "OMP_NUM_THREADS": "1"}}
        socket.send_fds(_server(), [json.dumps(request).encode()], fds)
        theirs.close()
        self.stdout, self.stderr = (os.fdopen(read) for read, _ in ends)
        for _, write in ends:
            os.close(write)
        self.pid = int(self._status.recv(64))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._status.settimeout(max(timeout, 1e-6) if timeout is not None else None)
            try:
                self.returncode = int(self._status.recv(64))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("a forked command", timeout) from None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        end = None if timeout is None else time.monotonic() + timeout
        said = {self.stdout: b"", self.stderr: b""}
        with selectors.DefaultSelector() as ready:
            for pipe in said:
                if not pipe.closed:
                    ready.register(pipe, selectors.EVENT_READ)
            while ready.get_map():
                left = None if end is None else end - time.monotonic()
                if left is not None and left < 0:
                    raise subprocess.TimeoutExpired("a forked command", timeout)
                for key, _ in ready.select(left):
                    part = os.read(key.fd, 1 << 16)
                    said[key.fileobj] += part
                    if not part:
                        ready.unregister(key.fileobj)
                        key.fileobj.close()
        self.wait(None if end is None else max(0, end - time.monotonic()))
        return tuple(content.decode() for content in said.values())

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(*argv, code: str | None = None) -> "subprocess.Popen | Forked":
    """main.py with these flags (or python code with them as sys.argv[1:]) as a process of its own."""
    if not sys.platform.startswith("linux"):  # to fork is not safe everywhere
        return start(*argv, code=code)
    return Forked(code, [*map(str, argv)])


@functools.cache
def _server() -> socket.socket:
    """The process that forks, of this test process; it ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = f"import sys; sys.path.append('tests'); import helpers_forks; helpers_forks.work({theirs.fileno()})"
    command = [sys.executable, "-c", code]
    with ctrl_c_as_usual():
        subprocess.Popen(command, cwd=HOME, env={**os.environ, "OMP_NUM_THREADS": "1"}, pass_fds=[theirs.fileno()])
    theirs.close()
    return ours


# ---------------------------------------------------------------- in the server


def serve(asked: socket.socket) -> dict:
    """Fork at every request; returns in each child alone: the request.

    Between the server and a child there is a process that waits for the child and tells how it ended.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # of those between: nobody waits for them
    while True:
        request, fds, _, _ = socket.recv_fds(asked, 1 << 20, 3)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            break
        for fd in fds:
            os.close(fd)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked.close()
    child = os.fork()
    if child:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for fd in fds[1:]:
            os.close(fd)
        os.write(fds[0], str(child).encode())
        os.write(fds[0], str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
        os._exit(0)
    for number, fd in enumerate(fds[1:], 1):
        os.dup2(fd, number)
    for fd in fds:
        os.close(fd)
    request = json.loads(request)
    os.environ.clear()
    os.environ.update(request["environment"])
    return request


def work(fd: int) -> None:
    """Import the libraries, then fork; in a child, be the command."""
    with uncollected():
        import transformers

        import eval_sae  # noqa: F401
        import grid.experiment
        import grid.launchers.processes  # noqa: F401
        import quality.scoring  # noqa: F401

        _ = transformers.GPT2LMHeadModel, transformers.PreTrainedTokenizerFast  # read when they are first asked for
        gc.freeze()  # else every child looks through all of it once more, as it ends
    asked = serve(socket.socket(fileno=fd))
    if asked["code"] is not None:
        sys.argv = ["-c", *asked["argv"]]
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(asked["code"], main.__dict__)  # noqa: S102 - the tests' own
    else:
        sys.argv = [str(HOME / "main.py"), *asked["argv"]]
        runpy.run_path(sys.argv[0], run_name="__main__")
