"""./setup.sh from many tasks at once: one makes the environment, the others wait; a dead one's lock is no obstacle."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from common.paths import HOME
from common.processes import started

# Stands for a python: makes an "environment" of a copy of itself, whose pip takes its time and keeps a log.
PYTHON = """#!/bin/sh
case "$1 $2" in
  "-c "*) exit 0 ;;
  "-m venv") mkdir -p "$3/bin"; sleep 0.2; cp "$0" "$3/bin/python"; echo venv >>"$LOG" ;;
  "-m pip") [ "$3" = install ] || exit 0; echo begin >>"$LOG"; sleep ${TAKES:-0.5}; echo end >>"$LOG" ;;
esac
"""


@pytest.fixture
def home(tmp_path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("setup.sh", "requirements.txt", "requirements-test.txt"):
        shutil.copy(HOME / name, folder)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return folder


def start(home: Path, *words: str, **environment: str) -> subprocess.Popen:
    about = {"PYTHON": str(home.parent / "python"), "LOG": str(home.parent / "log"), **environment}
    return subprocess.Popen([home / "setup.sh", *words], env={**os.environ, **about}, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen) -> str:
    err = process.communicate(timeout=240)[1]
    assert process.returncode == 0, err
    return err


def require_clean(home: Path) -> None:
    names = {"setup.sh", "requirements.txt", "requirements-test.txt", ".venv"}
    assert {path.name for path in home.iterdir()} == names


@pytest.mark.parametrize("is_left", [False, True], ids=["new", "a dead one left its lock"])
def test_many_at_once_build_one_environment(home, is_left):
    if is_left:
        (home / ".setup.lock").symlink_to(f"{os.uname().nodename} {os.getpid()} 1")  # this process started later
    processes = [start(home, *words) for words in ((), (), ("tests",), ("tests",), (), ("tests",))]
    told = [end(process) for process in processes]
    log = (home.parent / "log").read_text().split()
    assert log.count("venv") == 1
    assert log == ["venv", *["begin", "end"] * 2]  # one list and the other: never two at a time, none twice
    assert sum("waiting for it" in err for err in told) >= 4
    require_clean(home)
    assert end(start(home, "tests")) == ""  # and again: nothing to do, no lock
    assert (home.parent / "log").read_text().split() == log


def test_killed_one_is_no_obstacle(home):
    first = start(home, TAKES="5")
    while "begin" not in (home.parent / "log").read_text().split() if (home.parent / "log").exists() else True:
        time.sleep(0.02)
    second = start(home)
    assert second.stderr.readline().startswith("another ./setup.sh is at work here")
    first.send_signal(signal.SIGKILL)
    end(second)
    first.communicate()
    require_clean(home)


def test_stopped_one_drops_its_lock(home):
    process = start(home, TAKES="1")
    while not (home / ".setup.lock").is_symlink():
        time.sleep(0.02)
    process.terminate()
    assert process.wait(30) == 143
    process.stderr.close()
    assert not (home / ".setup.lock").is_symlink()


@pytest.mark.parametrize(
    ("host", "age", "is_stale"),
    [("elsewhere", 0, False), ("elsewhere", 400, True), ("here", 400, False), ("here, another process", 0, True)],
)
def test_locks_of_others(home, host, age, is_stale):
    """Of another host by its age; of this one by its process, whatever its age."""
    lock = home / ".setup.lock"
    start_of_ours = started(os.getpid()) if host != "here, another process" else "1"
    lock.symlink_to(f"{os.uname().nodename if host != 'elsewhere' else host} {os.getpid()} {start_of_ours}")
    os.utime(lock, (time.time() - age,) * 2, follow_symlinks=False)
    process = start(home)
    if is_stale:
        end(process)
        require_clean(home)
    else:
        assert "waiting for it" in process.stderr.readline()
        time.sleep(1.5)
        assert process.poll() is None
        lock.unlink()
        end(process)
        require_clean(home)


def test_folder_that_cannot_be_written_to(home):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    home.chmod(0o555)
    process = start(home)
    err = process.communicate(timeout=240)[1]
    home.chmod(0o755)
    assert process.returncode == 2
    assert "error: cannot write to" in err
