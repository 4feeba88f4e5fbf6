"""The report: one page that holds all scores and figures and needs nothing else.

Every text that comes from a file goes through `text`, which escapes it.  The page
depends on the results alone, so the same results give the same page.
"""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from collect import Collection
from data.ravel_data_prep import ATTRIBUTES, other
from estimates import BASELINES, Estimate, Grid
from featurizers import METHODS
from plots import plural
from plots_scores import MASK_WORDS
from settings import HOME
from training import SCORES

NOTHING = "\N{EN DASH}"  # a cell that was not measured
TOY = (
    "<strong>This is the toy world.</strong> That das beats neurons and neurons beat SAEs at layer 2 is built into it: "
    "these scores check the machinery and are no finding about real models or published SAEs."
)
MEANING = """
<ul>
<li><strong>cause</strong>: share of test pairs whose answer about the target becomes the source city's.
<strong>isolation</strong>: share whose answer about the other fact stays the base city's.
<strong>disentangle</strong>: the mean of the two.</li>
<li><strong>hard mask</strong>: features with theta &gt; 0 are patched, others are not; 'selected' counts them.
<strong>soft mask</strong>: sigmoid(theta / T) at the end temperature, as in the paper's figures; a soft score may
rest on many features patched in part.</li>
<li><strong>none</strong> and <strong>full</strong> patch nothing and the whole vector. A method is worth something
where it is clearly above both. Near 0.5 it may win one half and lose the other: look at cause and isolation.</li>
<li><strong>reconstruction</strong>: the SAE's reconstruction is spliced in and nothing is swapped, so what it lacks
to none is the SAE's error. <strong>l0</strong>: latents that fire on a city's vector, on average; a dense SAE
disentangles easily, as a rotation does.</li>
</ul>
<p>What the scores do not say: that a selected feature <em>is</em> the concept (a mask finds features that suffice
for these prompts and cities, and a trained rotation has many more degrees of freedom than a mask over fixed
latents); anything about other facts, prompts, positions or models; or how good an SAE is at what it was trained
for.</p>
"""


@dataclass(frozen=True)
class Shown:
    """A figure on disk, its caption and its description in words."""

    name: str
    caption: str
    alt: str


def text(value) -> str:
    """Anything from outside as html: escaped, and without what utf-8 or html cannot hold."""
    kept = "".join(c if c.isprintable() or c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return html.escape(kept)


def page(collection: Collection, grid: Grid, mask: str, shown: list[Shown], folder: Path, lacking: list[str]) -> str:
    """The whole page; folder: where the figures lie."""
    model = text(collection.model)
    sections = {}
    if grid.results:
        sections["run"] = ("What was run", _what_was_run(collection, grid))
        sections["glance"] = ("Scores at a glance", "".join(_glance(grid, target, mask) for target in grid.targets))
        sections["meaning"] = ("What the scores mean, and do not", MEANING)
    sections["figures"] = ("Figures", "".join(_figure(figure, folder) for figure in shown))
    if grid.results:
        sections["scores"] = ("All scores", "".join(_scores(grid, target) for target in grid.targets))
    sections["quality"] = ("SAE quality", _quality(collection.quality))
    sections["unmeasured"] = ("Not measured", _unmeasured(collection, grid, lacking))
    sections["settings"] = ("Settings and provenance", _settings(collection))
    links = "".join(f'<a href="#{key}">{title}</a> ' for key, (title, _) in sections.items())
    body = "".join(
        f'<section id="{key}"><h2>{title}</h2>{content}</section>\n' for key, (title, content) in sections.items()
    )
    notice = f'<p class="notice">{TOY}</p>' if collection.is_toy else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Disentangle scores: {model}</title>
<link rel="icon" href="data:,">
<style>
{(HOME / "report.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>Do these features hold one concept? Scores of {model}</h1>
{notice}
<p>A few features of one city's vector are patched into another city's prompt. If they hold the target (country or
continent) and nothing else, the answer about the target changes and the answer about the other fact does not.</p>
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{body}</main>
</body>
</html>
"""


def _what_was_run(collection: Collection, grid: Grid) -> str:
    first = grid.results[0]
    ran = [m for m in METHODS if any(r["method"] == m for r in grid.results)]
    cities = " or ".join(f"{n:,}" for n in grid.n_cities)
    facts = {
        "model": first["model"],
        "mode": f"{first['mode']}, split by {first['split']}",
        "targets": ", ".join(grid.targets),
        "methods": ", ".join(ran),
        "layers": ", ".join(map(str, grid.layers)),
        "seeds": ", ".join(map(str, grid.seeds)),
        "cities": cities or "not recorded",
        "test pairs": _pair_counts(grid),
        "runs": f"{len(grid.results):,}",
        "results of": _date(collection.modified),
    }
    return _facts(facts)


def _facts(facts: dict) -> str:
    return "<dl>" + "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d (UTC)")


def _pair_counts(grid: Grid) -> str:
    parts = []
    for target in grid.targets:
        counts = [
            sorted({r["test"]["hard"].get(f"n_{kind}") for r in grid.results if r["target"] == target} - {None})
            for kind in ("cause", "isolation")
        ]
        if all(counts):
            said = [" or ".join(f"{n:,}" for n in found) for found in counts]
            parts.append(f"{target}: {said[0]} cause, {said[1]} isolation")
    return "; ".join(parts) or "not recorded"


# ---------------------------------------------------------------- tables


def _table(name: str, caption: str, head: str, rows: str) -> str:
    """A table that scrolls within its own box, under a caption that does not; name: its id on the page."""
    return (
        f'<p class="soft" id="{name}-caption">{caption}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{name}-caption">'
        f'<table id="{name}" aria-describedby="{name}-caption">'
        f"<thead>{head}</thead><tbody>{rows}</tbody></table></div>\n"
    )


def _number(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"


def _interval(estimate: Estimate | None) -> str:
    return NOTHING if estimate is None or estimate.low is None else f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def _glance(grid: Grid, target: str, mask: str) -> str:
    """Methods down, layers across."""
    rows = ""
    for method in (*BASELINES, *grid.methods):
        cells = ""
        for layer in grid.layers:
            estimate = grid.score(target, method, layer, mask, "disentangle")
            mark = ' class="wins"' if _wins(grid, target, method, layer, mask) else ""
            cells += f"<td{mark}>{_number(estimate and estimate.mean, 2)}</td>"
        if cells.replace(f"<td>{NOTHING}</td>", ""):
            kind = ' class="beside"' if method in BASELINES else ""
            rows += f'<tr{kind}><th scope="row">{method}</th>{cells}</tr>'
    head = '<tr><th class="text" scope="col">layer</th>'
    head += "".join(f'<th scope="col">{layer}</th>' for layer in grid.layers) + "</tr>"
    caption = (
        f"Disentangle, target {target}, {MASK_WORDS[mask]}, test pairs, mean over {plural(len(grid.seeds), 'seed')}. "
        "Bold and underlined: the whole 95 % interval lies above both none and full."
    )
    return f"<h3>Target {target}</h3>" + _table(f"glance-{target}", caption, head, rows)


def _wins(grid: Grid, target: str, method: str, layer: int, mask: str) -> bool:
    own = grid.score(target, method, layer, mask, "disentangle")
    beside = [grid.score(target, name, layer, mask, "disentangle") for name in BASELINES]
    if method in BASELINES or not (own and all(beside)) or own.low is None:
        return False
    return own.low > max(baseline.mean for baseline in beside)


def _scores(grid: Grid, target: str) -> str:
    """Every score of a target, by layer."""
    heads = "".join(f'<th colspan="4" scope="colgroup">{name} mask</th>' for name in ("hard", "soft"))
    names = 2 * [*(f'<th scope="col">{name}</th>' for name in SCORES), '<th scope="col">95 %</th>']
    head = f'<tr><th class="text" rowspan="2" scope="col">method</th>{heads}'
    head += (
        f'<th rowspan="2" scope="col">selected</th><th rowspan="2" scope="col">l0</th></tr><tr>{"".join(names)}</tr>'
    )
    rows = ""
    for layer in grid.layers:
        last = ", the last block: nothing can be learned here" if grid.is_last_block(layer) else ""
        rows += f'<tr class="layer"><th colspan="11" class="text" scope="rowgroup">layer {layer}{last}</th></tr>'
        for method in (*BASELINES, *grid.methods):
            rows += _score_row(grid, target, method, layer)
    if len(grid.seeds) > 1:
        kind = "mean ± t(n-1) · sd / √n over seeds (it may reach past 0 or 1)"
    else:
        kind = "bootstrap over cities"
    caption = f"Target {target}, other fact {other(target)}, test pairs. 95 %: interval of disentangle, {kind}. "
    caption += f"{NOTHING}: not measured."
    return f"<h3>Target {target}</h3>" + _table(f"scores-{target}", caption, head, rows)


def _score_row(grid: Grid, target: str, method: str, layer: int) -> str:
    if grid.score(target, method, layer, "hard", "disentangle") is None:
        return ""
    cells = ""
    for mask in ("hard", "soft"):
        found = [grid.score(target, method, layer, mask, name) for name in SCORES]
        cells += "".join(f"<td>{_number(estimate.mean)}</td>" for estimate in found)
        cells += f"<td>{_interval(found[-1])}</td>"
    selected, of, l0 = (grid.mean(target, method, layer, key) for key in ("n_selected", "n_features", "l0"))
    count = NOTHING if selected is None else f"{selected:,.0f}/{of:,.0f}"
    where = f'data-target="{target}" data-layer="{layer}" data-method="{method}"'
    kind = ' class="beside"' if method in BASELINES else ""
    row = f'<tr{kind} {where}><th scope="row">{method}</th>{cells}<td>{count}</td><td>{_number(l0, 1)}</td></tr>'
    spliced = [grid.reconstruction(target, method, layer, name) for name in SCORES]
    if all(spliced):
        three = "".join(f"<td>{_number(estimate.mean)}</td>" for estimate in spliced) + f"<td>{NOTHING}</td>"
        row += f'<tr class="beside" {where} data-reconstruction><th scope="row">&emsp;reconstruction</th>{three}{three}'
        row += f"<td>{NOTHING}</td><td>{_number(l0, 1)}</td></tr>"
    return row


def _quality(quality: dict | None) -> str:
    if quality is None:
        return "<p>Not measured.</p>"
    measures = {
        "squared_error": ("squared error", 2),
        "explained_variance": ("explained variance", 3),
        "cosine": ("cosine", 3),
        "l0": ("l0", 1),
        "dead_share": ("dead", 3),
        "accuracy": ("accuracy", 3),
        "ce_loss_score": ("CE score", 3),
        "kl_div": ("KL", 3),
    }
    head = "<tr>" + "".join(
        f'<th class="text" scope="col">{name}</th>' for name in ("SAE", "layer", "prompts", "at", "input")
    )
    head += "".join(f'<th scope="col">{name}</th>' for name, _ in measures.values()) + "</tr>"
    rows = ""
    for row in sorted(quality["rows"], key=lambda r: (list(METHODS).index(r["method"]), r["layer"], r["raw_residual"])):
        for place in ("city", "all"):
            words = (row["layer"], row["attribute"], place, "raw" if row["raw_residual"] else "centred")
            rows += f'<tr><th scope="row">{row["method"]}</th>' + "".join(
                f'<td class="text">{word}</td>' for word in words
            )
            rows += "".join(f"<td>{_number(row[place].get(key), digits)}</td>" for key, (_, digits) in measures.items())
            rows += "</tr>"
    caption = (
        "How well each SAE reconstructs, and the model's accuracy with the reconstruction in place of the vector; at: "
        "the city's position only, or all positions. CE score: 1 is no loss, 0 is as bad as ablation. dead: share of "
        f"latents that never fired on these prompts. {NOTHING}: not measured."
    )
    return _table("quality-table", caption, head, rows)


# ---------------------------------------------------------------- the rest


def _figure(figure: Shown, folder: Path) -> str:
    image = base64.b64encode((folder / f"{figure.name}.svg").read_bytes()).decode("ascii")
    return (
        f'<figure id="{figure.name}"><div class="frame" tabindex="0" role="region" aria-label="{text(figure.name)}">'
        f'<img src="data:image/svg+xml;base64,{image}" alt="{text(figure.alt)}"></div>'
        f"<figcaption>{text(figure.caption)}</figcaption></figure>\n"
    )


def _unmeasured(collection: Collection, grid: Grid, lacking: list[str]) -> str:
    items = []
    ran = {r["method"] for r in grid.results}
    not_run = [m for m in METHODS if m not in ran and m not in BASELINES]
    if not_run:
        items.append(f"Methods that were not run: {', '.join(not_run)}.")
    if grid.results and set(grid.targets) != set(ATTRIBUTES):
        items.append(f"Targets that were not run: {', '.join(t for t in ATTRIBUTES if t not in grid.targets)}.")
    if lacking:
        items.append(f"Cells of the grid without a result: {'; '.join(lacking)}.")
    if len(grid.seeds) == 1:
        items.append("How much scores vary over seeds: one seed was run. Intervals are over cities only.")
    if grid.results:
        items.append("Intervals of the baseline reconstruction.")
    if collection.quality is None:
        items.append("SAE quality (squared error, explained variance, spliced accuracy): no file of eval_sae.py.")
    if collection.problems:
        items.append(f"Files that were left out as broken or foreign: {'; '.join(collection.problems)}.")
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def _settings(collection: Collection) -> str:
    """Every setting with its values; several where runs differ, as layers and methods do."""
    by_run = ("target", "method", "layer", "seed")
    rows = ""
    for source, settings in (
        ("masks", [{k: v for k, v in r["config"].items() if k not in by_run} for r in collection.results]),
        (
            "masks",
            [{"commit": r.get("commit"), "device": r.get("device"), **r["versions"]} for r in collection.results],
        ),
        ("SAE quality", _quality_provenance(collection.quality)),
    ):
        for key in dict.fromkeys(key for one in settings for key in one):
            counts = Counter(json.dumps(one.get(key), sort_keys=True, default=str) for one in settings)
            rows += f'<tr><td>{source}</td><th scope="row">{text(key)}</th><td>{text(_values(counts))}</td></tr>'
    head = "".join(f'<th class="text" scope="col">{name}</th>' for name in ("of", "setting", "value"))
    caption = "As saved with the results. null: plays no part. Where runs differ, the number of runs stands behind."
    return _table("settings-table", caption, f"<tr>{head}</tr>", rows)


def _quality_provenance(quality: dict | None) -> list[dict]:
    if quality is None:
        return []
    parts = [quality.get(key) for key in ("settings", "versions")]
    merged = {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}
    return [{**merged, "commit": quality.get("commit"), "device": quality.get("device")}]


def _values(counts: Counter, most: int = 8) -> str:
    """'0.003 (60), null (36)'; one value stands alone."""
    if len(counts) == 1:
        return next(iter(counts))[:300]
    said = [f"{value[:60]} ({n})" for value, n in counts.most_common(most)]
    return ", ".join(said) + (f" and {len(counts) - most} more values" if len(counts) > most else "")
