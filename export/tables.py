"""Scores as tables to read, for a paper and for a README: what the terminal's table shows, seeds averaged."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.markup import latex_text, markdown_text
from featurizers.methods import BASELINES
from masks.names import SCORES, default_mask
from results.estimates import Grid

HEAD = ("layer", "method", *SCORES, "95 %", "selected")


@dataclass(frozen=True)
class Line:
    """A method at a layer: layer, name, the three scores, the interval of disentangle, features selected."""

    layer: int
    name: str
    scores: tuple[str, ...]
    interval: str
    selected: str
    falling: bool  # was it not trained out?


def _lines(grid: Grid, target: str, mask: str) -> Iterator[Line]:
    for layer in grid.layers:
        for method in (*BASELINES, *(m for own in grid.methods for m in (own, *grid.controls[own]))):
            found = [grid.score(target, method, layer, mask, name) for name in SCORES]
            if None in found:
                continue
            selected, of = (grid.mean(target, method, layer, key) for key in ("n_selected", "n_features"))
            yield Line(
                layer,
                grid.label(method),
                tuple(f"{estimate.mean:.3f}" for estimate in found),
                f"{found[-1].low:.3f} to {found[-1].high:.3f}",
                "" if of is None else f"{selected:.0f} of {of:.0f}",
                bool(grid.still_falling(target, method, layer)),
            )


def _about(grid: Grid, target: str, mask: str, lines: list[Line]) -> tuple[str, list[str]]:
    """What stands above a target's table, and the sentences below it."""
    first, n = grid.results[0], len(grid.seeds)
    title = f"{first['model']}, target {target}: {mask} mask, mode {first['mode']}, split by {first['split']}, "
    below = [f"95 %: interval of disentangle, {grid.meaning}."]
    if any(line.falling for line in lines):
        below.append("*: the training loss still fell fast at the end.")
    return title + f"{n} seed{'s' * (n > 1)}", [*below, *([grid.notice] if grid.notice else [])]


def markdown(grid: Grid) -> str:
    """A table of GitHub's markdown for each target."""
    mask, parts = default_mask(grid.results[0]["mode"]), []
    for target in grid.targets:
        lines = list(_lines(grid, target, mask))
        title, below = _about(grid, target, mask, lines)
        parts += [f"**{markdown_text(title)}**", "", f"| {' | '.join(HEAD)} |", "|---:|---|---:|---:|---:|---|---:|"]
        for line in lines:
            name = markdown_text(line.name) + r"\*" * line.falling
            cells = (str(line.layer), name, *line.scores, line.interval, line.selected)
            parts.append(f"| {' | '.join(cells)} |")
        parts += ["", markdown_text(" ".join(below)), ""]
    return "\n".join(parts)


def latex(grid: Grid) -> str:
    """A longtable with booktabs' rules for each target, to be read in by \\input."""
    mask, parts = default_mask(grid.results[0]["mode"]), ["% needs \\usepackage{booktabs, longtable}"]
    for target in grid.targets:
        lines = list(_lines(grid, target, mask))
        title, below = _about(grid, target, mask, lines)
        head = " & ".join(map(latex_text, HEAD)) + r" \\"
        parts += [r"\begin{longtable}{rlrrrrr}", rf"\caption{{{latex_text(title)}}} \\", r"\toprule", head]
        parts += [r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
        last = lines[0].layer if lines else None
        for line in lines:
            if line.layer != last:
                parts.append(r"\addlinespace")
            last, name = line.layer, latex_text(line.name) + "$^*$" * line.falling
            cells = (str(line.layer), name, *line.scores, latex_text(line.interval), latex_text(line.selected))
            parts.append(" & ".join(cells) + r" \\")
        parts += [r"\end{longtable}", *(rf"\noindent {latex_text(sentence)}\par" for sentence in below), ""]
    return "\n".join(parts)


def write_markdown(grid: Grid, path: Path) -> None:
    path.write_text(markdown(grid), encoding="utf-8")


def write_latex(grid: Grid, path: Path) -> None:
    path.write_text(latex(grid), encoding="utf-8")
