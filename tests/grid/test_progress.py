"""How far a grid is, without a terminal: lines with the time, none twice, no number cut."""

import re

import pytest

from common.leases import Lease
from common.text import duration
from grid import progress
from grid.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """time.monotonic, a list of one number, to be moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_a_minute(capsys, clock):
    with Progress(108, 9_000_000) as shown:
        shown.give(3_000_000)  # done before, by others: it does not make the rest look quicker
        for _ in range(300):
            clock[0] += 1
            shown.step(1000, 0.51234, 0.75)
        shown.cell()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6  # five minutes, and the end
    assert all(re.match(r"\d\d:\d\d:\d\d cells ", line) for line in lines)
    assert max(map(len, lines)) <= 80
    assert lines[0][9:] == "cells 0/108, steps 3060000/9000000, loss 0.512, about 1 h 39 min left"  # 1000 a second
    assert lines[-1][9:].startswith("cells 1/108, steps 3300000/9000000, loss 0.512, about 1 h 35 min left")


def test_no_line_twice(capsys, clock):
    with Progress(3, 10) as shown:
        for _ in range(5):
            clock[0] += 100
            shown.found(1, 4)
        shown.found(3, 10)
    lines = [line[9:] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["cells 1/3, steps 4/10, about 2 min left", "cells 3/3, steps 10/10"]


def test_what_is_not_shown_is_told_in_the_lease(capsys, clock, tmp_path):
    shown = Progress(0, 0, shown=False)
    with Lease.take(tmp_path / "tasks" / "layer02.lease") as lease:
        shown.begin_share(lease, steps=400, steps_done=100)
        shown.begin("country das L2")
        clock[0] += 10
        shown.step(50, 0.25, 0.5)
        told = lease.owner.progress
    assert told == {"at": "country das L2", "steps": 150, "of": 400, "loss": 0.25, "accuracy": 0.5, "left": 50.0}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (61, "1 min"), (3599, "59 min"), (3660, "1 h 01 min"), (90_000, "1 d 01 h")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
