"""The tables of the report, as html: scores at a glance, all scores, SAE quality."""

import html

import stats
from drawing.canvas import plural
from drawing.captions import MASK_WORDS, interval_words
from featurizers.labels import label_of
from featurizers.methods import BASELINES, ordered
from masks.names import SCORES
from results.estimates import Comparison, Estimate, Grid
from results.worked import Worked

NOTHING = "\N{EN DASH}"  # a cell that was not measured
FALLING = " *"  # behind a method whose mask was not trained out
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


def table(name: str, caption: str, head: str, rows: str, called: str = "") -> str:
    """A table that scrolls within its own box, under a caption that does not; its heads sort it (report.js).

    name: its id on the page; called: what it is called, where that is not its caption.
    """
    said = f'aria-label="{called}"' if called else f'aria-labelledby="{name}-caption"'
    above = f'<p class="soft" id="{name}-caption">{caption}</p>' if caption else ""
    return (
        f'{above}<div class="scroll" tabindex="0" role="region" {said}>'
        f'<table id="{name}" {said}><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n'
    )


def heads(names, kind: str = "") -> str:
    """Heads of columns; kind: 'text' for columns of words."""
    about = f' class="{kind}"' if kind else ""
    return "".join(f'<th scope="col"{about}>{name}</th>' for name in names)


def cells(values, about: str = "") -> str:
    return "".join(f"<td{about}>{value}</td>" for value in values)


def _number(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"


def interval(estimate: Estimate | None) -> str:
    return NOTHING if estimate is None or estimate.low is None else f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def signed(found: Comparison) -> str:
    """The interval of a difference."""
    return f"[{found.low:+.3f}, {found.high:+.3f}]"


def _linked(shown: str, anchor: str | None) -> str:
    return f'<a href="#{text(anchor)}">{shown}</a>' if anchor else shown


def glance(grid: Grid, target: str, mask: str, compared: list[Comparison], ids: dict[tuple, str]) -> str:
    """Methods down, layers across; a score links to the features behind it: ids, by target, method and layer."""
    better = {(c.method, c.layer) for c in compared if c.target == target and c.verdict == stats.BETTER}
    rows = ""
    for method in (*BASELINES, *grid.methods):
        row = ""
        for layer in grid.layers:
            estimate = grid.score(target, method, layer, mask, "disentangle")
            mark = ' class="wins"' if (method, layer) in better else ""
            shown = _number(estimate and estimate.mean, 2)
            row += cells([_linked(shown, ids.get((target, method, layer)))], mark)
        if row.replace(cells([NOTHING]), ""):
            kind = ' class="beside"' if method in BASELINES else ""
            rows += f'<tr{kind}><th scope="row">{text(grid.label(method))}</th>{row}</tr>'
    head = heads(["layer"], "text") + heads(grid.layers)
    caption = (
        f"Disentangle, target {target}, {MASK_WORDS[mask]}, test pairs, mean over {plural(len(grid.seeds), 'seed')}."
    )
    if compared:
        caption += f" Bold and underlined: better than {text(grid.label(compared[0].against))} (see below)."
    if any(cell[0] == target for cell in ids):
        caption += " A score that is a link leads to the features that its mask selected."
    return f"<article><h3>Target {target}</h3>{table(f'glance-{target}', caption, head, rows)}</article>"


def differences(name: str, compared: list[Comparison], mask: str, grid: Grid) -> str:
    """Every comparison, target by target and layer by layer; name: the table's id."""
    head = heads(["target"], "text") + heads(["layer"]) + heads(["method", "minus"], "text")
    head += heads(["difference", "95 %", "p", "p (Holm)"]) + heads(["says"], "text") + heads(["detects"])
    rows = ""
    for c in compared:
        about = f'data-target="{c.target}" data-layer="{c.layer}" data-method="{text(c.method)}"'
        rows += f'<tr {about}><td class="text">{c.target}</td><td>{c.layer}</td>'
        rows += f'<th scope="row">{text(grid.label(c.method))}</th>'
        rows += cells([text(grid.label(c.against))], ' class="text"')
        rows += cells([f"{c.difference:+.3f}", signed(c), _p(c.p), _p(c.p_holm)])
        rows += cells([c.verdict], ' class="text"') + cells([_number(c.detectable)]) + "</tr>"
    caption = (
        f"Differences of disentangle, {MASK_WORDS[mask]}, on the same test pairs; "
        f"{interval_words(grid)}. says: by p corrected for these {len(compared)} comparisons (Holm 1979); p and "
        "interval are of one alone. detects: the least difference that this design finds with a chance of 0.8."
    )
    return table(f"{name}-table", caption, head, rows)


def _p(p: float) -> str:
    return "&lt; .001" if p < 0.001 else f"{p:.3f}"


def scores(grid: Grid, target: str, ids: dict[tuple, str], prefix: str = "") -> str:
    """Every score of a target, by layer; a method links to the features behind its scores, as in `glance`.

    prefix: of the table's id, where there are two of a target.
    """
    head = heads(["method"], "text") + heads(["layer"])
    head += "".join(heads(f"{mask} {name}" for name in (*SCORES, "95 %")) for mask in ("hard", "soft"))
    head += heads(["selected", "l0"])
    rows = ""
    for layer in grid.layers:
        for method in (*BASELINES, *grid.methods):
            rows += "".join(_score_row(grid, target, m, layer, ids) for m in (method, *grid.controls.get(method, ())))
    kept = ", ".join(attribute for attribute in grid.attributes if attribute != target)
    caption = f"Target {target}, other facts {kept}, test pairs, hard and soft mask. Behind disentangle, its "
    caption += f"{interval_words(grid)}. {NOTHING}: not measured."
    last = [str(layer) for layer in grid.layers if grid.is_last_block(layer)]
    if last:
        caption += f" Layer {', '.join(last)} is the last block: nothing can be learned there."
    if any(grid.still_falling(*cell) for cell in grid.cells if cell[0] == target):
        caption += f"{FALLING}: the training loss still fell fast at the end; more epochs may change the score."
    return f"<h3>Target {target}</h3>" + table(f"{prefix}scores-{target}", caption, head, rows)


def _score_row(grid: Grid, target: str, method: str, layer: int, ids: dict[tuple, str]) -> str:
    if grid.score(target, method, layer, "hard", "disentangle") is None:
        return ""
    numbers = [layer]
    for mask in ("hard", "soft"):
        found = [grid.score(target, method, layer, mask, name) for name in SCORES]
        numbers += [*(_number(estimate.mean) for estimate in found), interval(found[-1])]
    selected, of, l0 = (grid.mean(target, method, layer, key) for key in ("n_selected", "n_features", "l0"))
    numbers += [NOTHING if selected is None else f"{selected:,.0f}/{of:,.0f}", _number(l0, 1)]
    where = f'data-target="{target}" data-layer="{layer}" data-method="{text(method)}"'
    kind = ' class="beside"' if method in BASELINES else ""
    name = _linked(text(grid.label(method)), ids.get((target, method, layer)))
    name += FALLING * bool(grid.still_falling(target, method, layer))
    row = f'<tr{kind} {where}><th scope="row">{name}</th>{cells(numbers)}</tr>'
    spliced = [grid.reconstruction(target, method, layer, name) for name in SCORES]
    if all(spliced):
        own = (*(_number(estimate.mean) for estimate in spliced), interval(spliced[-1]))
        numbers = [layer, *own, *own, NOTHING, _number(l0, 1)]
        row += f'<tr class="beside" {where} data-reconstruction><th scope="row">&emsp;{text(grid.label(method))}: '
        row += f"reconstruction</th>{cells(numbers)}</tr>"
    return row


def worked_table(found: list[Worked], grid: Grid) -> str:
    """The worked pairs of every target; why there is none."""
    rows, remarks = "", []
    for worked in found:
        about = f"{text(grid.label(worked.method))}, layer {worked.layer}, seed {worked.seed}"
        for pair in worked.pairs:
            said = (pair.base, pair.source, pair.question, pair.before, pair.after, pair.wanted)
            rows += f'<tr><td class="text">{worked.target}</td><th scope="row">{pair.shown_as}</th>'
            rows += cells(map(text, said), ' class="text"') + f'<td class="text">{about}</td></tr>'
        remarks += [f"Target {worked.target}: no pair {name}." for name in worked.lacking]
        if not worked.is_kept:
            remarks.append(f"Target {worked.target}: answers were not kept when the result was made.")
    caption = (
        "Single test pairs of the mask that is best on the validation pairs, of its first seed; of each kind the first "
        "in the order of the pair file. The source's features are patched into the base's prompt, which ends with the "
        "question. before, after: the likeliest next token without the patch and with it; of what is wanted the first "
        f"token counts. {' '.join(remarks)}"
    )
    if not rows:
        return f"<p>{caption}</p>"
    names = ("target", "pair", "base", "source", "question", "before", "after", "wanted", "mask of")
    return table("worked-table", caption.strip(), heads(names, "text"), rows)


def quality_table(quality: dict | None, labels: dict[str, str]) -> str:
    """Every measure of every SAE; labels: of users' own, by method."""
    if quality is None:
        return "<p>Not measured.</p>"
    head = heads(["SAE"], "text") + heads(["layer"]) + heads(("prompts", "at", "input"), "text")
    head += heads(name for name, _ in MEASURES.values())
    rows = ""
    order = ordered(row["method"] for row in quality["rows"])
    for row in sorted(quality["rows"], key=lambda r: (order.index(r["method"]), r["layer"], r["raw_residual"])):
        for place in ("city", "all"):
            words = (row["attribute"], place, "raw" if row["raw_residual"] else "centred")
            numbers = (_number(row[place].get(key), digits) for key, (_, digits) in MEASURES.items())
            rows += f'<tr><th scope="row">{text(label_of(row["method"], labels))}</th>'
            rows += cells([row["layer"]]) + cells(words, ' class="text"') + cells(numbers) + "</tr>"
    caption = (
        "How well each SAE reconstructs, and the model's accuracy with the reconstruction in place of the vector; at: "
        "the city's position only, or all positions. CE score: 1 is no loss, 0 is as bad as ablation. dead: share of "
        f"latents that never fired on these prompts. {NOTHING}: not measured."
    )
    return table("quality-table", caption, head, rows)
