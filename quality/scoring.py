"""Score SAEs layer by layer, and keep the scores."""

from __future__ import annotations

import time

from common.progress import bar
from data.names import ATTRIBUTES
from featurizers.methods import method_named
from grid.devices import device_name
from grid.inputs import Inputs
from grid.layers import saes_of
from grid.store import provenance
from quality.metrics import LayerQuality, own_logits
from quality.plan import Cell
from quality.store import ScoreStore


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
    labels = inputs.prompts.labels().to(inputs.settings.device)
    own = {a: own_logits(inputs.subject, cache, rows) for a, rows in rows_of.items()}
    device = inputs.settings.device
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
    rows = [
        {
            "method": cell.method,
            "layer": cell.layer,
            "attribute": attribute,
            "raw_residual": cell.raw_residual,
            "n_latents": sae.n_latents,
            "sae_digest": inputs.sae_digests[release, cell.layer],
            **quality.score(sae),
        }
        for attribute, quality in at_layer.items()
    ]
    seconds = round(time.perf_counter() - began, 3)
    return [{**row, "seconds": seconds} for row in rows]
