"""How a command ends: exit code 0, 2 for what the user can put right, 128 + its number for a signal; and what it took.

Ctrl-C is signal 2, so 130; SIGTERM 143.
"""

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError
from common.stopping import Stopped, listening
from imports import MissingLibrary


def run(work: Callable[[], object], interrupted: str) -> int:
    """Do the work and return the exit code; errors of the user are one line, bugs keep their traceback.

    interrupted: what to tell after ctrl-C or SIGTERM.
    """
    try:
        with listening(signal.SIGINT, signal.SIGTERM):
            work()
        sys.stdout.flush()
    except (UserError, MissingLibrary) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which need not be loaded here
            raise
        print("error: the device is out of memory; use --dtype bfloat16, or another --device", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as in `main.py | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        # Files are written through `common.files.writing`, which says which: it is stdout that is full.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("error: cannot write to stdout: no space left on its device; results on disk are whole", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped()
        print(f"\n{stopped}: {interrupted}", file=sys.stderr)
        return 128 + stopped.number
    return 0


def peak_gb() -> float:
    """The most memory this process has held so far, in units of 10^9 bytes; files mapped into it count."""
    try:  # Linux: of this program alone; getrusage's figure is at least that of the process which started it
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024) / 1e9  # kibibytes, but bytes on macOS


def peak_memory(device: str) -> str:
    """One line: the most memory that was held, here and on the device."""
    line = f"peak memory {peak_gb():.1f} GB"
    if device != "cuda":
        return line
    from imports import torch  # here, as commands parse their flags before they import torch

    return f"{line}, on the GPU {torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
