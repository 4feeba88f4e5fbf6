"""Stop at a good moment: on ctrl-C, SIGTERM, or a cluster's notice that it wants the machine back.

While a stop is `held`, as during a training step, a signal waits until `stop_here`; otherwise it raises `Stopped`
at once, and so does a second one.  It stays asked for: Python drops what is raised in a callback of its own, as at
the end of an import, and then the next `stop_here` raises it.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Stopped(KeyboardInterrupt):
    """This process was asked to stop by a signal.  number: of the signal."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return "interrupted" if self.number == signal.SIGINT else f"stopped by {signal.Signals(self.number).name}"


class _State:
    held = 0
    asked: int | None = None


@contextlib.contextmanager
def listening(*numbers: int) -> Iterator[None]:
    """Within, these signals stop the process as described above; elsewhere than in the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _hear)
    try:
        yield
    finally:
        _State.asked = None
        for number, handler in before.items():
            if handler is not None:  # set by another language's code: it cannot be set again
                signal.signal(number, handler)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within, a first signal waits for `stop_here`."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
    stop_here()


def is_asked() -> bool:
    """Whether a signal is waiting."""
    return _State.asked is not None


def stop_here() -> None:
    """Raises Stopped if a signal is waiting."""
    if _State.asked is not None:
        raise Stopped(_State.asked)


def _hear(number: int, _) -> None:
    is_first, _State.asked = _State.asked is None, number
    if not (_State.held and is_first):
        raise Stopped(number)
