"""Scores as data: a row for each, with the columns of results.rows.ScoreRow, as csv and as parquet."""

import csv
from dataclasses import asdict
from pathlib import Path

import imports  # and no name from it: csv needs no pyarrow
from results.estimates import Grid
from results.rows import COLUMNS, score_rows

TYPES = {str: "string", int: "int64", float: "float64", bool: "bool_", float | None: "float64", bool | None: "bool_"}


def write_csv(grid: Grid, path: Path) -> None:
    """utf-8 with a head; nothing stands for None, and a number has the digits that give it back exactly."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in score_rows(grid))


def write_parquet(grid: Grid, path: Path) -> None:
    """null stands for None.  Raises MissingLibrary without pyarrow."""
    schema = imports.pa.schema([(name, getattr(imports.pa, TYPES[kind])()) for name, kind in COLUMNS.items()])
    imports.parquet.write_table(imports.pa.Table.from_pylist([asdict(row) for row in score_rows(grid)], schema), path)
