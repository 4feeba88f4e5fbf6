"""Signals stop a process at a good moment."""

import os
import signal
import sys

import pytest

from common import stopping
from common.command import run
from common.stopping import Stopped, held, listening


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_signal_stops_at_once_where_nothing_is_held():
    with pytest.raises(Stopped) as found, listening(signal.SIGTERM):
        send(signal.SIGTERM)
    assert found.value.number == signal.SIGTERM


def test_held_signal_waits():
    done = []
    with pytest.raises(Stopped) as found, listening(signal.SIGUSR2):
        with held():
            send(signal.SIGUSR2)
            done.append(stopping.is_asked())
            stopping.stop_here()
            done.append("too far")
    assert found.value.number == signal.SIGUSR2
    assert done == [True]
    assert not stopping.is_asked()


def test_held_signal_is_heard_at_the_end_of_the_block():
    done = []
    with pytest.raises(Stopped), listening(signal.SIGTERM):
        with held():
            send(signal.SIGTERM)
            done.append("inside")
        done.append("too far")
    assert done == ["inside"]


def test_signal_whose_exception_python_drops_is_not_lost(monkeypatch):
    """As it does in a callback: where an import ends, where an object dies."""
    dropped, passed = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: dropped.append(found.exc_type))

    class Dies:
        def __del__(self):
            send(signal.SIGTERM)

    with pytest.raises(Stopped) as found, listening(signal.SIGTERM):
        Dies()
        passed.append("dropped")
        with held():
            passed.append("not yet")
        passed.append("too far")
    assert dropped == [Stopped]
    assert passed == ["dropped", "not yet"]
    assert found.value.number == signal.SIGTERM
    assert not stopping.is_asked()


def test_second_signal_does_not_wait():
    done = []
    with pytest.raises(Stopped), listening(signal.SIGINT), held():
        send(signal.SIGINT)
        done.append("once")
        send(signal.SIGINT)
        done.append("twice")
    assert done == ["once"]


def test_handlers_are_as_before_afterwards():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with listening(signal.SIGTERM, signal.SIGINT):
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_signal_that_is_ignored_stays_so():
    """As nohup and a shell's background jobs set it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening(signal.SIGINT):
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


CODES = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "SIGTERM")]


@pytest.mark.parametrize(("number", "code", "said"), CODES)
def test_exit_code_of_a_command(capsys, number, code, said):
    assert run(lambda: send(number), "all is kept") == code
    err = capsys.readouterr().err
    assert said in err
    assert err.endswith(": all is kept\n")
