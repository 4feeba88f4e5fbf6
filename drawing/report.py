"""The report: one page that holds all scores and figures and needs nothing else.

Every text that comes from a file goes through `report_tables.text`, which escapes it.  The page
depends on the results alone, so the same results give the same page.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from common.paths import HOME
from data.names import ATTRIBUTES
from drawing.collect import Collection
from drawing.estimates import Grid
from drawing.report_tables import glance, quality_table, scores, table, text
from featurizers.methods import BASELINES, METHODS

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


def page(collection: Collection, grid: Grid, mask: str, shown: list[Shown], folder: Path, lacking: list[str]) -> str:
    """The whole page; folder: where the figures lie."""
    model = text(collection.model)
    sections = {}
    if grid.results:
        sections["run"] = ("What was run", _what_was_run(collection, grid))
        sections["glance"] = ("Scores at a glance", "".join(glance(grid, target, mask) for target in grid.targets))
        sections["meaning"] = ("What the scores mean, and do not", MEANING)
    sections["figures"] = ("Figures", "".join(_figure(figure, folder) for figure in shown))
    if grid.results:
        sections["scores"] = ("All scores", "".join(scores(grid, target) for target in grid.targets))
    sections["quality"] = ("SAE quality", quality_table(collection.quality))
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
{(HOME / "drawing" / "report.css").read_text(encoding="utf-8")}</style>
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
    return table("settings-table", caption, f"<tr>{head}</tr>", rows)


def _quality_provenance(quality: dict | None) -> list[dict]:
    if quality is None:
        return []
    parts = [quality["config"], quality.get("versions")]
    merged = {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}
    return [{**merged, "commit": quality.get("commit"), "device": quality.get("device")}]


def _values(counts: Counter, most: int = 8) -> str:
    """'0.003 (60), null (36)'; one value stands alone."""
    if len(counts) == 1:
        return next(iter(counts))[:300]
    said = [f"{value[:60]} ({n})" for value, n in counts.most_common(most)]
    return ", ".join(said) + (f" and {len(counts) - most} more values" if len(counts) > most else "")
