"""Read a folder of results as if a stranger had filled it: what is sound is kept, what is not is named.

Nothing in `read_folder` raises because of what a file holds: a result that is damaged or was altered (results.reading)
is left out and stands in `Found.problems` with the reason.
"""

import sys
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from common.errors import UserError
from common.text import abridged, one_line
from data.names import in_order
from featurizers.methods import ordered
from results.labels import FILE as LABELS_FILE
from results.labels import read_labels
from results.reading import Damaged, read_result
from results.run import Run

cell = itemgetter("target", "method", "layer", "seed")  # of a result, as Run takes them
kind = itemgetter("model", "mode", "split")  # main.py puts one of each in a folder


@dataclass
class Found:
    """The sound results of one model."""

    folder: Path
    results: list[dict] = field(default_factory=list)  # as main.py wrote them, in the order of the grid
    labels: dict[str, str] = field(default_factory=dict)  # of users' own SAEs, by method
    problems: list[str] = field(default_factory=list)  # 'PATH (why)' of what was left out
    modified: float = 0.0  # when the newest file that is used was written, in seconds since 1970

    def leave_out(self, path: Path, why) -> None:
        self.problems.append(f"{path.relative_to(self.folder)} ({why})")

    @property
    def methods(self) -> list[str]:
        return ordered(r["method"] for r in self.results)


def holds_results(folder: Path) -> bool:
    """Whether there is any result of a run, sound or not."""
    return next(folder.glob("*/*/layer*.json"), None) is not None


def read_folder(folder: Path) -> Found:
    """Every sound result under OUTPUT/MODEL of the model, mode and split that most of them have, and the labels."""
    found = Found(folder)
    for path in sorted(folder.glob("*/*/layer*.json")):
        try:
            found.results.append(read_result(path, folder))
            found.modified = max(found.modified, path.stat().st_mtime)
        except Damaged as why:
            found.leave_out(path, why)
    _drop_foreign(found)
    order, targets = found.methods, in_order(r["target"] for r in found.results)
    found.results.sort(key=lambda r: (targets.index(r["target"]), r["layer"], order.index(r["method"]), r["seed"]))
    try:
        found.labels = read_labels(folder)
    except Damaged as why:
        found.leave_out(folder / LABELS_FILE, why)
    return found


def _drop_foreign(found: Found) -> None:
    """Results of another model, mode or split than most are not averaged with the rest."""
    counts = Counter(map(kind, found.results))
    for foreign in [result for result in found.results if kind(result) != counts.most_common(1)[0][0]]:
        found.problems.append(f"{Run(*cell(foreign))}.json (of {', '.join(kind(foreign))})")
        found.results.remove(foreign)


def read_finished(
    folder: Path,
    targets: Container[str] | None = None,
    methods: Container[str] | None = None,
    layers: Container[int] | None = None,
    seeds: Container[int] | None = None,
) -> Found:
    """The results under OUTPUT/MODEL of these targets, methods, layers and seeds; None: of all that are there.

    Says on stderr what was left out as damaged.  Raises UserError if nothing is left.
    """
    found = read_folder(folder)
    if found.problems:
        print(one_line(f"skipped: {abridged(found.problems)}"), file=sys.stderr)
    if not found.results:
        raise UserError(f"{folder} holds no results; main.py makes them; --model and --output say which are looked for")
    wanted = dict(zip(("target", "method", "layer", "seed"), (targets, methods, layers, seeds), strict=True))
    there = {key: dict.fromkeys(r[key] for r in found.results) for key in wanted}
    found.results = [r for r in found.results if all(w is None or r[key] in w for key, w in wanted.items())]
    if not found.results:
        has = "; ".join(f"{key}s {', '.join(map(str, values))}" for key, values in there.items())
        raise UserError(f"{folder} holds no result of these flags; it has {has}")
    return found
