"""Which SAEs to score, and scoring them: here, in several processes, or on other machines (grid.launchers)."""

import functools
import time
from dataclasses import dataclass, field

from common.errors import UserError
from common.leases import Lease
from common.stopping import stop_here
from common.text import shortened
from featurizers.methods import method_named
from grid.devices import choose_device, device_name
from grid.inputs import Inputs, read_inputs, set_up
from grid.layers import ModelInfo, methods_at, model_info, saes_of
from grid.progress import Progress
from grid.shares import Share, share_of, shared_out
from grid.work import Work
from quality.metrics import LayerQuality, own_logits
from quality.names import SCORES_FILE, WORK
from quality.scores import Cell, ScoreStore, cell_of, there
from quality.settings import EvalSettings, read_settings
from results.provenance import provenance
from results.store import Store
from saes.releases import locate


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


@dataclass
class ScoringWork(Work):
    """SAEs to score."""

    inputs: Inputs
    store: Store
    cells: list[Cell]
    scores: ScoreStore
    replaced: dict[Cell, list[dict]] = field(default_factory=dict)  # with --force: rows that do not count
    done_here: set[Cell] = field(default_factory=set)

    @functools.cached_property
    def by_share(self) -> dict[Share, list[Cell]]:
        return shared_out(self.cells, self.settings.per, WORK)

    def look(self) -> None:
        self.scores.look()

    def is_done(self, cell: Cell) -> bool:
        rows = self.scores.by_cell.get(cell)
        return cell in self.done_here or (rows is not None and rows != self.replaced.get(cell))

    def size(self) -> tuple[int, int]:
        return len(self.cells), 0

    def count(self) -> tuple[int, int, float | None, float | None]:
        self.look()
        return sum(map(self.is_done, self.cells)), 0, None, None


class Scorer:
    """Scores SAEs, share by share.  A worker of `grid.work`."""

    def __init__(self, work: ScoringWork, shown: bool = True):
        inputs = work.inputs
        self.work = work
        self.cache = inputs.activations(sorted({cell.layer for cell in work.cells}), shown)
        self.rows_of = {a: inputs.prompts.rows_about(a) for a in inputs.prompts.attributes}
        self.labels = inputs.prompts.labels().to(inputs.settings.device)
        self.own = {a: own_logits(inputs.subject, self.cache, rows) for a, rows in self.rows_of.items()}
        self.origin = provenance(device_name(inputs.settings.device))
        self.at: tuple[int, dict[str, LayerQuality]] | None = None  # the layer that was last at hand

    def do(self, share: Share, progress: Progress, lease: Lease) -> None:
        progress.begin_share(lease, 0, 0)
        for cell in self.work.unfinished(share):
            stop_here()
            progress.begin(f"{shortened(cell.method, 17)} L{cell.layer}")
            rows = self._score(cell)
            lease.require()
            self.work.scores.add(rows, self.origin)
            self.work.done_here.add(cell)
            progress.cell()

    def _score(self, cell: Cell) -> list[dict]:
        inputs = self.work.inputs
        release = method_named(cell.method).release
        began = time.perf_counter()
        sae = inputs.load_sae(release, cell.layer, cell.raw_residual)
        about = {"n_latents": sae.n_latents, "sae_digest": inputs.sae_digests[release, cell.layer]}
        rows = []
        for attribute, quality in self._at(cell.layer).items():
            rows.append(
                {
                    **{"method": cell.method, "layer": cell.layer, "attribute": attribute},
                    "raw_residual": cell.raw_residual,
                    **about,
                    **quality.score(sae),
                }
            )
        seconds = round(time.perf_counter() - began, 3)
        return [{**row, "seconds": seconds} for row in rows]

    def _at(self, layer: int) -> dict[str, LayerQuality]:
        if self.at is None or self.at[0] != layer:
            subject = self.work.inputs.subject
            found = {
                a: LayerQuality(subject, self.cache, layer, rows, self.labels[rows], self.own[a])
                for a, rows in self.rows_of.items()
            }
            self.at = layer, found
        return self.at[1]


@dataclass(frozen=True)
class Again:
    """A share of the SAEs, to be scored on another machine.  argv: of eval_sae.py."""

    argv: list[str]
    share: Share

    def __call__(self) -> "Scoring":
        settings = read_settings(self.argv, "")
        choose_device(settings)
        cells = [c for c in plan(settings, model_info(settings)) if share_of(c, settings.per, WORK) == self.share]
        settings.layers = [self.share.layer]
        return Scoring(settings, Store(settings.output, settings.model), cells)


@dataclass
class Scoring:
    """The SAEs that were asked for.  A job of `grid.work`."""

    settings: EvalSettings
    store: Store
    cells: list[Cell]
    worker = Scorer

    def prepare(self) -> ScoringWork:
        s = self.settings
        set_up(s, saes_of(self.cells))
        inputs = read_inputs(s, saes_of(self.cells))
        scores = ScoreStore(self.store, inputs)
        todo = [cell for cell in self.cells if s.force or cell not in scores.by_cell]
        if todo:
            inputs.check_saes(saes_of(todo))
            self.store.prepare()
        return ScoringWork(s, inputs, self.store, todo, scores, scores.by_cell if s.force else {})

    def left(self) -> list[Share]:
        scored = {cell_of(row) for row in there(self.store)[0]}
        todo = (cell for cell in self.cells if self.settings.force or cell not in scored)
        return list(shared_out(todo, self.settings.per, WORK))

    def again(self, share: Share) -> Again:
        return Again(self.settings.argv, share)
