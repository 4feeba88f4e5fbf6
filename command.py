"""How a command ends: exit code 0, 2 for what the user can put right, 130 for an interruption."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from imports import UserError


def run(work: Callable[[], object], interrupted: str) -> int:
    """Do the work and return the exit code; errors of the user are one line, bugs keep their traceback.

    interrupted: what to tell after ctrl-C.
    """
    try:
        work()
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:  # as in `main.py | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted: {interrupted}", file=sys.stderr)
        return 130
    return 0
