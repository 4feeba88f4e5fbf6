"""The flags that say where work is done, and how it is shared out; imports nothing heavy."""

import argparse
import re
import sys
from collections.abc import Callable

from common.errors import UserError
from common.text import meant
from grid.launchers import LAUNCHERS

PER = {  # what a process takes at a time (grid.shares)
    "layer": "a layer with all its methods, which then train together",
    "method": "one method of a layer, for more GPUs than layers",
}


def add_flags(group: argparse._ArgumentGroup) -> Callable:
    """Returns what adds a flag that excludes --status and --collect."""
    flag = group.add_argument
    where = ", ".join(f"{name}: {launcher.about}" for name, launcher in LAUNCHERS.items())
    flag("--launcher", nargs="+", default=["here"], metavar="NAME", help=f"{where} (here)")
    flag("--workers", type=int, metavar="N", help="the same as --launcher processes N")
    flag("--gpus", type=int, metavar="N", help="GPUs that the processes share out (all that are there)")
    flag("--slurm", nargs="+", default=[], metavar="OPTION=VALUE", help="for sbatch: partition=gpu time=60 gpus=1 ...")
    shares = "; ".join(f"{name}: {about}" for name, about in PER.items())
    flag("--per", choices=PER, default="layer", help=f"what a process takes at a time; {shares} (%(default)s)")
    instead = group.add_mutually_exclusive_group().add_argument
    instead("--status", action="store_true", help="print how far the work is, by whom, and stop")
    instead("--collect", action="store_true", help="print the table of what is there, and stop")
    return instead


def read_flags(args: dict, argv: list[str] | None) -> None:
    """Complete and check them, in args.  Raises UserError."""
    args["launcher"], args["workers"] = _launcher(args["launcher"], args["workers"])
    args["slurm"] = _slurm_options(args["slurm"], args["launcher"])
    args["argv"] = sys.argv[1:] if argv is None else list(argv)


def _launcher(words: list[str], workers: int | None) -> tuple[str, int]:
    """--launcher NAME [N] and --workers N -> (name, number of processes).  Raises UserError if they disagree."""
    name, *number = words
    if name not in LAUNCHERS:
        known = ", ".join(LAUNCHERS)
        raise UserError(f"unknown launcher {name!r}{meant(name, list(LAUNCHERS))}; known are {known}")
    if number and (name != "processes" or len(number) > 1 or not number[0].isdecimal() or int(number[0]) < 1):
        raise UserError(f"--launcher {' '.join(words)} makes no sense; only processes has a number, as in processes 4")
    if number and workers not in (None, int(number[0])):
        raise UserError(f"--launcher processes {number[0]} and --workers {workers} disagree; leave one out")
    if workers is not None and workers > 1 and name == "here":
        name = "processes"
    if workers is not None and name == "slurm":
        raise UserError("--workers is of this machine; for Slurm say how many tasks run at once: --slurm array=8")
    return name, int(number[0]) if number else workers or (2 if name == "processes" else 1)


def _slurm_options(pairs: list[str], launcher: str) -> dict[str, str]:
    """['time=60', ..] -> {'time': '60', ..}.  Raises UserError."""
    for pair in pairs:
        if not re.fullmatch(r"[a-z][a-z_-]*=.+", pair):
            raise UserError(f"--slurm {pair!r} is no option of sbatch; write them as partition=gpu time=60 mem=16G")
    if pairs and launcher != "slurm":
        raise UserError(f"--slurm plays no part with --launcher {launcher}; say --launcher slurm, or leave it out")
    return {name.replace("_", "-"): value for name, _, value in (pair.partition("=") for pair in pairs)}
