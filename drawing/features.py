"""What a score costs: the number of features that the hard mask selects, beside how many fire at all."""

from __future__ import annotations

import math

from drawing.canvas import FAINT, STYLES, Drawing, Sheet, label_points
from drawing.estimates import Grid
from drawing.scores import describe
from imports import np


def score_against_features(grid: Grid, target: str, mask: str) -> Drawing | None:
    """A panel per method, a point per layer; None if nothing was trained."""
    points = {method: _points(grid, target, method, mask) for method in grid.methods}
    points = {method: found for method, found in points.items() if found}
    if not points:
        return None
    columns = 2 if len(points) == 4 else min(3, len(points))  # no row with one panel, if that can be
    notes = (
        "A point is a layer, its number beside it where there is room; grey: the other methods. Features selected: "
        "theta > 0, mean over seeds; the axis is linear from 0 to 1 and logarithmic beyond. Dotted line: all features "
        "there are. Shaded: l0, how many latents fire on a city's vector, from the sparsest of the layers to the "
        "densest. The last block, where nothing is trained, is left out."
    )
    sheet = Sheet(
        f"What the score costs: features selected, target {target}",
        describe(grid, mask),
        notes,
        rows=math.ceil(len(points) / columns),
        columns=columns,
        panel_height=2.2 if columns > 1 else 3.2,
        right=0.3,
        gap=(0.28, 0.56),
        heads=True,
    )
    n_features = {m: max(grid.mean(target, m, layer, "n_features") for layer, _, _ in points[m]) for m in points}
    most = max(10, *n_features.values())
    for i, ax in enumerate(sheet.all_panels):
        if i >= len(points):
            ax.set_visible(False)
            continue
        method = list(points)[i]
        is_lowest, is_leftmost = i + columns >= len(points), i % columns == 0
        _dress(ax, most, is_lowest, is_leftmost)
        _panel(ax, method, points, n_features[method], _l0(grid, target, method))
    words = "; ".join(f"{m} {min(x for _, x, _ in p):.0f} to {max(x for _, x, _ in p):.0f}" for m, p in points.items())
    return Drawing(
        sheet.figure,
        f"{describe(grid, mask)}. {notes}",
        f"Scatter plots, one per method: number of features selected against the disentangle score, target {target}. "
        f"Features selected, least and most over layers: {words}.",
    )


def _points(grid: Grid, target: str, method: str, mask: str) -> list[tuple[int, float, float]]:
    """(layer, features selected, score) of every layer at which there is something to select."""
    return [
        (
            layer,
            grid.mean(target, method, layer, "n_selected"),
            grid.score(target, method, layer, mask, "disentangle").mean,
        )
        for layer in grid.layers_of(target, method)
        if not grid.is_last_block(layer)
    ]


def _l0(grid: Grid, target: str, method: str) -> list[float]:
    found = [grid.mean(target, method, layer, "l0") for layer in grid.layers_of(target, method)]
    return [l0 for l0 in found if l0 is not None]


def _panel(ax, method: str, points: dict, n_features: float, l0: list[float]) -> None:
    style = STYLES[method]
    for other, found in points.items():
        if other != method:
            x, y = [p[1] for p in found], [p[2] for p in found]
            ax.plot(x, y, ls="none", marker=STYLES[other].marker, ms=3.2, color="#d2d2d2", mew=0, zorder=1.5)
    ax.axvline(n_features, color=style.color, lw=1, ls=(0, (1, 2)), zorder=1, gid=f"all-{method}")
    title = f"of {n_features:,.0f}"
    if l0:
        low, high = min(l0), max(l0)
        ax.axvspan(low, high, color=style.color, alpha=0.2, lw=1.5, zorder=0.8, gid=f"l0-{method}")
        title += f", l0 {low:,.0f}" if round(low) == round(high) else f", l0 {low:,.0f} to {high:,.0f}"
    ax.set_title(method, weight="bold")
    ax.set_title(title, loc="right", color=FAINT, size=8)
    ax.plot(
        [p[1] for p in points[method]],
        [p[2] for p in points[method]],
        ls="none",
        marker=style.marker,
        ms=style.size,
        color=style.color,
        mec="white",
        mew=0.6,
        zorder=3,
        gid=f"features-{method}",
    )
    label_points(ax, [(x, y, str(layer)) for layer, x, y in points[method]], FAINT)


def _dress(ax, most: float, is_lowest: bool, is_leftmost: bool) -> None:
    ax.set_xscale("symlog", linthresh=1, linscale=0.35)
    ax.set_xlim(-0.25, most * 2)
    ticks = [0, *(10**k for k in range(int(math.log10(most)) + 1))]
    ax.set_xticks(ticks, [f"{t // 1000}k" if t >= 1000 else str(t) for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set_ylim(0, 1.04)
    ax.set_yticks(np.linspace(0, 1, 6), [f"{v:.1f}" for v in np.linspace(0, 1, 6)])
    ax.tick_params(labelbottom=is_lowest, labelleft=is_leftmost)
    ax.set_xlabel("features selected" if is_lowest else "")
    ax.set_ylabel("disentangle" if is_leftmost else "")
