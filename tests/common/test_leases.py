"""Leases: one holder at a time among processes and machines, and none that outlives its owner for long."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common import leases
from common.errors import UserError
from common.leases import STALE, Lease, Lost, look
from common.paths import HOME
from common.processes import machine, started

ELSEWHERE = "node7-00000000"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "tasks" / "layer02.lease"


def write(path: Path, age: float = 0.0, **about) -> None:
    """A lease of another machine, last renewed so many seconds ago."""
    path.parent.mkdir(exist_ok=True)
    owner = {"machine": ELSEWHERE, "pid": os.getpid(), "started": started(os.getpid()), "since": 1e9, "token": "theirs"}
    path.write_text(json.dumps({**owner, **about}))
    os.utime(path, (time.time() - age,) * 2)


def python(code: str, *argv) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, argv)],
        cwd=HOME,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


TAKE = """
import sys
from pathlib import Path
from common.leases import Lease
print("ready", flush=True)
sys.stdin.readline()
lease = Lease.take(Path(sys.argv[1]))
print(lease is not None, flush=True)
if lease is not None:
    with lease:
        sys.stdin.readline()
"""


def taken_by(processes: list[subprocess.Popen]) -> list[bool]:
    """Have all of them try at once; whether each got the lease."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.stdout.readline() == "True\n" for process in processes]


def end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("what", ["nobody had it", "its owner is gone"])
def test_one_of_many_gets_it(path, what):
    if what == "its owner is gone":
        write(path, age=STALE + 10)
    processes = [python(TAKE, path) for _ in range(6)]
    try:
        assert sum(taken_by(processes)) == 1
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    finally:
        end(processes)


def test_owner_that_was_killed_frees_it_at_once(path):
    processes = [python(TAKE, path)]
    try:
        assert taken_by(processes) == [True]
        assert Lease.take(path) is None
        processes[0].send_signal(signal.SIGKILL)
        while started(processes[0].pid):  # not waited for: it is a zombie now, and counts as gone
            time.sleep(0.01)
        assert os.path.exists(f"/proc/{processes[0].pid}") or sys.platform != "linux"
        assert Lease.take(path) is not None
    finally:
        end(processes)


def test_number_of_a_process_that_was_given_again_is_no_owner(path):
    write(path, machine=machine(), started="1")
    assert look(path).is_free
    write(path, machine=machine())
    assert not look(path).is_free


@pytest.mark.parametrize(("age", "is_free"), [(STALE - 30, False), (STALE + 30, True)])
def test_another_machines_is_free_once_it_was_not_renewed_for_minutes(path, monkeypatch, age, is_free):
    """By the file server's clock: that this machine's is an hour late or early plays no part."""
    write(path, age)
    for wrong in (-3600, 0, 3600):
        monkeypatch.setattr(time, "time", lambda wrong=wrong, real=time.time: real() + wrong)
        assert look(path).is_free == is_free
        monkeypatch.undo()
    assert (Lease.take(path) is not None) == is_free


@pytest.mark.parametrize("content", ["", "{", "[]", '{"machine": 3}', '{"pid": "1"}', '{"since": 1e400}'])
def test_what_is_no_lease_is_taken_over_when_it_is_old(path, content):
    """An empty one is being written just now; a stranger's may hold anything."""
    write(path)
    path.write_text(content)
    assert Lease.take(path) is None
    os.utime(path, (time.time() - STALE - 30,) * 2)
    assert Lease.take(path) is not None


def test_it_is_renewed_and_tells_of_the_work(path):
    with Lease.take(path, log="a.log", every=0.02) as lease:
        os.utime(path, (time.time() - 1000,) * 2)
        lease.owner.progress = {"steps": 7}
        time.sleep(0.3)
        found = look(path)
        assert found.age < 100
        assert found.owner.progress == {"steps": 7}
        assert (found.owner.log, found.owner.pid, found.owner.machine) == ("a.log", os.getpid(), machine())
    assert not path.parent.exists()


def test_owner_notices_that_it_was_stolen_and_leaves_it_alone(path):
    with Lease.take(path, every=0.02) as lease:
        lease.require()
        write(path)
        with pytest.raises(Lost, match=r"node7 \(process \d+\)"):
            lease.require()
        time.sleep(0.1)
        assert lease.lost
    assert look(path).owner.machine == ELSEWHERE


def test_it_comes_back_if_somebody_removed_it(path):
    with Lease.take(path, every=0.02) as lease:
        path.unlink()
        lease.require()
        time.sleep(0.2)
        assert look(path).owner.token == lease.owner.token


def test_lease_that_was_renewed_while_it_was_judged_is_put_back(path, monkeypatch):
    """Its owner renews it between our last look and the rename."""
    write(path)
    judged, rename = path.read_bytes(), os.rename

    def renewed_before(source, target):
        write(path, error="a newer one")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(leases.os, "rename", renewed_before)
        leases._set_aside(path, judged)
    assert look(path).owner.error == "a newer one"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    leases._set_aside(path, path.read_bytes())
    assert not path.exists()


def test_error_is_told_and_frees_it(path):
    with pytest.raises(ValueError, match="out of"), Lease.take(path) as lease:
        raise ValueError("out of\n luck")
    assert look(path).owner.error == "out of luck"
    assert look(path).is_free
    with pytest.raises(KeyboardInterrupt), Lease.take(path) as lease:
        assert look(path).owner.error is None
        raise KeyboardInterrupt  # as the siblings of what failed are stopped: they know no better
    assert look(path).owner.error == "out of luck"
    assert look(path).is_free
    assert lease.lost is None
    with Lease.take(path):
        pass
    assert not path.exists()
    with pytest.raises(KeyboardInterrupt), Lease.take(path):
        raise KeyboardInterrupt
    assert not path.exists()


def test_folder_that_others_remove_at_the_same_time(path):
    """Whoever lets go last removes the folder, while another one may be about to write there."""

    def take_and_let_go(number: int) -> None:
        for _ in range(40):
            with Lease.take(path.with_name(f"layer{number}.lease"), every=5):
                pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take_and_let_go, range(4)))
    assert not path.parent.exists()


def test_lease_is_never_seen_half_written(path):
    """A kill in between would leave a lease that names nobody, for minutes."""
    seen = []
    real = leases.temporary_beside

    def peek(place: Path) -> Path:
        seen.append(path.exists())
        return real(place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "temporary_beside", peek)
        patch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Lease.take(path)
    assert seen == [False]
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_on_a_file_system_without_hard_links(path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with Lease.take(path) as lease:
        assert look(path).owner == lease.owner
        assert Lease.take(path) is None
    assert Lease.take(path) is not None


def test_what_can_never_be_a_lease(path):
    path.mkdir(parents=True)
    with pytest.raises(UserError, match="is a folder where a file is to be"):
        Lease.take(path)


def test_lease_of_the_future_is_nobodys(path):
    """A clock that was wrong, or a stranger's file."""
    write(path, age=-3600)
    assert look(path).is_free
