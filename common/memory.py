"""Go on with less at once where memory runs out."""

import gc
from collections.abc import Callable

from common.errors import UserError
from common.progress import say
from imports import torch


class AtOnce:
    """How many of something are taken at once: as many as asked for, half as many for good once memory ran out.

    what: in words, as 'test pairs'.
    """

    def __init__(self, n: int, what: str):
        self.n, self.what = n, what

    def __call__(self, work: Callable[[int], object]):
        """work(n), again with half of n where memory runs out.  Raises UserError if one at a time are too many."""
        while True:
            try:
                return work(self.n)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Only here the tensors of what failed are let go: the error held them.
            _release()
            if self.n == 1:
                raise UserError(
                    f"out of memory even with {self.what} one at a time; use a smaller --batch-size, --dtype bfloat16, "
                    "or another --device"
                )
            self.n = (self.n + 1) // 2
            say(f"note: out of memory; from now on {self.n} {self.what} at a time")


def is_out_of_memory(error: BaseException) -> bool:
    """A device's allocator has an error of its own; the processor's only a text."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator: can't allocate memory" in str(error)


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
