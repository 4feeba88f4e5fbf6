"""Disentangle score by layer: ours from saved results, and the paper's as published."""

from __future__ import annotations

from drawing.canvas import FAINT, STYLES, Drawing, Sheet, handle, integer_ticks, model_name, plural, printable
from drawing.estimates import Estimate, Grid
from featurizers.methods import BASELINES
from imports import lines, np

# Kept on one line by spaces that do not break.
T_INTERVAL = "95 % interval of the mean over seeds, mean ± t(n-1) · sd / √n".replace(" ± ", "\u00a0±\u00a0")
T_INTERVAL = T_INTERVAL.replace(" · sd / ", "\u00a0·\u00a0sd\u00a0/\u00a0")
MASK_WORDS = {"soft": "soft mask", "hard": "hard mask"}


def describe(grid: Grid, mask: str | None = None) -> str:
    """One line that says whose results are drawn: model, mask, mode, split, seeds, cities."""
    first = grid.results[0]
    cities = " or ".join(f"{n:,}" for n in grid.n_cities)
    parts = [
        model_name(first["model"]),
        MASK_WORDS[mask] if mask else "",
        f"mode {printable(first['mode'], 12)}, split by {printable(first['split'], 12)}",
        plural(len(grid.seeds), "seed"),
        f"{cities} cities" if cities else "",
    ]
    return "  ·  ".join(part for part in parts if part)


def interval_note(grid: Grid) -> str:
    """What the bands or whiskers are."""
    of_one = "95 % bootstrap interval over cities"
    if len(grid.seeds) == 1:
        return f"Whiskers: {of_one} (one seed)."
    redraws = ", which also redraws the split of the cities," if grid.results[0]["split"] == "cities" else ""
    note = f"Bands, and whiskers where a point stands alone: {T_INTERVAL}; a seed{redraws} is a replicate, "
    note += f"n = {len(grid.seeds)}."
    some_have_one = any(len(found) == 1 for found in grid.cells.values())
    return note + f" Whiskers of cells with one seed: {of_one}." * some_have_one


def by_layer(grid: Grid, target: str, mask: str, published: dict | None = None) -> Drawing:
    """One line per method, with both baselines.

    published: the paper's numbers (data/paper_results.json) to lay under ours, or None.
    """
    notes = "Disentangle: mean of cause (the answer about the target becomes the source city's) and isolation (the "
    notes += f"answer about the other fact stays). Points of a layer stand side by side. {interval_note(grid)}"
    if published:
        notes += " Faint dashes: published by Chaudhary & Geiger (2024), soft mask, mode paper."
    sheet = Sheet(f"Disentangle score by layer, target {target}", describe(grid, mask), notes)
    ax = sheet.panels[0][0]
    if published:
        for method, points in published["disentangle"][target].items():
            _faint_line(ax, method, {int(layer): value for layer, value in points.items()})
    names = [*BASELINES, *grid.methods]
    shifts = dict(zip(grid.methods, _shifts(len(grid.methods), grid.layers), strict=True))
    shown = []
    for method in names:
        estimates = {layer: grid.score(target, method, layer, mask, "disentangle") for layer in grid.layers}
        estimates = {layer: estimate for layer, estimate in estimates.items() if estimate}
        if not estimates:
            continue
        shown.append(method)
        _line(ax, method, estimates, shifts.get(method, 0.0))
    _dress(ax, grid.layers)
    handles = [handle(method) for method in shown]
    if published:
        handles.append(lines.Line2D([], [], color=FAINT, alpha=0.6, lw=1.2, ls=(0, (4, 2)), label="as published"))
    sheet.key(handles)
    return Drawing(sheet.figure, f"{describe(grid, mask)}. {notes}", _in_words(grid, target, mask, shown))


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
    ax = sheet.panels[0][0]
    scores = paper["disentangle"][target]
    layers = sorted({int(layer) for points in scores.values() for layer in points})
    _line(ax, "none", {layer: Estimate(baseline, 1) for layer in layers}, 0.0)
    for shift, (method, points) in zip(_shifts(len(scores), layers), scores.items(), strict=True):
        _line(ax, method, {int(layer): Estimate(value, 1) for layer, value in points.items()}, shift)
    _dress(ax, layers)
    sheet.key([handle(method) for method in ("none", *scores)])
    best = ", ".join(f"{m} {max(points.values()):.2f}" for m, points in scores.items())
    alt = f"Line chart of the paper's published disentangle scores, target {target}, 12 layers. Highest: {best}. "
    return Drawing(sheet.figure, notes, alt + f"Doing nothing: {baseline}.")


# ---------------------------------------------------------------- lines


def _line(ax, method: str, estimates: dict[int, Estimate], shift: float) -> None:
    """Estimates by layer: markers, a line where layers follow each other, intervals."""
    style = STYLES[method]
    layers = np.arange(min(estimates), max(estimates) + 1)
    mean, low, high = (
        np.array([getattr(estimates.get(int(layer)), part, None) for layer in layers], dtype=float)
        for part in ("mean", "low", "high")
    )
    x = layers + shift
    is_baseline = method in BASELINES
    if np.isnan(mean).any():  # layers without an SAE lie between: a hairline leads the eye, no value is claimed
        have = ~np.isnan(mean)
        ax.plot(x[have], mean[have], color=style.color, lw=0.8, ls=(0, (1, 2)), gid=f"bridge-{method}", zorder=2)
    ax.plot(
        x,
        mean,
        color=style.color,
        ls=style.line,
        lw=1.3 if is_baseline else 1.7,
        marker=style.marker,
        ms=style.size * (0.75 if is_baseline else 1),
        mec=style.color if is_baseline else "white",
        mew=1.0 if is_baseline else 0.6,
        gid=f"line-{method}",
        zorder=2.5 if is_baseline else 3,
        clip_on=False,
    )
    if is_baseline:
        return
    over_seeds = np.array([getattr(estimates.get(int(layer)), "n", 0) > 1 for layer in layers])
    alone = _alone(mean)
    band = over_seeds & ~alone
    if band.any():
        ends = (np.where(band, low, np.nan), np.where(band, high, np.nan))
        ax.fill_between(x, *ends, color=style.color, alpha=0.16, lw=0, gid=f"band-{method}", zorder=1)
    whisker = ~band & ~np.isnan(low)
    if whisker.any():
        ax.vlines(
            x[whisker], low[whisker], high[whisker], color=style.color, lw=0.9, alpha=0.55, gid=f"whiskers-{method}"
        )


def _shifts(n: int, layers: list[int]) -> list[float]:
    """Points of one layer stand side by side, a few pixels apart, or equal ones would hide each other."""
    step = min(0.055, 0.0065 * (max(layers) - min(layers) + 1))
    return [(i - (n - 1) / 2) * step for i in range(n)]


def _alone(mean) -> object:
    """Points without a neighbour on either side: a band has no width there."""
    there = ~np.isnan(mean)
    left, right = np.r_[False, there[:-1]], np.r_[there[1:], False]
    return there & ~left & ~right


def _faint_line(ax, method: str, points: dict[int, float]) -> None:
    """Published numbers under our own."""
    style = STYLES[method]
    ax.plot(
        list(points),
        list(points.values()),
        color=style.color,
        alpha=0.45,
        lw=1.1,
        ls=(0, (4, 2)),
        marker=style.marker,
        ms=3,
        mew=0,
        gid=f"published-{method}",
        zorder=1.5,
    )


def _dress(ax, layers: list[int]) -> None:
    ax.set_xlim(min(layers) - 0.4, max(layers) + 0.4)
    ax.set_ylim(0, 1)
    ax.set_xticks(integer_ticks(list(range(min(layers), max(layers) + 1))))
    ax.set_yticks(np.linspace(0, 1, 11), [f"{v:.1f}" for v in np.linspace(0, 1, 11)])
    ax.grid(axis="x", visible=False)
    ax.set_xlabel("layer (residual stream after this block)")
    ax.set_ylabel("disentangle, test pairs")


def _in_words(grid: Grid, target: str, mask: str, shown: list[str]) -> str:
    def best(method: str) -> str:
        scores = {layer: grid.score(target, method, layer, mask, "disentangle") for layer in grid.layers}
        layer = max((layer for layer in scores if scores[layer]), key=lambda layer: scores[layer].mean)
        return f"{method} {scores[layer].mean:.2f} at layer {layer}"

    return (
        f"Line chart: disentangle score, target {target}, {MASK_WORDS[mask]}, layers {grid.layers[0]} to "
        f"{grid.layers[-1]}. Highest of each: {', '.join(map(best, shown))}."
    )
