"""Run three commands at once on one folder, again and again: the same toy grid, and grids that overlap.

    python benchmarks/together.py              20 times
    python benchmarks/together.py --times 3

They start up to a second after each other, with one process or two, layer by layer or method by method. Each time every
cell must be done once (its file is watched), all results must be those of a command alone, and no file be left over.
Those that go method by method are compared with one that does, as fewer masks then train in one pass.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from kills import contents, require_same, start

PARTS = ((), ("--methods", "das", "bloom"), ("--layers", "2", "3"), ("--targets", "country"))  # of the grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, cells = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as around:
        wanted = {}
        for per in ("layer", "method"):
            # One run at a time: whether runs train together must not depend on what others have done by then.
            assert start(Path(around, per), "--per", per, "--joint", "1").wait() == 0
            wanted[per] = contents(Path(around, per))
        require_same(wanted["layer"], wanted["method"])
        for number in range(args.times):
            folder = Path(around, f"together{number}")
            seen = together(folder, rng)
            assert all(len(stamps) == 1 for stamps in seen.values()), "a cell was done twice"
            found = contents(folder)
            assert seen.keys() == found.keys()
            require_same(found, {name: wanted["layer"][name] for name in found})
            cells += len(found)
            print(f"{number + 1} times, {cells} cells", file=sys.stderr)
    print(f"3 commands at once, {args.times} times: each of {cells} cells done once and the same, nothing left over")


def together(folder: Path, rng: random.Random) -> dict[str, set]:
    """Three commands, until all have ended well; by result file the stamps that were seen of it."""
    commands, seen = [], {}
    for _ in range(3):
        flags = ("--workers", str(rng.choice((1, 2))), "--per", rng.choice(("layer", "method")), "--joint", "1")
        commands.append(start(folder, *rng.choice(PARTS), *flags))
        time.sleep(rng.uniform(0, 1))
    while any(command.poll() is None for command in commands):
        look(folder, seen)
        time.sleep(0.02)
    assert [command.poll() for command in commands] == [0, 0, 0]
    look(folder, seen)
    return seen


def look(folder: Path, seen: dict[str, set]) -> None:
    for path in folder.glob("*/*/*/layer*.json"):
        stat = path.stat()
        seen.setdefault(str(path.relative_to(folder)), set()).add((stat.st_ino, stat.st_mtime_ns))


if __name__ == "__main__":
    main()
