"""Names for a machine and its processes that hold on a folder which several machines share."""

import contextlib
import functools
import hashlib
import os
import socket
import subprocess
from pathlib import Path

PROC = Path("/proc")


@functools.cache
def machine() -> str:
    """HOST-xxxxxxxx: processes that see the same name can look each other up by their numbers.

    The fingerprint tells apart two boots of a host, and two containers that think they are one host.
    """
    host = socket.gethostname().partition(".")[0] or "host"
    space = host
    with contextlib.suppress(OSError):  # elsewhere than on Linux its name has to do
        space += (PROC / "sys/kernel/random/boot_id").read_text() + os.readlink(PROC / "self/ns/pid")
    return f"{host}-{hashlib.sha256(space.encode()).hexdigest()[:8]}"


def started(pid: int) -> str | None:
    """When a process of this machine was started, as the system counts it; None if it is gone.

    Numbers of processes are given again: a number and a start together name one process.
    """
    if (PROC / "self/stat").exists():
        try:
            state, *fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if state in "ZX" else fields[18]  # Z, X: killed, and its parent has not noticed yet
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return done.stdout.strip() or None
