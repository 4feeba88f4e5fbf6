"""Which SAEs to score, and how a dry run prints them."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import UserError
from common.text import shortened
from featurizers.methods import method_named
from grid.layers import methods_at
from grid.store import Store
from quality.names import SCORES_FILE
from quality.settings import EvalSettings
from saes.places import locate


@dataclass(frozen=True)
class Cell:
    """One SAE, read with or without centring."""

    method: str
    layer: int
    raw_residual: bool

    def matches(self, row: dict) -> bool:
        return all(row.get(key) == getattr(self, key) for key in ("method", "layer", "raw_residual"))


def plan(settings: EvalSettings, n_layers: int) -> list[Cell]:
    """Every SAE to score, layer by layer; a family's absent layers are left out.  Raises UserError."""
    readings = (False, True) if settings.raw_residual else (False,)
    methods_by_layer = methods_at(settings, n_layers)
    cells = [Cell(m, layer, raw) for layer, methods in methods_by_layer.items() for m in methods for raw in readings]
    if not cells:
        raise UserError("there is nothing to score: no method asked for has an SAE at these layers; see --dry-run")
    return cells


def print_plan(cells: list[Cell], settings: EvalSettings, n_layers: int, store: Store) -> None:
    for method in dict.fromkeys(cell.method for cell in cells):
        layers = sorted({cell.layer for cell in cells if cell.method == method})
        release = method_named(method).release
        missing = [n for n in layers if not locate(release, settings.saes, n, n_layers).exists()]
        lacks = f"  (missing: {' '.join(map(str, missing))})" if missing and settings.model != "toy" else ""
        print(f"{shortened(method, 14):<14} layers {' '.join(map(str, layers))}{lacks}")
    print(f"{len(cells)} SAEs to score; scores:\n{store.root / SCORES_FILE}")
