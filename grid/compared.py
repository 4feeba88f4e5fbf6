"""Two methods, or a method at two layers, compared in finished results: as a table, and as a file."""

from dataclasses import asdict
from pathlib import Path

from common.errors import UserError
from common.files import write_json
from common.text import shortened
from featurizers.methods import BASELINES, ordered, parts_of
from grid.finished import Side
from grid.table import comparison_lines, interval_lines
from results.differences import Comparison, Contrast
from results.estimates import Grid
from results.run import file_name
from results.store import Store


def contrasts(grid: Grid, a: Side, b: Side) -> list[Contrast]:
    """A minus B at the layers that they name, or at each where both were run."""
    if a[1] is not None:
        return [Contrast(*a, *b)]
    return [Contrast(a[0], layer, b[0], layer) for layer in grid.layers]


def compare(grid: Grid, a: Side, b: Side, mask: str) -> list[Comparison]:
    """Raises UserError if there is nothing to compare."""
    found = grid.contrast(contrasts(grid, a, b), mask)
    if not found:
        raise UserError(f"nothing to compare: {_why_nothing(grid, a, b)}")
    return found


def _why_nothing(grid: Grid, a: Side, b: Side) -> str:
    for method, layer in (a, b):
        layers = [at for at in grid.layers if any(grid.hits(t, method, at, "hard") for t in grid.targets)]
        if not layers or layer not in (None, *layers):
            every = ordered([*BASELINES, *(m for _, m, _ in grid.cells)])
            has = f"layers {', '.join(map(str, layers))}" if layers else f"methods {', '.join(every)}"
            size = parts_of(method).size
            hint = f" (layer {size} is written @L{size})" if size and not layers else ""
            return f"no results of {method}{'' if layer is None else f' at layer {layer}'}{hint}; there are {has}"
    if any(layer is not None and grid.is_last_block(layer) for _, layer in (a, b)):
        return "at the last block nothing can be learned; name another layer"
    return f"{a[0]} and {b[0]} have no layer and seed in common; run the one where the other was run"


def comparison_table(grid: Grid, a: Side, b: Side, mask: str) -> str:
    """The differences, target by target, as text of at most 80 columns."""
    first, n = grid.results[0], len(grid.seeds)
    about = f"{shortened(first['model'], 26)}, mode {first['mode']}, split by {first['split']}, {n} seed{'s' * (n > 1)}"
    return "\n".join([about, *comparison_lines(compare(grid, a, b, mask), mask, grid), *interval_lines(grid)])


def write_comparison(grid: Grid, a: Side, b: Side, mask: str, store: Store) -> Path:
    """OUTPUT/MODEL/compare/A-minus-B.json: every comparison, as estimates.json has them; returns its path."""
    names = (method + ("" if layer is None else f"@L{layer}") for method, layer in (a, b))
    path = store.root / "compare" / f"{file_name('-minus-'.join(names))}.json"
    content = {
        "model": grid.results[0]["model"],
        "seeds": grid.seeds,
        "interval_unit": grid.unit,
        "labels": grid.labels,
        "differences": [asdict(c) | {"mask": mask} for c in compare(grid, a, b, mask)],
        "notice": grid.notice or None,
    }
    write_json(path, content)
    return path
