"""What is freed stays with the process: counted in page faults, in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from decoder import allocation

TAKE_AND_FREE = """
import resource, sys
from decoder.allocation import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def step():
    return len([bytearray(20_000_000) for _ in range(8)])

for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(word: str) -> int:
    root = Path(allocation.__file__).parent.parent
    command = [sys.executable, "-c", TAKE_AND_FREE, word]
    return int(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_memory_is_taken_from_the_system_once():
    """160 MB taken and freed ten times: some 390,000 pages of 4 KB if the system gives them each time."""
    assert page_faults("keep") < 2_000 < 50_000 < page_faults("as it is")


@pytest.mark.parametrize("missing", ["platform", "function"])
def test_elsewhere_nothing_is_done(monkeypatch, missing):
    allocation.keep_freed_memory.cache_clear()
    if missing == "platform":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.setattr(allocation.ctypes, "CDLL", lambda _: object())
    try:
        assert not allocation.keep_freed_memory()
    finally:
        allocation.keep_freed_memory.cache_clear()
