"""Memory that a step frees stays with the process, for the next step to take.

glibc gives freed memory back to the system when enough of it lies together, and what is taken anew
is zeroed page by page.  A joint step of GPT-2 small lost 1 to 3 % of its time to that
(benchmarks/README.md).  A process's peak is the same.
"""

from __future__ import annotations

import ctypes
import functools
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST_TRIM = 2**31 - 1  # an int's
LARGEST_MMAP = 2**25  # the most that glibc takes on a 64-bit system: larger blocks are given back when freed


@functools.cache
def keep_freed_memory() -> bool:
    """From now on, where the C library is glibc; returns whether it agreed."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(option, value) == 1
        for option, value in ((M_MMAP_THRESHOLD, LARGEST_MMAP), (M_TRIM_THRESHOLD, LARGEST_TRIM))
    )
