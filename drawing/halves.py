"""The two halves of the disentangle score against each other: which of them a method wins."""

from drawing.canvas import FAINT, GROUND, Drawing, Sheet, handle, plot, style_of
from drawing.captions import describe, interval_words
from featurizers.methods import BASELINES
from imports import lines
from results.estimates import Grid

IN_WORDS = {"color": FAINT, "size": 8.5, "ha": "center", "va": "center", "backgroundcolor": GROUND, "zorder": 1.5}
SAME = 0.02  # scores nearer to each other than this cannot be told apart in a panel
SHARES = [0, 0.25, 0.5, 0.75, 1]
SHARE_LABELS = ["0", "", "0.5", "", "1"]


def cause_against_isolation(grid: Grid, target: str, mask: str) -> Drawing:
    """A panel per layer, a point per method; up and to the right is better."""
    methods = (*BASELINES, *grid.methods)
    layers = [layer for layer in grid.layers if any(grid.of(target, m, layer) for m in methods)]
    columns = 3 if len(layers) in (5, 6, 9) else min(4, len(layers))  # no row with one panel
    has_spliced = any(grid.reconstruction(target, m, layer, "cause") for m in methods for layer in layers)
    hollow = "Small hollow marks: the SAE's reconstruction spliced in and nothing swapped. " * has_spliced
    notes = (
        "Up and to the right is better. Along a grey diagonal the disentangle score, the mean of the two, is the same: "
        f"0.25, 0.50, 0.75. {hollow}Thin crosses: {interval_words(grid)}."
    )
    side = (9.0 - 0.72 - 1.95 - (columns - 1) * 0.3) / columns if columns > 2 else 2.7  # panels are squares
    size = {"panel_height": side, "gap": (0.3, 0.56), "heads": True}
    title = f"Cause against isolation by layer, target {target}"
    sheet = Sheet(title, describe(grid, mask), notes, len(layers), columns, notice=grid.notice, **size)
    shown = set()
    for layer, ax in zip(layers, sheet.panels, strict=True):
        for level in (0.25, 0.5, 0.75):
            ends = (max(0, 2 * level - 1), min(1, 2 * level))
            ax.plot(ends, ends[::-1], color="#c9c9c9", lw=0.9, zorder=1, gid=f"iso-{level}")
        shown |= {method for method in methods if _half_point(ax, grid, target, method, layer, mask)}
        if _all_like_none(grid, target, layer, mask):
            ax.text(0.5, 0.5, "every method\nequals none", **IN_WORDS)
        ax.set_title(f"layer {layer}" + (" (last block)" if grid.is_last_block(layer) else ""))
        ax.set(xlim=(-0.07, 1.07), ylim=(-0.07, 1.07))
        ax.set_xticks(SHARES, SHARE_LABELS)
        ax.set_yticks(SHARES, SHARE_LABELS)
    sheet.name_outer("cause", "isolation")
    handles = [handle(method, grid.labels, ls="none") for method in methods if method in shown]
    if has_spliced:
        look = {"ls": "none", "marker": "o", "mfc": "none", "mec": FAINT, "ms": 4}
        handles.append(lines.Line2D([], [], label="reconstruction,\nno swap", **look))
    sheet.key(handles)
    return sheet.drawing(f"Scatter plots by layer, target {target}", "")


def _half_point(ax, grid: Grid, target: str, method: str, layer: int, mask: str) -> bool:
    """Draw a method's point; False if it has none."""
    cause, isolation = (grid.score(target, method, layer, mask, name) for name in ("cause", "isolation"))
    if cause is None or isolation is None:
        return False
    color = style_of(method).color
    if method in BASELINES:
        plot(ax, method, [cause.mean], [isolation.mean], "point", 1.3, mec=color, mew=1.3, zorder=3.5)
        return True
    if cause.low is not None and isolation.low is not None:
        ends = {"color": color, "lw": 0.8, "alpha": 0.5, "zorder": 2}
        ax.plot([cause.low, cause.high], [isolation.mean] * 2, gid=f"cause-interval-{method}", **ends)
        ax.plot([cause.mean] * 2, [isolation.low, isolation.high], gid=f"isolation-interval-{method}", **ends)
    spliced = [grid.reconstruction(target, method, layer, name) for name in ("cause", "isolation")]
    if all(spliced):
        x, y = (s.mean for s in spliced)
        plot(ax, method, [x], [y], "reconstruction", 0.75, mfc="none", mec=color, mew=0.8, zorder=2.2)
    plot(ax, method, [cause.mean], [isolation.mean], "point", 1.1)
    return True


def _all_like_none(grid: Grid, target: str, layer: int, mask: str) -> bool:
    """Is every method's point on that of doing nothing, as at the last block?"""

    def point(method: str) -> list[float] | None:
        scores = [grid.score(target, method, layer, mask, name) for name in ("cause", "isolation")]
        return [score.mean for score in scores] if all(scores) else None

    none, others = point("none"), [found for found in map(point, grid.methods) if found]
    return bool(none and others) and all(
        abs(a - b) < SAME for other in others for a, b in zip(other, none, strict=True)
    )
