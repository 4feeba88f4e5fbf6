"""Which SAEs to score; scoring them layer by layer, and keeping the scores in OUTPUT/MODEL/sae-quality.json."""

import time
from dataclasses import dataclass

from common.errors import UserError
from common.files import read_config, write_json
from common.progress import bar
from common.text import shortened
from featurizers.methods import METHODS, method_named
from grid.devices import device_name
from grid.inputs import Inputs
from grid.layers import ModelInfo, methods_at, saes_of
from quality.metrics import LayerQuality, own_logits
from quality.names import SCORES_FILE
from quality.settings import EvalSettings
from results.provenance import difference, provenance
from results.store import Store
from saes.releases import locate

FILE_FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One SAE, read with or without centring."""

    method: str
    layer: int
    raw_residual: bool


def plan(settings: EvalSettings, info: ModelInfo) -> list[Cell]:
    """List the SAEs to score, layer by layer; a family's absent layers are left out.  Raises UserError."""
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


def score(cells: list[Cell], scores: "ScoreStore") -> None:
    """Score these and save after each layer.  Raises UserError."""
    if not cells:
        return
    inputs = scores.inputs
    inputs.check_saes(saes_of(cells))
    scores.store.prepare()
    layers = sorted({cell.layer for cell in cells})
    cache = inputs.activations(layers)
    rows_of = {a: inputs.prompts.rows_about(a) for a in inputs.prompts.attributes}
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


class ScoreStore:
    """The file of scores: its rows, and adding to them."""

    def __init__(self, store: Store, inputs: Inputs):
        """Raises UserError if a file is there that is broken or was made with other settings (unless --force)."""
        self.store, self.inputs = store, inputs
        self.path = store.root / SCORES_FILE
        s = inputs.settings
        self.config = {
            "format": FILE_FORMAT,
            "model": s.model,
            "model_digest": inputs.model_digest,
            "prompt": s.prompt,
            "unfiltered": s.unfiltered,
            "n_cities": len(inputs.prompts),
            "cities_digest": inputs.prompts.digest(),
        }
        self.rows: list[dict] = self._kept() if self.path.exists() else []

    def _kept(self) -> list[dict]:
        """Read the rows that are still valid.  Raises UserError as above."""
        wrong, rows, digests = "", [], self.inputs.sae_digests
        try:
            content = read_config(self.path)
            differs = difference(content["config"], self.config)
            rows = content["rows"]
            # A method that needs SAEs bears the name of their release.
            of_another = [
                f"{row['method']} SAE of layer {row['layer']}"
                for row in rows
                if row.get("sae_digest") != digests.get((row.get("method"), row.get("layer")), row.get("sae_digest"))
            ]
        except (UserError, KeyError, TypeError, AttributeError):
            wrong, rows = f"cannot read the scores in {self.path}; remove the file, or redo it with --force", []
        else:
            if differs:
                wrong, rows = f"another configuration ({differs})", []
            elif of_another:
                wrong = f"another {of_another[0]}"
            if wrong:
                wrong = f"{self.path} was made with {wrong}; redo it with --force, or keep both with another --output"
        if wrong and not self.inputs.settings.force:
            raise UserError(wrong)
        return rows

    def rows_of(self, cell: Cell) -> list[dict]:
        names = ("method", "layer", "raw_residual")
        return [row for row in self.rows if cell == Cell(*map(row.get, names))]

    def add(self, layer: int, fresh: list[dict], origin: dict) -> None:
        """Replace the rows of the same SAEs at a layer, and save.

        origin: what computed them, as `results.provenance.provenance` tells it.
        """
        again = {(row["method"], row["raw_residual"]) for row in fresh}
        self.rows = [r for r in self.rows if r["layer"] != layer or (r["method"], r["raw_residual"]) not in again]
        self.rows += fresh
        order = {method: i for i, method in enumerate(METHODS)}
        self.rows.sort(
            key=lambda r: (r["layer"], order.get(r["method"], len(order)), r["raw_residual"], r["attribute"])
        )
        write_json(self.path, {"format": FILE_FORMAT, "config": self.config, "rows": self.rows, **origin})
