"""The tables of the report, as html: scores at a glance, all scores, SAE quality."""

import html

import stats
from data.names import other
from drawing.canvas import plural
from drawing.captions import MASK_WORDS, interval_words
from featurizers.labels import label_of
from featurizers.methods import BASELINES, ordered
from masks.names import SCORES
from results.estimates import Comparison, Estimate, Grid

NOTHING = "\N{EN DASH}"  # a cell that was not measured
FALLING = " *"  # behind a method whose mask was not trained out
TEXT = 'class="text" scope="col"'  # of the head of a column of words
MEASURES = {  # of an SAE: head and digits
    "squared_error": ("squared error", 2),
    "explained_variance": ("explained variance", 3),
    "cosine": ("cosine", 3),
    "l0": ("l0", 1),
    "dead_share": ("dead", 3),
    "accuracy": ("accuracy", 3),
    "ce_loss_score": ("CE score", 3),
    "kl_div": ("KL", 3),
}


def text(value) -> str:
    """Anything from outside as html: escaped, and without what utf-8 or html cannot hold."""
    kept = "".join(c if c.isprintable() or c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return html.escape(kept)


def table(name: str, caption: str, head: str, rows: str) -> str:
    """A table that scrolls within its own box, under a caption that does not; name: its id on the page."""
    return (
        f'<p class="soft" id="{name}-caption">{caption}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{name}-caption">'
        f'<table id="{name}" aria-describedby="{name}-caption">'
        f"<thead>{head}</thead><tbody>{rows}</tbody></table></div>\n"
    )


def heads(names, about: str = 'scope="col"') -> str:
    return "".join(f"<th {about}>{name}</th>" for name in names)


def _cells(values, about: str = "") -> str:
    return "".join(f"<td{about}>{value}</td>" for value in values)


def _number(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"


def _interval(estimate: Estimate | None) -> str:
    return NOTHING if estimate is None or estimate.low is None else f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def glance(grid: Grid, target: str, mask: str, compared: list[Comparison]) -> str:
    """Methods down, layers across."""
    better = {(c.method, c.layer) for c in compared if c.target == target and c.verdict == stats.BETTER}
    rows = ""
    for method in (*BASELINES, *grid.methods):
        cells = ""
        for layer in grid.layers:
            estimate = grid.score(target, method, layer, mask, "disentangle")
            mark = ' class="wins"' if (method, layer) in better else ""
            cells += _cells([_number(estimate and estimate.mean, 2)], mark)
        if cells.replace(_cells([NOTHING]), ""):
            kind = ' class="beside"' if method in BASELINES else ""
            rows += f'<tr{kind}><th scope="row">{text(grid.label(method))}</th>{cells}</tr>'
    head = f"<tr>{heads(['layer'], TEXT)}{heads(grid.layers)}</tr>"
    caption = (
        f"Disentangle, target {target}, {MASK_WORDS[mask]}, test pairs, mean over {plural(len(grid.seeds), 'seed')}. "
    )
    if compared:
        caption += f"Bold and underlined: better than {text(grid.label(compared[0].against))} (see below)."
    return f"<h3>Target {target}</h3>" + table(f"glance-{target}", caption, head, rows)


def differences(name: str, compared: list[Comparison], mask: str, grid: Grid) -> str:
    """Every comparison, target by target and layer by layer; name: the table's id."""
    head = f"<tr>{heads(['target', 'layer', 'method', 'minus'], TEXT)}"
    head += heads(["difference", "95 %", "p", "p (Holm)"]) + heads(["says"], TEXT) + heads(["detects"]) + "</tr>"
    rows = ""
    for c in compared:
        words = _cells([c.layer], ' class="text"') + f'<th scope="row">{text(grid.label(c.method))}</th>'
        words += _cells([text(grid.label(c.against))], ' class="text"')
        numbers = [f"{c.difference:+.3f}", f"[{c.low:+.3f}, {c.high:+.3f}]", _p(c.p), _p(c.p_holm)]
        about = f'data-target="{c.target}" data-layer="{c.layer}" data-method="{text(c.method)}"'
        rows += f'<tr {about}><td class="text">{c.target}</td>{words}{_cells(numbers)}'
        rows += _cells([c.verdict], ' class="text"') + _cells([_number(c.detectable)]) + "</tr>"
    caption = (
        f"Differences of disentangle, {MASK_WORDS[mask]}, on the same test pairs; "
        f"{interval_words(grid)}. says: by p corrected for these {len(compared)} comparisons (Holm 1979); p and "
        "interval are of one alone. detects: the least difference that this design finds with a chance of 0.8."
    )
    return table(f"{name}-table", caption, head, rows)


def _p(p: float) -> str:
    return "&lt; .001" if p < 0.001 else f"{p:.3f}"


def scores(grid: Grid, target: str) -> str:
    """Every score of a target, by layer."""
    over = 'rowspan="2" scope="col"'
    head = "<tr>" + heads(["method"], f'class="text" {over}')
    head += heads(("hard mask", "soft mask"), 'colspan="4" scope="colgroup"') + heads(("selected", "l0"), over)
    head += f"</tr><tr>{heads(2 * (*SCORES, '95 %'))}</tr>"
    rows = ""
    for layer in grid.layers:
        last = ", the last block: nothing can be learned here" if grid.is_last_block(layer) else ""
        rows += f'<tr class="layer"><th colspan="11" class="text" scope="rowgroup">layer {layer}{last}</th></tr>'
        for method in (*BASELINES, *grid.methods):
            rows += "".join(_score_row(grid, target, m, layer) for m in (method, *grid.controls.get(method, ())))
    caption = f"Target {target}, other fact {other(target)}, test pairs. Behind disentangle, its "
    caption += f"{interval_words(grid)}. {NOTHING}: not measured."
    if any(grid.still_falling(*cell) for cell in grid.cells if cell[0] == target):
        caption += f"{FALLING}: the training loss still fell fast at the end; more epochs may change the score."
    return f"<h3>Target {target}</h3>" + table(f"scores-{target}", caption, head, rows)


def _score_row(grid: Grid, target: str, method: str, layer: int) -> str:
    if grid.score(target, method, layer, "hard", "disentangle") is None:
        return ""
    cells = []
    for mask in ("hard", "soft"):
        found = [grid.score(target, method, layer, mask, name) for name in SCORES]
        cells += [*(_number(estimate.mean) for estimate in found), _interval(found[-1])]
    selected, of, l0 = (grid.mean(target, method, layer, key) for key in ("n_selected", "n_features", "l0"))
    cells += [NOTHING if selected is None else f"{selected:,.0f}/{of:,.0f}", _number(l0, 1)]
    where = f'data-target="{target}" data-layer="{layer}" data-method="{text(method)}"'
    kind = ' class="beside"' if method in BASELINES else ""
    falling = FALLING * bool(grid.still_falling(target, method, layer))
    row = f'<tr{kind} {where}><th scope="row">{text(grid.label(method))}{falling}</th>{_cells(cells)}</tr>'
    spliced = [grid.reconstruction(target, method, layer, name) for name in SCORES]
    if all(spliced):
        own = (*(_number(estimate.mean) for estimate in spliced), _interval(spliced[-1]))
        cells = [*own, *own, NOTHING, _number(l0, 1)]
        row += f'<tr class="beside" {where} data-reconstruction><th scope="row">&emsp;reconstruction</th>'
        row += f"{_cells(cells)}</tr>"
    return row


def quality_table(quality: dict | None, labels: dict[str, str]) -> str:
    """Every measure of every SAE; labels: of users' own, by method."""
    if quality is None:
        return "<p>Not measured.</p>"
    head = heads(("SAE", "layer", "prompts", "at", "input"), TEXT) + heads(name for name, _ in MEASURES.values())
    rows = ""
    order = ordered(row["method"] for row in quality["rows"])
    for row in sorted(quality["rows"], key=lambda r: (order.index(r["method"]), r["layer"], r["raw_residual"])):
        for place in ("city", "all"):
            words = (row["layer"], row["attribute"], place, "raw" if row["raw_residual"] else "centred")
            numbers = (_number(row[place].get(key), digits) for key, (_, digits) in MEASURES.items())
            rows += f'<tr><th scope="row">{text(label_of(row["method"], labels))}</th>'
            rows += _cells(words, ' class="text"') + _cells(numbers) + "</tr>"
    caption = (
        "How well each SAE reconstructs, and the model's accuracy with the reconstruction in place of the vector; at: "
        "the city's position only, or all positions. CE score: 1 is no loss, 0 is as bad as ablation. dead: share of "
        f"latents that never fired on these prompts. {NOTHING}: not measured."
    )
    return table("quality-table", caption, f"<tr>{head}</tr>", rows)
