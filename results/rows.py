"""Every score of a model's results as a row of its own: what is exported, and what `results.load` gives."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from data.names import in_order
from featurizers.methods import BASELINES, ordered
from results.estimates import Grid
from results.outcomes import NEW_SEEDS_FROM

ALL = "all"


@dataclass(frozen=True)
class ScoreRow:
    """A score of one seed, or its mean over all of them, on the test pairs.

    held_out: what no training pair has of the test pairs: pairs, cities, entities or templates.
    method: as the command line names it; label: as tables and figures do.
    seed: a number in digits, or 'all'.
    mask: 'soft', 'hard', or 'reconstruction': the SAE's reconstruction spliced in, nothing swapped.
    measure: 'cause', 'isolation', or 'disentangle', their mean; value, low, high: from 0 to 1.
    interval: whom low and high are for: 'these seeds' or 'new seeds', in both on other clusters.
    cluster: the unit taken to be independent; n_clusters: how many the pairs touch.
    n_pairs: test pairs that the score is of, in all seeds.
    n_selected: of n_features, by the hard mask; l0: active latents of the SAE.  Means over seeds; None: does not apply.
    still_falling: whether the training loss still falls at the last epoch, of any seed (results.training); None: cannot
        be told.
    digest: the fingerprint of the result file, of several with blanks between; '' for a baseline without its own.
    notice: what must stand beside every number of this model; '' if nothing must.
    """

    model: str
    mode: str
    split: str
    held_out: str
    target: str
    method: str
    label: str
    layer: int
    seed: str
    mask: str
    measure: str
    value: float
    low: float
    high: float
    interval: str
    cluster: str
    n_clusters: int
    n_pairs: int
    n_seeds: int
    n_selected: float | None
    n_features: float | None
    l0: float | None
    still_falling: bool | None
    last_block: bool
    digest: str
    notice: str


COLUMNS = {field.name: field.type for field in fields(ScoreRow)}


def score_rows(grid: Grid) -> list[ScoreRow]:
    """Of every score in these results a row for each seed and one for all: by target, layer, method and mask.

    Behind them, where templates were held out too, the same of that test.
    """
    templates = grid.with_templates_held_out()
    return _of_test(grid) + (_of_test(templates) if templates else [])


def _of_test(grid: Grid) -> list[ScoreRow]:
    rows = list(_rows(grid, ALL))
    for seed in grid.seeds:
        of_seed = [r for r in grid.results if r["seed"] == seed]
        rows += _rows(Grid(of_seed, grid.unit, grid.labels), str(seed))
    methods, targets = ordered([*BASELINES, *(row.method for row in rows)]), in_order(row.target for row in rows)
    return sorted(rows, key=lambda r: (targets.index(r.target), r.layer, methods.index(r.method), r.mask))


def _rows(grid: Grid, seed: str) -> Iterator[ScoreRow]:
    first = grid.results[0]
    for (target, method, layer, mask, measure), estimate in grid.estimates.items():
        own = grid.of(target, method, layer)
        is_masked = mask in ("soft", "hard")
        yield ScoreRow(
            **{key: first[key] for key in ("model", "mode", "split")},
            held_out=grid.held_out,
            target=target,
            method=method,
            label=grid.label(method),
            layer=layer,
            seed=seed,
            mask=mask,
            measure=measure,
            value=estimate.mean,
            low=estimate.low,
            high=estimate.high,
            interval="new seeds" if estimate.n >= NEW_SEEDS_FROM else "these seeds",
            cluster=grid.unit,
            n_clusters=estimate.n_clusters,
            n_pairs=estimate.n_pairs,
            n_seeds=estimate.n,
            n_selected=grid.mean(target, method, layer, "n_selected") if is_masked else None,
            n_features=grid.mean(target, method, layer, "n_features"),
            l0=grid.mean(target, method, layer, "l0"),
            still_falling=grid.still_falling(target, method, layer) if is_masked else None,
            last_block=grid.is_last_block(layer),
            digest=" ".join(r["digest"] for r in own),
            notice=grid.notice,
        )
