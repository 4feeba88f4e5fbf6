"""The two halves of the disentangle score against each other: which of them a method wins."""

from __future__ import annotations

import math

from drawing.canvas import FAINT, PAPER, STYLES, Drawing, Sheet, handle
from drawing.estimates import Grid
from drawing.scores import MASK_WORDS, T_INTERVAL, describe
from featurizers.methods import BASELINES
from imports import lines

IN_WORDS = {"color": FAINT, "size": 8.5, "ha": "center", "va": "center", "backgroundcolor": PAPER, "zorder": 1.5}
SAME = 0.02  # scores nearer to each other than this cannot be told apart in a panel
SHARES = [0, 0.25, 0.5, 0.75, 1]
SHARE_LABELS = ["0", "", "0.5", "", "1"]


def cause_against_isolation(grid: Grid, target: str, mask: str) -> Drawing:
    """A panel per layer, a point per method; up and to the right is better."""
    layers = [layer for layer in grid.layers if any(grid.of(target, m, layer) for m in (*grid.methods, *BASELINES))]
    columns = 3 if len(layers) in (5, 6, 9) else min(4, len(layers))  # no row with one panel
    notes = (
        "Up and to the right is better. Along a grey diagonal the disentangle score, the mean of the two, is the same: "
        "0.25, 0.50, 0.75. Small hollow marks: the SAE's reconstruction spliced in and nothing swapped. "
    )
    if len(grid.seeds) > 1:
        notes += f"Thin crosses: {T_INTERVAL}. "
    else:
        notes += "Thin crosses: 95 % bootstrap intervals over cities. "
    sheet = Sheet(
        f"Cause against isolation by layer, target {target}",
        describe(grid, mask),
        notes,
        rows=math.ceil(len(layers) / columns),
        columns=columns,
        panel_height=(9.0 - 0.72 - 1.95 - (columns - 1) * 0.3) / columns if columns > 2 else 2.7,  # squares
        gap=(0.3, 0.56),
        heads=True,
    )
    shown = set()
    for i, ax in enumerate(sheet.all_panels):
        if i >= len(layers):
            ax.set_visible(False)
            continue
        layer = layers[i]
        for level in (0.25, 0.5, 0.75):
            ends = (max(0, 2 * level - 1), min(1, 2 * level))
            ax.plot(ends, ends[::-1], color="#c9c9c9", lw=0.9, zorder=1, gid=f"iso-{level}")
        for method in (*BASELINES, *grid.methods):
            if _half_point(ax, grid, target, method, layer, mask):
                shown.add(method)
        if _all_like_none(grid, target, layer, mask):
            ax.text(0.5, 0.5, "every method\nequals none", **IN_WORDS)
        ax.set_title(f"layer {layer}" + (" (last block)" if grid.is_last_block(layer) else ""))
        ax.set_xlim(-0.07, 1.07)
        ax.set_ylim(-0.07, 1.07)
        ax.set_xticks(SHARES, SHARE_LABELS)
        ax.set_yticks(SHARES, SHARE_LABELS)
        ax.tick_params(labelbottom=i + columns >= len(layers), labelleft=i % columns == 0)
        ax.set_xlabel("cause" if i + columns >= len(layers) else "")
        ax.set_ylabel("isolation" if i % columns == 0 else "")
    handles = [handle(m, linestyle="none") for m in (*BASELINES, *grid.methods) if m in shown]
    handles.append(
        lines.Line2D([], [], ls="none", marker="o", mfc="none", mec=FAINT, ms=4, label="reconstruction,\nno swap")
    )
    sheet.key(handles)
    return Drawing(
        sheet.figure,
        f"{describe(grid, mask)}. {notes}",
        f"{len(layers)} small scatter plots, one per layer: cause (horizontal) against isolation (vertical) of "
        f"{', '.join(m for m in grid.methods if m in shown)}, target {target}, {MASK_WORDS[mask]}, with the baselines "
        "none and full. The same numbers stand in the tables of scores.",
    )


def _half_point(ax, grid: Grid, target: str, method: str, layer: int, mask: str) -> bool:
    cause, isolation = (grid.score(target, method, layer, mask, name) for name in ("cause", "isolation"))
    if cause is None or isolation is None:
        return False
    style = STYLES[method]
    is_baseline = method in BASELINES
    if not is_baseline and cause.low is not None and isolation.low is not None:
        ends = {"color": style.color, "lw": 0.8, "alpha": 0.5, "zorder": 2}
        ax.plot([cause.low, cause.high], [isolation.mean] * 2, gid=f"cause-interval-{method}", **ends)
        ax.plot([cause.mean] * 2, [isolation.low, isolation.high], gid=f"isolation-interval-{method}", **ends)
    spliced = [grid.reconstruction(target, method, layer, name) for name in ("cause", "isolation")]
    if all(spliced):
        x, y = (s.mean for s in spliced)
        hollow = {"mfc": "none", "mec": style.color, "ms": style.size * 0.75, "mew": 0.8, "ls": "none", "zorder": 2.2}
        ax.plot([x], [y], marker=style.marker, gid=f"reconstruction-{method}", **hollow)
    ax.plot(
        [cause.mean],
        [isolation.mean],
        marker=style.marker,
        color=style.color,
        ms=style.size * (1.3 if is_baseline else 1.1),
        mec=style.color if is_baseline else "white",
        mew=1.3 if is_baseline else 0.6,
        ls="none",
        gid=f"point-{method}",
        zorder=3.5 if is_baseline else 3,
    )
    return True


def _all_like_none(grid: Grid, target: str, layer: int, mask: str) -> bool:
    """Is every method's point on that of doing nothing, as at the last block?"""

    def point(method: str) -> list[float] | None:
        scores = [grid.score(target, method, layer, mask, name) for name in ("cause", "isolation")]
        return [score.mean for score in scores] if all(scores) else None

    none, others = point("none"), [point(method) for method in grid.methods]
    others = [other for other in others if other]
    return bool(none and others) and all(
        abs(a - b) < SAME for other in others for a, b in zip(other, none, strict=True)
    )
