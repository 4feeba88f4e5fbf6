"""A real Slurm of one node on this machine, for the tests of what is submitted to it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
MUNGE_FOLDERS = ("/run/munge", "/var/log/munge", "/var/lib/munge")
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
SlurmdPort={other_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
JobRequeue=1
KillWait=5
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=100000
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def is_installed() -> bool:
    """Whether Slurm's daemons can be started here: they are there, and we are root."""
    return os.geteuid() == 0 and all(shutil.which(name) for name in DAEMONS)


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Path]:
    """The daemons, while the block runs; gives the configuration, for SLURM_CONF.

    Raises RuntimeError if the node does not come up within half a minute.
    """
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, port=_free_port(), other_port=_free_port()))
    munged = _start_munged()
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    started = []
    try:
        for name in ("slurmctld", "slurmd"):
            started.append(subprocess.Popen([name, "-D", "-f", str(conf)], env=environment, **_silent()))
        for _ in range(150):
            said = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True)
            if "idle" in said.stdout:
                break
            time.sleep(0.2)
        else:
            raise RuntimeError((folder / "ctld.log").read_text()[-2000:])
        yield conf
        subprocess.run(["scancel", "--user", "root"], env=environment, capture_output=True)
        time.sleep(1)
    finally:
        for process in [*reversed(started), munged]:
            if process is not None:
                process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(30)


def _start_munged() -> subprocess.Popen | None:
    """munged as its own user, unless one runs already."""
    if subprocess.run(["munge", "-n"], **_silent()).returncode == 0:
        return None
    for place in MUNGE_FOLDERS:
        Path(place).mkdir(exist_ok=True)
        shutil.chown(place, "munge", "munge")
    process = subprocess.Popen(["su", "-s", "/bin/sh", "munge", "-c", "exec /usr/sbin/munged -F"], **_silent())
    for _ in range(50):
        if subprocess.run(["munge", "-n"], **_silent()).returncode == 0:
            break
        time.sleep(0.1)
    return process


def _silent() -> dict:
    return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
