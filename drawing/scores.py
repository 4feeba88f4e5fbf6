"""Disentangle score by layer: ours from saved results, and the paper's as published."""

import math

from drawing.canvas import FAINT, INK, Drawing, Sheet, handle, name_ticks, plot, style_of, whole_axis
from drawing.captions import describe, interval_note
from featurizers.methods import BASELINES, method_named, originals_of
from imports import lines, np
from results.estimates import Estimate, Grid
from results.published import reproduced


def by_layer(grid: Grid, target: str, mask: str, published: dict | None = None) -> Drawing:
    """One line per method, with both baselines.

    published: the paper's numbers (data/paper_results.json) to lay under ours, or None.
    """
    others = "fact" if len(grid.attributes) <= 2 else "facts"
    notes = f"Disentangle: mean of cause (the answer about the target becomes the source {grid.entities[0]}'s) and "
    notes += f"isolation (the answer about the other {others} stays). Points of a layer stand side by side. "
    notes += interval_note(grid)
    if any(name in grid.controls[method] for method in grid.methods for name in originals_of(method)):
        notes += " Hollow: SAEs as the paper's code ran them, without our corrections."
    if published:
        notes += " Faint dashes: published by Chaudhary & Geiger (2024), soft mask, mode paper."
    rows = [row for row in reproduced(grid, published) if row.target == target] if published else []
    if rows and mask == published["mask"]:
        far = [row for row in rows if not row.explained]
        notes += f" {len(rows) - len(far)} of the {len(rows)} scores lie within what seeds and cities explain of theirs"
        notes += "; the others are ringed." if far else "."
    else:
        far = []
    sheet = Sheet(f"Disentangle score by layer, target {target}", describe(grid, mask), notes, notice=grid.notice)
    [ax] = sheet.panels
    faint = {"alpha": 0.45, "lw": 1.1, "ls": (0, (4, 2)), "ms": 3, "mew": 0, "zorder": 1.5}
    for method, points in published["disentangle"][target].items() if published else ():
        plot(ax, method, list(map(int, points)), list(points.values()), "published", **faint)
    aside = dict(zip(grid.methods, shifts(len(grid.methods), grid.layers), strict=True))
    shown = {}
    for method in (*BASELINES, *grid.methods):
        estimates = {layer: grid.score(target, method, layer, mask, "disentangle") for layer in grid.layers}
        estimates = {layer: estimate for layer, estimate in estimates.items() if estimate}
        if estimates:
            shown[method] = estimates
            _line(ax, method, estimates, aside.get(method, 0.0))
            _original(ax, grid, target, method, mask, aside.get(method, 0.0))
    for row in far:
        x = row.layer + aside.get(method_named(row.method).of or row.method, 0.0)
        ring = {"marker": "o", "ms": 13, "mfc": "none", "mec": INK, "mew": 0.9, "ls": "none", "clip_on": False}
        ax.plot([x], [row.ours.mean], gid=f"far-{row.method}", zorder=4, **ring)
    _dress(ax, grid.layers)
    handles = [handle(method, grid.labels) for method in shown]
    if published:
        handles.append(lines.Line2D([], [], color=FAINT, alpha=0.6, lw=1.2, ls=(0, (4, 2)), label="as published"))
    sheet.key(handles)
    best = ", ".join(_best(grid.label(m), found) for m, found in shown.items())
    return sheet.drawing(f"Line chart, target {target}", f"Highest of each: {best}.")


def as_published(paper: dict, target: str) -> Drawing:
    """The paper's own numbers alone."""
    baseline = paper["no_intervention"][target]
    subtitle = f"{paper['model']}  ·  soft mask  ·  mode paper, split by pairs  ·  {paper['n_cities']} cities"
    notes = (
        "The paper's published numbers, not computed by this code: Chaudhary & Geiger (2024), "
        f"{paper['source']['url'].removeprefix('https://')}, to two decimals. none: what doing nothing scores, "
        f"{baseline}. SAEs that do not exist (Apollo beyond layers 1, 5, 9) are absent."
    )
    sheet = Sheet(f"As published: disentangle score by layer, target {target}", subtitle, notes)
    [ax] = sheet.panels
    scores = paper["disentangle"][target]
    layers = sorted({int(layer) for points in scores.values() for layer in points})
    _line(ax, "none", {layer: Estimate(baseline, 1) for layer in layers}, 0.0)
    for shift, (method, points) in zip(shifts(len(scores), layers), scores.items(), strict=True):
        _line(ax, method, {int(layer): Estimate(value, 1) for layer, value in points.items()}, shift)
    _dress(ax, layers)
    sheet.key([handle(method) for method in ("none", *scores)])
    best = ", ".join(f"{m} {max(points.values()):.2f}" for m, points in scores.items())
    return sheet.drawing(f"Line chart, target {target}", f"Highest: {best}. Doing nothing: {baseline}.")


def _best(name: str, estimates: dict[int, Estimate]) -> str:
    layer = max(estimates, key=lambda layer: estimates[layer].mean)
    return f"{name} {estimates[layer].mean:.2f} at layer {layer}"


# ---------------------------------------------------------------- lines


def _line(ax, method: str, estimates: dict[int, Estimate], shift: float) -> None:
    """Estimates by layer: markers, a line where layers follow each other, intervals."""
    color = style_of(method).color
    layers = np.arange(min(estimates), max(estimates) + 1)
    found = [estimates.get(int(layer), Estimate(math.nan, 0)) for layer in layers]
    mean, low, high = (np.array([getattr(e, part) for e in found], dtype=float) for part in ("mean", "low", "high"))
    x, there = layers + shift, ~np.isnan(mean)
    if not there.all():  # layers without an SAE lie between: a hairline leads the eye, no value is claimed
        ax.plot(x[there], mean[there], color=color, lw=0.8, ls=(0, (1, 2)), gid=f"bridge-{method}", zorder=2)
    line = {"ls": style_of(method).line, "lw": 1.7, "clip_on": False}
    if method in BASELINES:
        plot(ax, method, x, mean, "line", 0.75, **{**line, "lw": 1.3, "mec": color, "mew": 1.0, "zorder": 2.5})
        return
    plot(ax, method, x, mean, "line", **line)
    is_alone = there & ~np.r_[False, there[:-1]] & ~np.r_[there[1:], False]  # a band has no width there
    band = np.array([e.n > 1 for e in found]) & ~is_alone
    if band.any():
        ends = (np.where(band, low, np.nan), np.where(band, high, np.nan))
        ax.fill_between(x, *ends, color=color, alpha=0.16, lw=0, gid=f"band-{method}", zorder=1)
    whisker = ~band & ~np.isnan(low)
    if whisker.any():
        ends = (low[whisker], high[whisker])
        ax.vlines(x[whisker], *ends, color=color, lw=0.9, alpha=0.55, gid=f"whiskers-{method}")


def _original(ax, grid: Grid, target: str, method: str, mask: str, shift: float) -> None:
    """An SAE as the paper's code ran it: hollow markers."""
    for name in originals_of(method):
        found = {layer: grid.score(target, name, layer, mask, "disentangle") for layer in grid.layers_of(target, name)}
        x, means = [layer + shift for layer in found], [estimate.mean for estimate in found.values()]
        plot(ax, method, x, means, "original", mfc="none", mec=style_of(method).color, mew=1.2, clip_on=False)


def shifts(n: int, layers: list[int]) -> list[float]:
    """Points of one layer stand side by side, a few pixels apart, or equal ones would hide each other."""
    step = min(0.055, 0.0065 * (max(layers) - min(layers) + 1))
    return [(i - (n - 1) / 2) * step for i in range(n)]


def _dress(ax, layers: list[int]) -> None:
    whole_axis(ax, list(range(min(layers), max(layers) + 1)))
    ax.set_ylim(0, 1)
    name_ticks(ax, np.linspace(0, 1, 11))
    ax.set_xlabel("layer (residual stream after this block)")
    ax.set_ylabel("disentangle, test pairs")
