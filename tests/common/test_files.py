"""Temporary files: whose they are, and which are left over."""

import os
import time

from common.files import FORGOTTEN, remove_leftovers, temporary_beside, write_atomically
from common.processes import machine, started


def test_temporary_name_says_whose_it_is(tmp_path):
    seen = []

    def write(path):
        seen.append(path.name)
        path.write_text("x")

    write_atomically(tmp_path / "a.b.json", write)
    assert seen == [f".a.b.json.{machine()}.{os.getpid()}.tmp"]
    assert "." not in machine()


def test_leftovers(tmp_path):
    """Of this machine the dead go; of others, whose processes cannot be seen, those that nobody touched for a day."""
    dead = next(pid for pid in range(4_000_000, 5_000_000) if started(pid) is None)
    other = "node7-0a0a0a0a"
    kept = [temporary_beside(tmp_path / "ours"), tmp_path / f".theirs.json.{other}.{dead}.tmp", tmp_path / "x.tmp"]
    gone = [tmp_path / f".dead.json.{machine()}.{dead}.tmp", tmp_path / f".old.json.{other}.{os.getpid()}.tmp"]
    gone.append(tmp_path / f".older.json.{os.getpid()}.tmp")  # as earlier versions named them
    for path in (*kept, *gone):
        path.write_text("x")
    for path in gone[1:]:
        os.utime(path, (time.time() - FORGOTTEN - 60,) * 2)
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in kept}


def test_start_of_a_process():
    assert started(os.getpid()) == started(os.getpid())
    assert started(os.getpid()) not in (None, started(1))
    child = os.fork()
    if child == 0:
        os._exit(0)
    while started(child) is not None:  # a zombie: it has ended, and nobody has waited for it
        time.sleep(0.01)
    os.waitpid(child, 0)
