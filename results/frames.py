"""Results as a pandas table."""

from dataclasses import asdict
from pathlib import Path

from common.errors import UserError
from imports import pd
from results.collecting import holds_results, read_finished
from results.estimates import Grid
from results.rows import COLUMNS, score_rows
from results.store import Store


def load(output: str | Path, model: str | None = None, cluster: str | None = None) -> "pd.DataFrame":
    """Every score of a model's results as a row, with the columns of `results.rows.ScoreRow`.

    output: the --output of main.py; model: as given to it, by default the only one there.
    cluster: what intervals take to be independent, an attribute, or 'entity' for each one; by
        default as main.py took it.
    Raises UserError if there are no results, or those of several models; MissingLibrary without pandas.
    """
    found = read_finished(Store(output, model).root if model else _only_folder(Path(output)))
    rows = [asdict(row) for row in score_rows(Grid(found.results, cluster, found.labels))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _only_folder(output: Path) -> Path:
    folders = [path for path in sorted(output.iterdir()) if holds_results(path)] if output.is_dir() else []
    if len(folders) != 1:
        there = f"those of {', '.join(path.name for path in folders)}; choose one by model=" if folders else "none"
        raise UserError(f"{output} does not hold the results of one model but {there}")
    return folders[0]
