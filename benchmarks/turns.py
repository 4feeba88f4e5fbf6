"""One clock, what takes turns on it, and what is printed of it."""

import datetime
import statistics
import time
from collections.abc import Callable

from machine import machine

from imports import torch, transformers

BATCH_SIZE = 16


def one_thread() -> None:
    """Compute on one thread, and print where and with what."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{datetime.date.today()}, {machine()}, 1 thread; batch {BATCH_SIZE}; milliseconds of processor time")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}\n", flush=True)


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that this process was on a processor: what others take of a shared machine does not count."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def in_turns(n: int, *steps: Callable[[], float], warm_up: int = 1) -> list[list[float]]:
    """The times that each step returns, n rounds over, the first `warm_up` rounds left out."""
    rounds = [[step() for step in steps] for _ in range(warm_up + n)][warm_up:]
    return [list(times) for times in zip(*rounds, strict=True)]


def ratios(above: list[float], below: list[float]) -> list[float]:
    """Round by round, so that a machine that is slow for a while slows both."""
    return [a / b for a, b in zip(above, below, strict=True)]


def shown(times: list[list[float]]) -> str:
    return " ".join(f"{statistics.median(column):8.0f}" for column in times)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.2f} {min(values):7.2f} {max(values):7.2f}"


def verdict(what: str, values: list[float], least: float | None = None, most: float | None = None) -> str:
    found = statistics.median(values)
    is_met = found >= least if most is None else found <= most
    limit = f"at least {least}" if most is None else f"at most {most}"
    return f"wanted: {what} {limit}: {found:.2f}, {'met' if is_met else 'MISSED'}"
