"""The table of results, as text of 80 columns."""

from common.text import filled, shortened
from data.names import HELD_OUT
from featurizers.methods import BASELINES, method_named, size_family
from masks.names import SCORES
from results import elsewhere
from results.estimates import Comparison, Estimate, Grid, not_compared
from results.worked import worked_pairs

WIDTH = 79
FALLING = "*"  # behind the name of a method whose mask was not trained out
HEAD = (
    "                       hard mask                    soft mask\n"
    "method            cause isol.  dis. [95 %       ]  cause isol.  dis.   selected"
)
HEAD_OF_COMPARISONS = " L method             diff. [95 %         ]      p   Holm  says        detects"

HEAD_OF_WORKED = "           base          source        asked for before    after     wanted"
SHORT = {"worked": "worked", "failed on cause": "not cause", "failed on isolation": "not isol."}


def table(grid: Grid, mask: str, against: str) -> str:
    """All results as text of at most 80 columns: per target and layer, the baselines first; then the differences.

    Scores are of the test pairs, means over seeds.
    mask, against: of the differences: with which mask, from which method.
    """
    names = _labels(grid, grid.methods, 17)
    lines = []
    for target in grid.targets:
        of_target = [r for r in grid.results if r["target"] == target]
        n_seeds = len({r["seed"] for r in of_target})
        how = f"{grid.held_out} held out" if grid.held_out in HELD_OUT else f"split by {grid.held_out}"
        mode = f"mode {of_target[0]['mode']}, {how}"
        model = shortened(of_target[0]["model"], 26)
        lines += ["", f"{target}: {model}, {mode}, {n_seeds} seed{'s' * (n_seeds > 1)}", HEAD]
        for layer in grid.layers:
            note = ", the last block: nothing can be learned here" if grid.is_last_block(layer) else ""
            lines.append(f"-- layer {layer}{note} ".ljust(WIDTH, "-"))
            spliced = set()  # SAEs whose reconstruction has its row: other rows of theirs reconstruct as they do
            for method in (*BASELINES, *grid.methods):
                rows = _rows(names.get(method, method), grid, target, method, layer)
                release = method_named(method).release
                lines += rows[:1] if release in spliced else rows
                spliced |= {release} if rows and release else set()
                for control in grid.controls.get(method, []):
                    _, _, kind = control.rpartition(":")
                    rows = _rows(f"  {kind}", grid, target, control, layer)
                    lines += rows if kind in ("random", "permuted") else rows[:1]  # the others reconstruct as it does
    lines += interval_lines(grid)
    if any(grid.still_falling(*cell) for cell in grid.cells):
        lines.append(f"{FALLING} the training loss still fell fast at the end: more --epochs may change it")
    compared = grid.compare(against, mask)
    if not compared and any(method != against for method in grid.methods):
        lines += ["", not_compared(against)]
    for found in (compared, grid.compare_controls(mask)):
        lines += comparison_lines(found, mask, grid)
    return "\n".join(lines)


def interval_lines(grid: Grid) -> list[str]:
    """What the intervals are for, and what they cannot say."""
    meaning = f"[95 %]: of disentangle, {grid.meaning} (--cluster)"
    return ["", meaning, *(f"warning: {line}" for line in grid.warnings)]


def _rows(name: str, grid: Grid, target: str, method: str, layer: int) -> list[str]:
    """A method's row, and that of its SAE's reconstruction; none if it was not run."""
    found = {mask: [grid.score(target, method, layer, mask, key) for key in SCORES] for mask in ("hard", "soft")}
    if None in found["hard"]:
        return []
    selected, of, l0 = (grid.mean(target, method, layer, key) for key in ("n_selected", "n_features", "l0"))
    name += FALLING * bool(grid.still_falling(target, method, layer))
    rows = [_row(name, found["hard"], found["soft"], "" if of is None else f"{selected:.0f}/{of:.0f}")]
    spliced = [grid.reconstruction(target, method, layer, key) for key in SCORES]
    if None not in spliced:
        label = "    reconstruct." if name.startswith(" ") else "  reconstruction"  # a control's stands under it
        rows.append(_row(label, spliced, spliced, f"l0 {l0:.1f}"))
    return rows


def _row(name: str, hard: list[Estimate], soft: list[Estimate], last: str) -> str:
    scores = [" ".join(f"{estimate.mean:5.3f}" for estimate in found) for found in (hard, soft)]
    interval = f"[{hard[-1].low:.3f} {hard[-1].high:.3f}]"
    return f"{name:<18}{scores[0]} {interval:<13}  {scores[1]} {last:>11}".rstrip()


def comparison_lines(found: list[Comparison], mask: str, grid: Grid) -> list[str]:
    """Differences of methods, target by target: from one method, perhaps at another layer, or from their controls."""
    compared = (name for c in found for name in (c.method, c.against))
    names = _labels(grid, dict.fromkeys([*grid.methods, *compared]), 17)
    lines = []
    of_controls = all(c.against in grid.beside.get(c.method, ()) for c in found)
    for target in dict.fromkeys(comparison.target for comparison in found):
        other = "its controls" if of_controls else names[found[0].against]
        where = ", same pairs"
        if found[0].against_layer != found[0].layer:
            other, where = f"{other} at layer {found[0].against_layer}", ""
        lines += ["", f"{target}: disentangle minus that of {other}, {mask} mask{where}", HEAD_OF_COMPARISONS]
        last = None
        for c in (c for c in found if c.target == target):
            name = names[c.method]
            if of_controls:  # the method's name once, then its controls
                if (c.layer, c.method) != last:
                    lines.append(f"{c.layer:>2} {name}")
                last, name = (c.layer, c.method), f"  - {c.against.removeprefix(f'{c.method}:')}"
            interval = f"[{c.low:+.3f} {c.high:+.3f}]"
            detects = f"{c.detectable:6.3f}" if c.detectable < 1 else "  none"
            lines.append(
                f"{c.layer:>2} {name:<17} {c.difference:+.3f} {interval} {_p(c.p)} {_p(c.p_holm)}  "
                f"{c.verdict:<11} {detects}"
            )
    if found:
        lines += [
            "",
            f"says: by p corrected for these {len(found)} comparisons (Holm). [95 %], p: of one alone.",
            f"detects: the least difference found with a chance of .8, as one of these {len(found)}.",
        ]
    return lines


def _p(p: float) -> str:
    return " <.001" if p < 0.001 else f"{p:6.3f}"


def summary(grid: Grid) -> str:
    """Disentangle with the hard mask, methods down and layers across: the table at a glance."""
    lines = []
    for target in grid.targets:
        lines += ["", f"{target}: disentangle, hard mask, test pairs, by layer"]
        for start in range(0, len(grid.layers), 12):  # so many fit in a line
            lines += _summary_rows(grid, target, grid.layers[start : start + 12])
        lines += _choices(grid, target) + _size_choices(grid, target)
    return "\n".join(lines)


def _choices(grid: Grid, target: str) -> list[str]:
    """The layer that each method would be reported at, if one had to be chosen: by validation, not by test pairs."""
    lines = []
    for method, name in _labels(grid, grid.methods, 14).items():
        family = size_family(method)
        if family and grid.size_choice(target, family, "hard"):
            continue  # `_size_choices` has it
        choice = grid.choice(target, method, "hard")
        if choice and choice.n_layers > 1:
            test = f"{choice.test.mean:.3f} [{choice.test.low:.3f} {choice.test.high:.3f}]"
            lines.append(f"  {name:<14} layer {choice.layer:>2}, of {choice.n_layers:<3} test {test}")
    title = f"{target}: the layer that is best on validation, and its score on test pairs"
    return ["", title, *lines] if lines else []


def _size_choices(grid: Grid, target: str) -> list[str]:
    """The size of each METHOD@, and the layer, that it would be reported at: likewise by validation."""
    lines = []
    for family in grid.size_families:
        if found := grid.size_choice(target, family, "hard"):
            method, n_sizes, choice = found
            test = f"{choice.test.mean:.3f} [{choice.test.low:.3f} {choice.test.high:.3f}]"
            of = f"of {n_sizes} x {choice.n_layers}"
            lines.append(f"  {shortened(grid.label(method), 22):<22} layer {choice.layer:>2}, {of:<9} test {test}")
    title = f"{target}: size and layer best on validation, scored on test pairs"
    return ["", title, *lines] if lines else []


def _summary_rows(grid: Grid, target: str, layers: list[int]) -> list[str]:
    lines = [f"{'layer':<14}" + "".join(f"{layer:>5}" for layer in layers)]
    methods = (*BASELINES, *grid.methods)
    for method, name in _labels(grid, methods, 14).items():
        found = [grid.score(target, method, layer, "hard", "disentangle") for layer in layers]
        if any(found):
            lines.append(f"{name:<14}" + "".join(f"{e.mean:5.2f}" if e else "    -" for e in found))
    return lines


def _labels(grid: Grid, methods, width: int) -> dict[str, str]:
    """What methods are called in a column; where two long names end alike, with their numbers in this order."""
    short = {method: shortened(grid.label(method), width) for method in methods}
    alike = [method for method in methods if list(short.values()).count(short[method]) > 1]
    return short | {m: f"{shortened(grid.label(m), width - 3)} #{i}" for i, m in enumerate(alike, 1)}


def elsewhere_lines(grid: Grid, templates: Grid | None) -> list[str]:
    """The disentangle scores of both tests by other protocols' formulas (results.elsewhere), a method a line.

    Of each method at the layer that is best on validation; of a baseline at the first such layer.
    """
    tests = [(each, elsewhere.of_cells(each)) for each in (grid, templates) if each]
    lines = []
    for target in grid.targets if all(cells for _, cells in tests) else ():
        names = _labels(grid, (*BASELINES, *grid.methods), 17)
        chosen = {m: choice.layer for m in grid.methods if (choice := grid.choice(target, m, elsewhere.MASK))}
        at = dict.fromkeys(BASELINES, min(chosen.values(), default=grid.layers[0])) | chosen
        lines += ["", f"{target}: the same test pairs by others' formulas, disentangle, {elsewhere.MASK} mask"]
        lines.append(" " * 21 + "".join(f"  {f'{each.held_out} held out':<27}" for each, _ in tests).rstrip())
        lines.append(" L method            " + "   here  RAVEL SAEBench   MIB" * len(tests))
        for method, layer in at.items():
            found = [
                (each.score(target, method, layer, elsewhere.MASK, "disentangle"), cells.get((target, method, layer)))
                for each, cells in tests
            ]
            if all(map(all, found)):
                lines.append(f"{layer:>2} {names[method]:<18}" + "".join(_elsewhere(*each) for each in found))
    if lines:
        lines += ["", "MIB's is one share of all pairs. Only the formulas are theirs (docs/ravel.md)."]
    return lines


def _elsewhere(here: Estimate, scores: dict) -> str:
    ravel, saebench = (scores[name]["disentangle"] for name in ("ravel", "saebench"))
    return f"  {here.mean:5.3f}  {ravel:5.3f}    {saebench:5.3f} {scores['mib']['accuracy']:5.3f}"


def worked_lines(grid: Grid, mask: str) -> list[str]:
    """Of each target the worked pairs (results.worked), a line each, under the question of the first."""
    lines = []
    names = _labels(grid, grid.methods, 17)
    for target in grid.targets:
        worked = worked_pairs(grid, target, mask)
        if worked is None:
            continue
        about = f"{names[worked.method]} at layer {worked.layer}, seed {worked.seed}, {mask} mask"
        lines += ["", f"{target}: single test pairs, {about}"]
        if not worked.is_kept:
            lines.append("answers were not kept when this result was made; --force redoes it")
        if worked.pairs:
            lines.append(HEAD_OF_WORKED)
        for pair in worked.pairs:
            cities = (f"{shortened(city, 13):<13}" for city in (pair.base, pair.source))
            said = (f"{shortened(word, 9):<9}" for word in (pair.before, pair.after, pair.wanted.split()[0]))
            lines.append(" ".join([f"{SHORT[pair.shown_as]:<10}", *cities, f"{pair.asked:<9}", *said]).rstrip())
        lines += [f"no pair {name}" for name in worked.lacking]
        if worked.pairs:
            lines.append(filled(f'the first question: "{worked.pairs[0].question}"'))
    return lines
