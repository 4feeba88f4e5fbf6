"""Which method is better: paired differences from one of them, by layer."""

import stats
from drawing.canvas import FAINT, Drawing, Sheet, handle, name_ticks, plot, printable, style_of, whole_axis
from drawing.captions import describe, interval_words
from drawing.scores import shifts
from imports import lines, np
from results.estimates import Comparison, Grid


def differences_by_layer(grid: Grid, target: str, mask: str, family: list[Comparison]) -> Drawing | None:
    """A point per method and layer with its interval, filled where better or worse; None if nothing was compared.

    family: the comparisons that are corrected together, of both targets, all with one method.
    """
    found = [c for c in family if c.target == target]
    if not found:
        return None
    methods = list(dict.fromkeys(c.method for c in found))
    against = printable(grid.label(found[0].against), 40)
    if found[0].against_layer != found[0].layer:
        against += f" at layer {found[0].against_layer}"
    notes = (
        f"Disentangle minus that of {against} on the same test pairs. Whiskers: {interval_words(grid)}. Filled: better "
        f"or worse by p corrected for the {len(family)} comparisons of both targets (Holm 1979); hollow: cannot tell. "
        "A whisker is of one comparison alone, so it may end before 0 beside a hollow mark."
    )
    title = f"Difference from {against} by layer, target {target}"
    sheet = Sheet(title, describe(grid, mask), notes, notice=grid.notice)
    [ax] = sheet.panels
    layers = sorted({c.layer for c in found})
    ax.axhline(0, color="#8a8a8a", lw=1, zorder=1)
    for method, shift in zip(methods, shifts(len(methods), layers), strict=True):
        _points(ax, [c for c in found if c.method == method], shift)
    whole_axis(ax, list(range(min(layers), max(layers) + 1)))
    _scale(ax, found)
    ax.set_xlabel("layer (residual stream after this block)")
    ax.set_ylabel(f"disentangle minus that of {against}")
    hollow = lines.Line2D([], [], ls="none", marker="o", mfc="white", mec=FAINT, mew=1.0, ms=5, label="cannot tell")
    sheet.key([*(handle(method, grid.labels, ls="none") for method in methods), hollow])
    counts = {word: sum(c.verdict == word for c in found) for word in (stats.BETTER, stats.WORSE, stats.CANNOT_TELL)}
    said = ", ".join(f"{word} {n}" for word, n in counts.items())
    return sheet.drawing(f"Points with whiskers, target {target}", f"Verdicts: {said}.")


def _points(ax, found: list[Comparison], shift: float) -> None:
    method, color = found[0].method, style_of(found[0].method).color
    for c in found:
        ax.vlines(c.layer + shift, c.low, c.high, color=color, lw=1.1, alpha=0.6, gid=f"whisker-{method}", zorder=2)
    for is_told in (True, False):
        chosen = [c for c in found if (c.verdict != stats.CANNOT_TELL) == is_told]
        look = {} if is_told else {"mfc": "white", "mec": color, "mew": 1.0}
        part = "told" if is_told else "untold"
        plot(ax, method, [c.layer + shift for c in chosen], [c.difference for c in chosen], part, **look)


def _scale(ax, found: list[Comparison]) -> None:
    """Room for all points and for whiskers up to .5 beyond them, marked in steps of 0.1 or 0.2."""
    ends = [c.difference for c in found]
    low = max(min(0.0, *(c.low for c in found)), min(0.0, *ends) - 0.5)
    high = min(max(0.0, *(c.high for c in found)), max(0.0, *ends) + 0.5)
    step = 0.1 if high - low < 0.8 else 0.2
    low, high = np.floor(low / step) * step, np.ceil(high / step) * step
    ax.set_ylim(low - step / 4, high + step / 4)
    name_ticks(ax, np.arange(round(low / step), round(high / step) + 1) * step)
