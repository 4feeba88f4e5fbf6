"""What is there to draw of a model: its results, the quality of its SAEs, and what one would expect beside them."""

from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from data.names import in_order
from explain.files import FOLDER, read_explanation, run_of
from featurizers.methods import method_named, ordered
from grid.profiles import DEFAULT_MODEL, notice_of
from quality.names import SCORES_FILE
from results.collecting import Found, cell, holds_results, read_folder
from results.reading import Damaged, read_json
from results.run import Run
from results.shapes import QUALITY, QUALITY_ROW, fault
from results.store import Store
from saes.names import is_own
from saes.releases import RELEASES

# ---------------------------------------------------------------- reading


@dataclass
class Collection(Found):
    """What is known of one model."""

    quality: dict | None = None  # as eval_sae.py wrote it, with the sound rows only
    explanations: dict[Run, dict] = field(default_factory=dict)  # as main.py --explain wrote them

    @property
    def notice(self) -> str:
        """What must stand beside every number: as the results say, or else by the model's name; '' if nothing must."""
        return next((r["notice"] for r in self.results if r["notice"]), notice_of(self.model) or "")

    @property
    def model(self) -> str:
        """As given to main.py, or else the folder's name."""
        names = [r["model"] for r in self.results] or [self.quality["config"]["model"]] * bool(self.quality)
        return names[0] if names else self.folder.name


def collect(folder: Path) -> Collection:
    """Everything under OUTPUT/MODEL that can be drawn."""
    collection = Collection(**vars(read_folder(folder)))
    collection.quality = _read_quality(folder / SCORES_FILE, collection)
    _read_explanations(collection)
    return collection


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
    """The folders in OUTPUT that hold something of a model."""
    if not root.is_dir():
        return []

    def can_be_drawn(folder: Path) -> bool:
        return folder.is_dir() and (holds_results(folder) or (folder / SCORES_FILE).exists())

    return [folder for folder in sorted(root.iterdir()) if can_be_drawn(folder)]


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
    for method in ordered(r["method"] for r in results if method_named(r["method"]).stands_alone):
        own = {r["layer"] for r in results if r["method"] == method}
        layers, release = everywhere, method_named(method).release
        if is_own(method):
            layers = own
        elif release and not is_toy:
            layers = own | (everywhere & set(RELEASES[release].layers))
        for target in in_order(targets):
            for layer in sorted(layers):
                without = [seed for seed in sorted(seeds) if (target, method, layer, seed) not in have]
                if without:
                    which = f" seed {', '.join(map(str, without))}" if len(seeds) > 1 else ""
                    lacking.append(f"{target} {method} L{layer}{which}")
    return lacking
