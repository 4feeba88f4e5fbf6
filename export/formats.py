"""The registry of formats that finished results are written in; imports nothing heavy.

A writer is imported when it is used, as are the libraries that it needs.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.files import write_atomically


@dataclass(frozen=True)
class Format:
    """A format: where it is written by default, below OUTPUT/MODEL/export, and the function that writes it.

    writer: MODULE.FUNCTION.  Of a single file it takes (results.estimates.Grid, path) and writes it; of a folder it
    takes (Grid, results.collecting.Found) and returns {name of a file: what writes it, given its path}.
    """

    place: str
    writer: str
    is_folder: bool = False

    def load(self) -> Callable:
        module, _, function = self.writer.rpartition(".")
        return getattr(importlib.import_module(module), function)


FORMATS = {
    "csv": Format("scores.csv", "export.plain.write_csv"),
    "parquet": Format("scores.parquet", "export.plain.write_parquet"),
    "latex": Format("table.tex", "export.tables.write_latex"),
    "markdown": Format("table.md", "export.tables.write_markdown"),
    "saebench": Format("saebench", "export.saebench.files", is_folder=True),
    "mib": Format("mib", "export.mib.files", is_folder=True),
}


def export(grid, found, name: str, to: Path | None = None) -> list[Path]:
    """Write results in a format and return the files; to: a path instead of the format's own place.

    Each file appears whole or not at all.  Raises UserError if the format cannot hold these results, or what is asked
    for cannot be written; MissingLibrary if it needs a library that is not installed.
    """
    chosen = FORMATS[name]
    path = to or found.folder / "export" / chosen.place
    if not chosen.is_folder:
        write_atomically(path, lambda temporary: chosen.load()(grid, temporary))
        return [path]
    written = []
    for file, write in chosen.load()(grid, found).items():
        write_atomically(path / file, write)
        written.append(path / file)
    return written
