"""Which SAEs to score; scoring them layer by layer, and keeping the scores."""

import time

from common.errors import UserError
from common.progress import bar
from common.text import shortened
from data.names import ATTRIBUTES
from featurizers.methods import method_named
from grid.devices import device_name
from grid.inputs import Inputs
from grid.layers import ModelInfo, methods_at, saes_of
from grid.store import Store, provenance
from quality.metrics import LayerQuality, own_logits
from quality.names import SCORES_FILE
from quality.settings import EvalSettings
from quality.store import Cell, ScoreStore
from saes.places import locate


def plan(settings: EvalSettings, info: ModelInfo) -> list[Cell]:
    """Every SAE to score, layer by layer; a family's absent layers are left out.  Raises UserError."""
    readings = (False, True) if settings.raw_residual else (False,)
    methods_by_layer = methods_at(settings, info)
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


def score(cells: list[Cell], scores: ScoreStore) -> None:
    """Score these and save after each layer.  Raises UserError."""
    if not cells:
        return
    inputs = scores.inputs
    inputs.check_saes(saes_of(cells))
    scores.store.prepare()
    layers = sorted({cell.layer for cell in cells})
    cache = inputs.activations(layers)
    rows_of = {a: inputs.prompts.rows_about(a) for a in ATTRIBUTES}
    device = inputs.settings.device
    labels = inputs.prompts.labels().to(device)
    own = {a: own_logits(inputs.subject, cache, rows) for a, rows in rows_of.items()}
    origin = provenance(device_name(device))
    with bar(total=len(cells), desc="score SAEs", unit="SAE") as scored:
        for layer in layers:
            at_layer = {
                a: LayerQuality(inputs.subject, cache, layer, rows, labels[rows], own[a]) for a, rows in rows_of.items()
            }
            fresh = []
            for cell in (c for c in cells if c.layer == layer):
                fresh += _score_cell(cell, at_layer, inputs)
                scored.update(1)
            scores.add(layer, fresh, origin)


def _score_cell(cell: Cell, at_layer: dict[str, LayerQuality], inputs: Inputs) -> list[dict]:
    release = method_named(cell.method).release
    began = time.perf_counter()
    sae = inputs.load_sae(release, cell.layer, cell.raw_residual)
    about = {"n_latents": sae.n_latents, "sae_digest": inputs.sae_digests[release, cell.layer]}
    rows = []
    for attribute, quality in at_layer.items():
        name = {"method": cell.method, "layer": cell.layer, "attribute": attribute, "raw_residual": cell.raw_residual}
        rows.append({**name, **about, **quality.score(sae)})
    seconds = round(time.perf_counter() - began, 3)
    return [{**row, "seconds": seconds} for row in rows]
