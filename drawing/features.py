"""What a score costs: the number of features that the hard mask selects, beside how many fire at all."""

import math
from typing import NamedTuple

from drawing.canvas import FAINT, Drawing, Sheet, label_points, name_ticks, plot, short_name, style_of
from drawing.captions import describe
from imports import np
from results.estimates import Grid

NOTES = (
    "A point is a layer, its number beside it where there is room; grey: the other methods. Features selected: "
    "theta > 0, mean over seeds; the axis is linear from 0 to 1 and logarithmic beyond. Dotted line: all features "
    "there are. Shaded: l0, how many latents fire on a city's vector, from the sparsest of the layers to the "
    "densest. The last block, where nothing is trained, is left out."
)


class Points(NamedTuple):
    """A method's layers at which there is something to select, and what is drawn of each."""

    layers: list[int]
    selected: list[float]
    scores: list[float]


def score_against_features(grid: Grid, target: str, mask: str) -> Drawing | None:
    """A panel per method, a point per layer; None if nothing was trained."""
    points = {method: _points(grid, target, method, mask) for method in grid.methods}
    points = {method: found for method, found in points.items() if found.layers}
    if not points:
        return None
    columns = 2 if len(points) == 4 else min(3, len(points))  # no row with one panel, if that can be
    title = f"What the score costs: features selected, target {target}"
    size = {"panel_height": 2.2 if columns > 1 else 3.2, "right": 0.3, "gap": (0.28, 0.56)}
    sheet = Sheet(title, describe(grid, mask), NOTES, len(points), columns, heads=True, notice=grid.notice, **size)
    n_features = {m: max(grid.mean(target, m, layer, "n_features") for layer in p.layers) for m, p in points.items()}
    for method, ax in zip(points, sheet.panels, strict=True):
        _dress(ax, max(10, *n_features.values()))
        name = short_name(method, grid.labels)
        _panel(ax, method, name, points, n_features[method], _l0(grid, target, method))
    sheet.name_outer("features selected", "disentangle")
    words = "; ".join(f"{grid.label(m)} {min(p.selected):.0f} to {max(p.selected):.0f}" for m, p in points.items())
    summary = f"Features selected, least and most over layers: {words}."
    return sheet.drawing(f"Scatter plots by method, target {target}", summary)


def _points(grid: Grid, target: str, method: str, mask: str) -> Points:
    layers = [layer for layer in grid.layers_of(target, method) if not grid.is_last_block(layer)]
    selected = [grid.mean(target, method, layer, "n_selected") for layer in layers]
    return Points(layers, selected, [grid.score(target, method, layer, mask, "disentangle").mean for layer in layers])


def _l0(grid: Grid, target: str, method: str) -> list[float]:
    found = [grid.mean(target, method, layer, "l0") for layer in grid.layers_of(target, method)]
    return [l0 for l0 in found if l0 is not None]


def _panel(ax, method: str, name: str, points: dict[str, Points], n_features: float, l0: list[float]) -> None:
    color, own = style_of(method).color, points[method]
    for other, found in points.items():
        if other != method:
            plot(
                ax, other, found.selected, found.scores, "beside", color="#d2d2d2", ms=3.2, mew=0, zorder=1.5, gid=None
            )
    ax.axvline(n_features, color=color, lw=1, ls=(0, (1, 2)), zorder=1, gid=f"all-{method}")
    title = f"of {n_features:,.0f}"
    if l0:
        low, high = min(l0), max(l0)
        ax.axvspan(low, high, color=color, alpha=0.2, lw=1.5, zorder=0.8, gid=f"l0-{method}")
        title += f", l0 {low:,.0f}" if round(low) == round(high) else f", l0 {low:,.0f} to {high:,.0f}"
    ax.set_title(name, weight="bold")
    ax.set_title(title, loc="right", color=FAINT, size=8)
    plot(ax, method, own.selected, own.scores, "features")
    label_points(ax, list(zip(own.selected, own.scores, map(str, own.layers), strict=True)), FAINT)


def _dress(ax, most: float) -> None:
    ax.set_xscale("symlog", linthresh=1, linscale=0.35)
    ax.set_xlim(-0.25, most * 2)
    ticks = [0, *(10**k for k in range(int(math.log10(most)) + 1))]
    ax.set_xticks(ticks, [f"{t // 1000}k" if t >= 1000 else str(t) for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set_ylim(0, 1.04)
    name_ticks(ax, np.linspace(0, 1, 6))
