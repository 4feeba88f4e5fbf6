"""Training loss and accuracy by epoch, all methods at one layer."""

import math
from statistics import fmean

from drawing.canvas import Drawing, Sheet, handle, plot, style_of, whole_axis
from drawing.captions import describe
from imports import np
from results.estimates import Grid

MEASURES = {
    "accuracy": "accuracy on training pairs",
    "loss": "cross-entropy on training pairs",
}


def trained_layers(grid: Grid) -> list[int]:
    """Layers at which a mask was trained; at the last block there is nothing to learn."""
    return sorted({r["layer"] for r in grid.results if r["history"]})


def by_epoch(grid: Grid, layer: int, measure: str) -> Drawing:
    """Two panels, one per target; measure: 'accuracy' or 'loss'."""
    notes = "Means over an epoch's batches, in training: soft mask, at the temperature of each step."
    if len(grid.seeds) > 1:
        notes += " Bands: from the lowest to the highest of the seeds."
    title = f"Training {measure} by epoch, layer {layer}"
    n = len(grid.targets)
    size = {"panel_height": 2.9, "gap": (0.3, 0.5), "heads": True}
    sheet = Sheet(title, describe(grid), notes, n, n, notice=grid.notice, **size)
    curves = {
        (target, method): _curve([r["history"] for r in grid.of(target, method, layer)], measure)
        for target in grid.targets
        for method in grid.methods
    }
    curves = {of: curve for of, curve in curves.items() if curve}
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    largest = max((max(values) for curve in curves.values() for values in curve.values()), default=1.0)
    for target, ax in zip(grid.targets, sheet.panels, strict=True):
        for method in grid.methods:
            if (target, method) in curves:
                _draw(ax, method, curves[target, method])
        ax.set_title(f"target {target}")
        whole_axis(ax, epochs, 10, room=0.5)
        ax.set_ylim(0, 1.02 if measure == "accuracy" else largest * 1.06 or 1)
    sheet.name_outer("epoch", MEASURES[measure])
    sheet.key([handle(method, grid.labels) for method in grid.methods if any(m == method for _, m in curves)])
    ends = [f"{grid.label(m)} ({t}) {fmean(c[max(c)]):.2f}" for (t, m), c in curves.items()]
    return sheet.drawing(f"Line chart of {measure}, layer {layer}", f"At the end: {', '.join(ends)}.")


def _curve(histories: list[list[dict]], measure: str) -> dict[int, list[float]]:
    """Epoch -> the seeds' values; what is not finite (a training that diverged) is left out."""
    values: dict[int, list[float]] = {}
    for history in histories:
        for entry in history:
            if math.isfinite(entry[measure]):
                values.setdefault(entry["epoch"], []).append(entry[measure])
    return dict(sorted(values.items()))


def _draw(ax, method: str, curve: dict[int, list[float]]) -> None:
    style, means = style_of(method), [fmean(values) for values in curve.values()]
    plot(ax, method, list(curve), means, "line", 0.85, ls=style.line, lw=1.5, mew=0.5)
    if any(len(values) > 1 for values in curve.values()):
        low, high = (np.array([end(values) for values in curve.values()]) for end in (min, max))
        ax.fill_between(list(curve), low, high, color=style.color, alpha=0.16, lw=0)
