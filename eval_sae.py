"""Score SAEs on the experiment's own prompts: what they reconstruct, and what splicing them in costs.

    python eval_sae.py                      every SAE of GPT-2 small
    python eval_sae.py --model toy          every SAE of the toy world, offline
    python eval_sae.py --raw-residual       and what feeding them the uncentred stream costs
    python eval_sae.py --markdown           the table for a README; --latex for a paper

What is scored is kept in OUTPUT/MODEL/sae-quality.json and not scored again; after an
interruption the same command goes on. quality.py defines the metrics.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import command
import quality_table
from bars import bar
from data.ravel_data_prep import ATTRIBUTES
from featurizers import METHODS, method_named
from files import read_config, write_json
from imports import UserError
from inputs import Inputs, depth, device_name, methods_at, read_inputs, saes_of, set_up
from quality import LayerQuality, own_logits
from results import Store, difference, provenance, shortened
from saes import locate
from settings import InputSettings, Options

FILE = "sae-quality.json"
FILE_FORMAT = 1
SAE_METHODS = [name for name, method in METHODS.items() if method.release]
TOY_NOTE = """
This is the toy world: a small model and small SAEs, trained on the prompts that
they are scored on. The table checks the machinery; it is no finding about real
models or published SAEs."""


@dataclass
class EvalSettings(InputSettings):
    """The command line of eval_sae.py."""

    style: str  # of the table: a key of quality_table.STYLES


@dataclass(frozen=True)
class Cell:
    """One SAE, read with or without centring."""

    method: str
    layer: int
    raw_residual: bool

    def matches(self, row: dict) -> bool:
        return all(row.get(key) == getattr(self, key) for key in ("method", "layer", "raw_residual"))


def read_settings(argv: list[str] | None = None) -> EvalSettings:
    """Raises UserError for whatever can be seen to be wrong without loading a model."""
    options = Options(__doc__, SAE_METHODS)
    flag = options.how.add_argument
    flag("--raw-residual", action="store_true", help="score each SAE a second time, without centring")
    table = options.parser.add_argument_group("the table").add_mutually_exclusive_group()
    for style, what in quality_table.STYLES.items():
        if style != "terminal":
            table.add_argument(f"--{style}", dest="style", action="store_const", const=style, help=what.text)
    options.parser.set_defaults(style="terminal")
    return EvalSettings(**options.read(argv))


def plan(settings: EvalSettings, n_layers: int) -> list[Cell]:
    """Every SAE to score, layer by layer; a family's absent layers are left out.  Raises UserError."""
    readings = (False, True) if settings.raw_residual else (False,)
    methods_by_layer = methods_at(settings, n_layers)
    cells = [Cell(m, layer, raw) for layer, methods in methods_by_layer.items() for m in methods for raw in readings]
    if not cells:
        raise UserError("there is nothing to score: no method asked for has an SAE at these layers; see --dry-run")
    return cells


def score_saes(settings: EvalSettings) -> None:
    """Do what the command line asks for.  Raises UserError."""
    n_layers = depth(settings)
    cells = plan(settings, n_layers)
    store = Store(settings.output, settings.model)
    if settings.dry_run:
        print_plan(cells, settings, n_layers, store)
        return
    store.require_writable()
    set_up(settings)
    inputs = read_inputs(settings, saes_of(cells))
    report = Report(store, inputs)
    report.score([cell for cell in cells if settings.force or not report.has(cell)])
    rows = [row for cell in cells for row in report.rows_of(cell)]
    print(quality_table.STYLES[settings.style].write(settings.model, len(inputs.prompts), rows))
    if settings.toy_folder and settings.style == "terminal":
        print(TOY_NOTE)
    print(f"\nscores: {report.path}", file=sys.stdout if settings.style == "terminal" else sys.stderr)


def print_plan(cells: list[Cell], settings: EvalSettings, n_layers: int, store: Store) -> None:
    for method in dict.fromkeys(cell.method for cell in cells):
        layers = sorted({cell.layer for cell in cells if cell.method == method})
        release = method_named(method).release
        missing = [n for n in layers if not locate(release, settings.saes, n, n_layers).exists()]
        lacks = f"  (missing: {' '.join(map(str, missing))})" if missing and settings.model != "toy" else ""
        print(f"{shortened(method, 14):<14} layers {' '.join(map(str, layers))}{lacks}")
    print(f"{len(cells)} SAEs to score; scores:\n{store.root / FILE}")


# ---------------------------------------------------------------- the file of scores


class Report:
    """OUTPUT/MODEL/sae-quality.json: its rows, and adding to them."""

    def __init__(self, store: Store, inputs: Inputs):
        """Raises UserError if a file is there that is broken or was made with other settings (unless --force)."""
        self.store = store
        self.inputs = inputs
        self.path = store.root / FILE
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
        self.rows: list[dict] = []
        if self.path.exists():
            self.rows = self._kept()

    def _kept(self) -> list[dict]:
        force = self.inputs.settings.force
        try:
            content = read_config(self.path)
            config, rows = content["config"], content["rows"]
            if not all(isinstance(row, dict) for row in rows):
                raise TypeError
            differs = difference(config, self.config)
        except (UserError, KeyError, TypeError, AttributeError):
            if force:
                return []
            raise UserError(
                f"cannot read the scores in {self.path}; remove the file, or redo it with --force"
            ) from None
        if differs and not force:
            raise UserError(
                f"{self.path} was made with another configuration ({differs}); redo it with --force, or keep both "
                "with another --output"
            )
        if differs:
            return []
        for row in rows:
            # A method that needs SAEs bears the name of their release.
            digest = self.inputs.sae_digests.get((row.get("method"), row.get("layer")), row.get("sae_digest"))
            if row.get("sae_digest") != digest and not force:
                raise UserError(
                    f"{self.path} was made with another {row['method']} SAE of layer {row['layer']}; redo it with "
                    "--force, or keep both with another --output"
                )
        return rows

    def has(self, cell: Cell) -> bool:
        return bool(self.rows_of(cell))

    def rows_of(self, cell: Cell) -> list[dict]:
        return [row for row in self.rows if cell.matches(row)]

    def score(self, cells: list[Cell]) -> None:
        """Score these and save after each layer."""
        if not cells:
            return
        self.inputs.check_saes(saes_of(cells))
        self.store.prepare()
        inputs, device = self.inputs, self.inputs.settings.device
        layers = sorted({cell.layer for cell in cells})
        harvest = inputs.subject.harvest(inputs.prompts, layers)
        rows_of = {a: [inputs.prompts.row(a, i) for i in range(len(inputs.prompts))] for a in ATTRIBUTES}
        own = {a: own_logits(inputs.subject, harvest, rows) for a, rows in rows_of.items()}
        self.origin = provenance(device_name(device))
        with bar(total=len(cells), desc="score SAEs", unit="SAE") as scored:
            for layer in layers:
                at_layer = {
                    a: LayerQuality(inputs.subject, harvest, layer, rows, inputs.prompts.labels[a].to(device), own[a])
                    for a, rows in rows_of.items()
                }
                fresh = []
                for cell in (c for c in cells if c.layer == layer):
                    fresh += self._score_cell(cell, at_layer)
                    scored.update(1)
                again = {(row["method"], row["raw_residual"]) for row in fresh}
                self.rows = [
                    r for r in self.rows if r["layer"] != layer or (r["method"], r["raw_residual"]) not in again
                ]
                self.rows += fresh
                self._save()

    def _score_cell(self, cell: Cell, at_layer: dict[str, LayerQuality]) -> list[dict]:
        release = method_named(cell.method).release
        began = time.perf_counter()
        sae = self.inputs.load_sae(release, cell.layer, cell.raw_residual)
        rows = []
        for attribute, quality in at_layer.items():
            rows.append(
                {
                    "method": cell.method,
                    "layer": cell.layer,
                    "attribute": attribute,
                    "raw_residual": cell.raw_residual,
                    "n_latents": sae.n_latents,
                    "sae_digest": self.inputs.sae_digests[release, cell.layer],
                    **quality.score(sae),
                }
            )
        seconds = round(time.perf_counter() - began, 3)
        return [{**row, "seconds": seconds} for row in rows]

    def _save(self) -> None:
        order = {method: i for i, method in enumerate(METHODS)}
        self.rows.sort(
            key=lambda r: (r["layer"], order.get(r["method"], len(order)), r["raw_residual"], r["attribute"])
        )
        write_json(self.path, {"format": FILE_FORMAT, "config": self.config, "rows": self.rows, **self.origin})


def main(argv: list[str] | None = None) -> int:
    return command.run(
        lambda: score_saes(read_settings(argv)),
        interrupted="finished layers are kept; run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
