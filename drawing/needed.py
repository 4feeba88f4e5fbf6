"""How many of a mask's features are needed: the score when only the best of them are patched."""

from drawing.canvas import Drawing, Sheet, handle, name_ticks, plot, style_of
from drawing.captions import describe
from explain.files import run_of
from featurizers.methods import BASELINES
from imports import lines, np
from results.estimates import Grid

NOTES = (
    "Only the first k of the features that a mask selected are patched, best first by theta; nothing is trained anew. "
    "The right end of a line is the whole hard mask. A line per seed; ring: the fewest features that have 90 % of what "
    "the whole mask has above none, where it scores above none by more than chance. An SAE's line may begin below "
    "none: its reconstruction is in place even if nothing is patched."
)


def score_against_kept(grid: Grid, explanations: dict, target: str) -> Drawing | None:
    """A panel per layer, all methods in it; None if nothing of this target is explained."""
    found = [e for run, e in explanations.items() if run.target == target and run.method in grid.methods]
    found = [e for e in found if e["curves"]["theta"]["k"]]
    layers = sorted({run_of(e).layer for e in found})
    if not layers:
        return None
    columns = 3 if len(layers) in (3, 5, 6, 9) else min(4, len(layers)) if len(layers) > 4 else min(2, len(layers))
    size = {"panel_height": 2.3 if columns > 1 else 3.4, "gap": (0.3, 0.56), "heads": True}
    title = f"Features needed: score against the number kept, target {target}"
    sheet = Sheet(title, describe(grid, "hard"), NOTES, len(layers), columns, notice=grid.notice, **size)
    most = max(e["curves"]["theta"]["k"][-1] for e in found)
    for layer, ax in zip(layers, sheet.panels, strict=True):
        _dress(ax, most)
        for baseline in BASELINES:
            score = grid.score(target, baseline, layer, "hard", "disentangle")
            if score:
                style = style_of(baseline)
                about = {"color": style.color, "ls": style.line, "lw": 1.2, "zorder": 1.8}
                ax.axhline(score.mean, gid=f"line-{baseline}", **about)
        for explanation in (e for e in found if run_of(e).layer == layer):
            _line(ax, run_of(explanation).method, explanation)
        ax.set_title(f"layer {layer}")
    sheet.name_outer("features kept", "disentangle, test pairs")
    shown = [m for m in grid.methods if any(run_of(e).method == m for e in found)]
    ring = lines.Line2D([], [], label="90 % reached", ls="none", marker="o", mfc="none", mec="#5c5c5c", ms=7)
    baselines = [handle(b, marker="none") for b in BASELINES]
    sheet.key([*baselines, *(handle(m, grid.labels) for m in shown), ring])
    words = "; ".join(f"{grid.label(m)} {_range([e for e in found if run_of(e).method == m])}" for m in shown)
    return sheet.drawing(f"Line charts by layer, target {target}", f"Features needed: {words}.")


def _line(ax, method: str, explanation: dict) -> None:
    curve, enough = explanation["curves"]["theta"], explanation["needed"]["theta"]
    style = style_of(method)
    plot(ax, method, curve["k"], curve["disentangle"], "kept", 0.55, ls=style.line, lw=1.2, mew=0.3)
    if enough in curve["k"]:
        at = curve["disentangle"][curve["k"].index(enough)]
        ring = {"ls": "none", "marker": "o", "ms": 8, "mfc": "none", "mec": style.color, "mew": 1.2, "zorder": 3.5}
        ax.plot([enough], [at], gid=f"needed-{method}", **ring)


def _range(explanations: list[dict]) -> str:
    known = [e["needed"]["theta"] for e in explanations if e["needed"]["theta"] is not None]
    if not known:
        return "not above none"
    return f"{min(known)}" if min(known) == max(known) else f"{min(known)} to {max(known)}"


def _dress(ax, most: int) -> None:
    ax.set_xscale("log")
    ax.set_xlim(0.8, max(10, most) * 1.3)
    ticks = [10**k for k in range(int(np.log10(max(10, most))) + 1)]
    ax.set_xticks(ticks, [f"{t // 1000}k" if t >= 1000 else str(t) for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set_ylim(0, 1.04)
    name_ticks(ax, np.linspace(0, 1, 6))
