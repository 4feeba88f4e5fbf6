"""Progress: in a terminal one line that is written over, in a file lines of their own."""

import io
import sys

import pytest

from common import progress as bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stderr(monkeypatch):
    def become(stream):
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return become


def test_in_a_file_every_state_is_a_line(stderr, monkeypatch):
    monkeypatch.setattr(bars, "PAUSE", 0.0)
    file = stderr(io.StringIO())
    with bars.bar(total=3, desc="runs", leave=True, bar_format="{desc} {n}/{total}") as steps:
        for _ in range(3):
            steps.update(1)
    assert file.getvalue() == "runs 0/3\nruns 1/3\nruns 2/3\nruns 3/3\n"


def test_in_a_file_lines_of_a_bar_with_all_its_parts_fit_80_columns(stderr, monkeypatch):
    monkeypatch.setattr(bars, "PAUSE", 0.0)
    file = stderr(io.StringIO())
    assert list(bars.bar(range(4), desc="harvest", unit="prompt")) == [0, 1, 2, 3]
    lines = file.getvalue().splitlines()
    assert "4/4" in lines[-1]
    assert max(map(len, lines)) < 80
    assert not any("\r" in line or line.isspace() or not line for line in lines)


def test_short_work_leaves_nothing_in_a_file(stderr):
    file = stderr(io.StringIO())
    list(bars.bar(range(4), desc="harvest"))
    assert file.getvalue() == ""


def test_in_a_terminal_one_line_is_written_over(stderr):
    terminal = stderr(Terminal())
    list(bars.bar(range(4), desc="harvest"))
    assert "harvest" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")  # and is gone


def test_a_bar_that_is_not_wanted_writes_nothing(stderr):
    terminal = stderr(Terminal())
    list(bars.bar(range(4), desc="harvest", disable=True))
    assert terminal.getvalue() == ""
