"""Read a folder of results as if a stranger had filled it: what is sound is kept, what is not is named.

Nothing here raises because of what a file holds: a result that is damaged or was altered (results.reading) is left
out and stands in `Collection.problems` with the reason.
"""

from collections import Counter
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from common.errors import UserError
from common.paths import HOME
from data.names import ATTRIBUTES
from explain.files import FOLDER, read_explanation, run_of
from featurizers.methods import method_named, ordered
from grid.profiles import DEFAULT_MODEL, notice_of
from quality.names import SCORES_FILE
from results.reading import Damaged, read_json, read_result
from results.run import Run
from results.shapes import QUALITY, QUALITY_ROW, fault
from results.store import Store
from saes.names import is_own
from saes.releases import RELEASES

PAPER_RESULTS = HOME / "data" / "paper_results.json"
cell = itemgetter("target", "method", "layer", "seed")  # of a result, as Run takes them
kind = itemgetter("model", "mode", "split")  # main.py puts one of each in a folder


# ---------------------------------------------------------------- reading


@dataclass
class Collection:
    """What is known of one model."""

    folder: Path
    results: list[dict] = field(default_factory=list)  # as main.py wrote them, in the order of the grid
    quality: dict | None = None  # as eval_sae.py wrote it, with the sound rows only
    explanations: dict[Run, dict] = field(default_factory=dict)  # as main.py --explain wrote them
    problems: list[str] = field(default_factory=list)  # 'PATH (why)' of what was left out
    modified: float = 0.0  # when the newest file that is used was written, in seconds since 1970

    @property
    def notice(self) -> str:
        """What must stand beside every number: as the results say, or else by the model's name; '' if nothing must."""
        return next((r["notice"] for r in self.results if r["notice"]), notice_of(self.model) or "")

    @property
    def model(self) -> str:
        """As given to main.py, or else the folder's name."""
        names = [r["model"] for r in self.results] or [self.quality["config"]["model"]] * bool(self.quality)
        return names[0] if names else self.folder.name

    def leave_out(self, path: Path, why) -> None:
        self.problems.append(f"{path.relative_to(self.folder)} ({why})")


def collect(folder: Path) -> Collection:
    """Everything under OUTPUT/MODEL that can be drawn."""
    collection = Collection(folder)
    for path in sorted(folder.glob("*/*/layer*.json")):
        try:
            collection.results.append(read_result(path, folder))
            collection.modified = max(collection.modified, path.stat().st_mtime)
        except Damaged as why:
            collection.leave_out(path, why)
    _drop_foreign(collection)
    order = ordered(r["method"] for r in collection.results)
    collection.results.sort(
        key=lambda r: (ATTRIBUTES.index(r["target"]), r["layer"], order.index(r["method"]), r["seed"])
    )
    collection.quality = _read_quality(folder / SCORES_FILE, collection)
    _read_explanations(collection)
    return collection


def _drop_foreign(collection: Collection) -> None:
    """Results of another model, mode or split than most are not averaged with the rest."""
    counts = Counter(map(kind, collection.results))
    for foreign in [result for result in collection.results if kind(result) != counts.most_common(1)[0][0]]:
        collection.problems.append(f"{Run(*cell(foreign))}.json (of {', '.join(kind(foreign))})")
        collection.results.remove(foreign)


def _read_explanations(collection: Collection) -> None:
    """Those of the results that were read, in their order."""
    digests = {Run(*cell(r)): r["digest"] for r in collection.results}
    found = {}
    for path in sorted((collection.folder / FOLDER).glob("*/*/layer*.json")):
        try:
            explanation = read_explanation(path, collection.folder)
            if explanation["made_from"]["result"] != digests.get(run_of(explanation)):
                raise Damaged("its result is another by now; run --explain again")
            found[run_of(explanation)] = explanation
            collection.modified = max(collection.modified, path.stat().st_mtime)
        except Damaged as why:
            collection.leave_out(path, why)
    collection.explanations = {run: found[run] for run in digests if run in found}


def _read_quality(path: Path, collection: Collection) -> dict | None:
    if not path.exists():
        return None
    try:
        quality = read_json(path, QUALITY)
    except Damaged as why:
        collection.leave_out(path, why)
        return None
    rows = []
    for i, row in enumerate(quality["rows"]):
        why = fault(row, QUALITY_ROW)
        if why:
            collection.problems.append(f"{path.name} (row {i + 1}: {why})")
        else:
            rows.append({"raw_residual": False, **row})
    if not rows:
        collection.problems.append(f"{path.name} (no rows)")
        return None
    collection.modified = max(collection.modified, path.stat().st_mtime)
    return {**quality, "rows": rows}


# ---------------------------------------------------------------- which folder


def model_folders(root: Path) -> list[Path]:
    """The folders in OUTPUT that hold results of a model."""
    if not root.is_dir():
        return []

    def holds_results(folder: Path) -> bool:
        runs = (path for target in ATTRIBUTES for path in folder.glob(f"{target}/*/layer*.json"))
        return next(runs, None) is not None or (folder / SCORES_FILE).exists()

    return [folder for folder in sorted(root.iterdir()) if folder.is_dir() and holds_results(folder)]


def choose_folder(root: Path, named: bool, model: str | None) -> Path | None:
    """The folder of results to draw; None on a fresh clone, where nothing was named and there is nothing.

    named: the user asked for `root` by name.  Raises UserError if what was asked for
    is not there, or if several models are and none is the default.
    """
    try:
        folders = model_folders(root)
    except OSError as error:
        raise UserError(f"cannot read {root}: {error.strerror}; name another folder with --results") from None
    names = ", ".join(folder.name for folder in folders)
    if model is not None:
        folder = Store(root, model).root
        if folder not in folders:
            there = f"there are: {names}" if names else f"make them with main.py --model {model}"
            raise UserError(f"no results of {model} in {root}; {there}")
        return folder
    if not folders:
        if named:
            what = "holds no results" if root.is_dir() else "is no folder"
            raise UserError(f"{root} {what}; name the --output of main.py, or leave out --results")
        return None
    default = Store(root, DEFAULT_MODEL).root
    if len(folders) > 1 and default not in folders:
        raise UserError(f"{root} holds results of several models; choose one with --model: {names}")
    return default if default in folders else folders[0]


# ---------------------------------------------------------------- what is missing


def missing(results: list[dict]) -> list[str]:
    """Cells of the grid that the rest of the results lets one expect, as 'country das L2 seed 1'.

    A method's layers are those at which anything was run; an SAE family's only those
    that were published, unless the family has others here.
    """
    if not results:
        return []
    have = set(map(cell, results))
    targets, seeds = ({r[key] for r in results} for key in ("target", "seed"))
    everywhere = {r["layer"] for r in results}
    is_toy = results[0]["model"] == "toy"  # its SAEs lie at every layer
    lacking = []
    for method in ordered(r["method"] for r in results if not method_named(r["method"]).control):
        own = {r["layer"] for r in results if r["method"] == method}
        layers = everywhere
        if is_own(method):
            layers = own
        elif method in RELEASES and not is_toy:
            layers = own | (everywhere & set(RELEASES[method].layers))
        for target in sorted(targets, key=ATTRIBUTES.index):
            for layer in sorted(layers):
                without = [seed for seed in sorted(seeds) if (target, method, layer, seed) not in have]
                if without:
                    which = f" seed {', '.join(map(str, without))}" if len(seeds) > 1 else ""
                    lacking.append(f"{target} {method} L{layer}{which}")
    return lacking


def abridged(items: list[str], most: int = 6) -> str:
    """'a; b; c and 4 more': a list that stays one line."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + rest
