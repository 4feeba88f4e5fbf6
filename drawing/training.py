"""Training loss and accuracy by epoch, all methods at one layer."""

from __future__ import annotations

import math

from drawing.canvas import STYLES, Drawing, Sheet, handle, integer_ticks
from drawing.estimates import Estimate, Grid, over_seeds
from drawing.scores import T_INTERVAL, describe
from imports import np

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
        notes += f" Bands: {T_INTERVAL}."
    sheet = Sheet(
        f"Training {measure} by epoch, layer {layer}",
        describe(grid),
        notes,
        columns=len(grid.targets),
        panel_height=2.9,
        gap=(0.3, 0.5),
        heads=True,
    )
    curves = {
        (target, method): _curve([r["history"] for r in grid.of(target, method, layer)], measure)
        for target in grid.targets
        for method in grid.methods
    }
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    largest = max((e.mean for curve in curves.values() for e in curve.values()), default=1.0)
    for i, (target, ax) in enumerate(zip(grid.targets, sheet.all_panels, strict=True)):
        for method in grid.methods:
            _draw(ax, method, curves[target, method])
        ax.set_title(f"target {target}")
        ax.set_xlim(min(epochs, default=0) - 0.5, max(epochs, default=1) + 0.5)
        ax.set_xticks(integer_ticks(epochs, 10) if epochs else [])
        ax.set_ylim(0, 1.02 if measure == "accuracy" else largest * 1.06 or 1)
        ax.grid(axis="x", visible=False)
        ax.set_xlabel("epoch")
        ax.set_ylabel(MEASURES[measure] if i == 0 else "")
        ax.tick_params(labelleft=i == 0)
    shown = [method for method in grid.methods if any(curves[target, method] for target in grid.targets)]
    sheet.key([handle(method) for method in shown])
    ends = [f"{m} ({t}) {c[max(c)].mean:.2f}" for (t, m), c in curves.items() if c]
    return Drawing(
        sheet.figure,
        f"{describe(grid)}. {notes}",
        f"Line chart: training {measure} by epoch at layer {layer}. At the end: {', '.join(ends)}.",
    )


def _curve(histories: list[list[dict]], measure: str) -> dict[int, Estimate]:
    """Epoch -> mean over seeds; what is not finite (a training that diverged) is left out."""
    values: dict[int, list[float]] = {}
    for history in histories:
        for entry in history:
            if math.isfinite(entry[measure]):
                values.setdefault(entry["epoch"], []).append(entry[measure])
    return {epoch: over_seeds(found) for epoch, found in sorted(values.items())}


def _draw(ax, method: str, curve: dict[int, Estimate]) -> None:
    if not curve:
        return
    style = STYLES[method]
    epochs = list(curve)
    ax.plot(
        epochs,
        [e.mean for e in curve.values()],
        color=style.color,
        ls=style.line,
        marker=style.marker,
        ms=style.size * 0.85,
        mec="white",
        mew=0.5,
        lw=1.5,
        gid=f"line-{method}",
        zorder=3,
    )
    if any(e.n > 1 for e in curve.values()):
        low, high = ([math.nan if e.n < 2 else getattr(e, end) for e in curve.values()] for end in ("low", "high"))
        ax.fill_between(epochs, np.array(low), np.array(high), color=style.color, alpha=0.16, lw=0)
