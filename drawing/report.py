"""The report: one page that holds all scores and figures and needs nothing else.

Every text that comes from a file goes through `report_tables.text`, which escapes it.  The page
depends on the results alone, so the same results give the same page.
"""

import base64
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from string import Template

from common.paths import HOME
from data.names import ATTRIBUTES, KINDS
from drawing.canvas import Drawing
from drawing.collect import Collection
from drawing.report_features import selected_features
from drawing.report_tables import TEXT, differences, glance, heads, quality_table, scores, table, text
from featurizers.methods import BASELINES, METHODS, ordered
from results.estimates import Grid


def page(
    collection: Collection,
    grid: Grid,
    mask: str,
    against: str,
    shown: dict[str, Drawing],
    folder: Path,
    lacking: list[str],
) -> str:
    """The whole page; against: what methods are compared with; shown: figures by name; folder: where they lie."""
    sections = {}
    compared = grid.compare(against, mask)
    if grid.results:
        sections["run"] = ("What was run", _what_was_run(collection, grid))
        sections["glance"] = (
            "Scores at a glance",
            "".join(glance(grid, target, mask, compared) for target in grid.targets),
        )
        sections["meaning"] = ("What the scores mean, and do not", "\n" + _own("report_meaning.html"))
    if compared:
        sections["differences"] = ("Which is better", differences("differences", compared, mask, grid))
    if grid.results:
        controls = grid.compare_controls(mask)
        content = differences("controls", controls, mask, grid) if controls else "<p>None were run (--controls).</p>"
        sections["controls"] = ("Against chance: controls", content)
    sections["figures"] = ("Figures", "".join(_figure(name, drawing, folder) for name, drawing in shown.items()))
    if grid.results:
        sections["scores"] = ("All scores", "".join(scores(grid, target) for target in grid.targets))
    if collection.explanations:
        explanations = list(collection.explanations.values())
        sections["selected"] = ("What the masks selected", selected_features(explanations))
    sections["quality"] = ("SAE quality", quality_table(collection.quality, collection.labels))
    sections["unmeasured"] = ("Not measured", _unmeasured(collection, grid, lacking))
    sections["settings"] = ("Settings and provenance", _settings(collection))
    links = "".join(f'<a href="#{key}">{title}</a> ' for key, (title, _) in sections.items())
    body = "".join(
        f'<section id="{key}"><h2>{title}</h2>{content}</section>\n' for key, (title, content) in sections.items()
    )
    notice = f'<p class="notice">{text(collection.notice)}</p>' if collection.notice else ""
    parts = {"model": text(collection.model), "notice": notice, "links": links, "body": body}
    return Template(_own("report.html")).substitute(parts, style=_own("report.css"))


def _own(name: str) -> str:
    """A file of this package."""
    return (HOME / "drawing" / name).read_text(encoding="utf-8")


def _what_was_run(collection: Collection, grid: Grid) -> str:
    first = grid.results[0]
    facts = {
        "model": first["model"],
        "mode": f"{first['mode']}, split by {first['split']}",
        "targets": ", ".join(grid.targets),
        "methods": ", ".join(ordered(r["method"] for r in grid.results)),
        "layers": ", ".join(map(str, grid.layers)),
        "seeds": ", ".join(map(str, grid.seeds)),
        "cities": _counts(grid.n_cities) or "not recorded",
        "test pairs": _pair_counts(grid),
        "runs": f"{len(grid.results):,}",
        "results of": datetime.fromtimestamp(collection.modified, UTC).strftime("%Y-%m-%d (UTC)"),
    }
    if grid.labels:
        facts["names of own SAEs"] = "; ".join(f"{label}: {method}" for method, label in grid.labels.items())
    if grid.warnings:
        facts["warnings"] = "; ".join(grid.warnings)
    return "<dl>" + "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _counts(numbers: list[int]) -> str:
    return " or ".join(f"{n:,}" for n in numbers)


def _pair_counts(grid: Grid) -> str:
    parts = []
    for target in grid.targets:
        tests = [r["test"]["hard"] for r in grid.results if r["target"] == target]
        counts = [_counts(sorted({test.get(f"n_{kind}") for test in tests} - {None})) for kind in KINDS]
        if all(counts):
            parts.append(f"{target}: {counts[0]} cause, {counts[1]} isolation")
    return "; ".join(parts) or "not recorded"


# ---------------------------------------------------------------- the rest


def _figure(name: str, drawing: Drawing, folder: Path) -> str:
    image = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode("ascii")
    return (
        f'<figure id="{name}"><div class="frame" tabindex="0" role="region" aria-label="{text(name)}">'
        f'<img src="data:image/svg+xml;base64,{image}" alt="{text(drawing.alt)}"></div>'
        f"<figcaption>{text(drawing.caption)}</figcaption></figure>\n"
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
    configs = [{k: v for k, v in r["config"].items() if k not in by_run} for r in collection.results]
    quality = [collection.quality] if collection.quality else []
    rows = ""
    for source, settings in (
        ("masks", configs),
        ("masks", [_provenance(r) | r["versions"] for r in collection.results]),
        ("SAE quality", [q["config"] | (_as_dict(q.get("versions"))) | _provenance(q) for q in quality]),
    ):
        for key in dict.fromkeys(key for one in settings for key in one):
            counts = Counter(json.dumps(one.get(key), sort_keys=True, default=str) for one in settings)
            rows += f'<tr><td>{source}</td><th scope="row">{text(key)}</th><td>{text(_values(counts))}</td></tr>'
    caption = "As saved with the results. null: plays no part. Where runs differ, the number of runs stands behind."
    return table("settings-table", caption, f"<tr>{heads(('of', 'setting', 'value'), TEXT)}</tr>", rows)


def _provenance(content: dict) -> dict:
    return {"commit": content.get("commit"), "device": content.get("device")}


def _as_dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def _values(counts: Counter, most: int = 8) -> str:
    """'0.003 (60), null (36)'; one value stands alone."""
    if len(counts) == 1:
        return next(iter(counts))[:300]
    said = [f"{value[:60]} ({n})" for value, n in counts.most_common(most)]
    return ", ".join(said) + (f" and {len(counts) - most} more values" if len(counts) > most else "")
