"""The report: one page that holds all scores and figures and needs nothing else.

Every text that comes from a file goes through `report_tables.text`, which escapes it.  The page
depends on the results alone, so the same results give the same page.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from string import Template

from common.paths import HOME
from drawing.collect import Collection
from drawing.report_answer import answer, what_was_run
from drawing.report_features import ids_of, selected_features
from drawing.report_figures import Picture, figures
from drawing.report_settings import files, settings
from drawing.report_tables import differences, glance, quality_table, scores, text, worked_table
from featurizers.methods import BASELINES, METHODS
from grid.profiles import TOY_NOTICE
from results.estimates import Grid
from results.worked import worked_pairs

SIDE_BY_SIDE = 8  # layers at most in tables that stand side by side


@dataclass(frozen=True)
class Section:
    """A part of the page; is_folded: closed on the screen until it is asked for, open in print."""

    key: str
    title: str
    content: str
    is_folded: bool = False

    def html(self) -> str:
        heading = f"<h2>{self.title}</h2>"
        inner = f"{heading}{self.content}"
        if self.is_folded:
            inner = f"<details><summary>{heading}</summary>{self.content}</details>"
        return f'<section id="{self.key}">{inner}</section>\n'


def page(collection: Collection, grid: Grid, mask: str, against: str, shown: list[Picture], lacking: list[str]) -> str:
    """The whole page; against: what methods are compared with; shown: its figures; lacking: cells without a result."""
    sections = [section for section in _sections(collection, grid, mask, against, shown, lacking) if section.content]
    links = "".join(f'<a href="#{section.key}">{section.title}</a> ' for section in sections)
    notice = f'<p class="notice">{text(collection.notice)}</p>' if collection.notice else ""
    script = _own("report.js")
    parts = {"model": text(collection.model), "notice": notice, "links": links, "script": script}
    parts["answer"] = _first_screen(collection, grid, mask, against) if grid.results else ""
    parts["digest"] = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    parts["entity"], targets = grid.entities[0], [text(name.replace("_", " ")) for name in grid.attributes]
    parts["targets"] = " or ".join([", ".join(targets[:-1]), targets[-1]]) if targets[1:] else "country or continent"
    parts["others"] = "the other fact" if len(targets) <= 2 else "the other facts"
    parts["body"] = "".join(section.html() for section in sections)
    return Template(_own("report.html")).substitute(parts, style=_own("report.css"))


def _own(name: str) -> str:
    """A file of this package."""
    return (HOME / "drawing" / name).read_text(encoding="utf-8")


def _first_screen(collection: Collection, grid: Grid, mask: str, against: str) -> str:
    day = datetime.fromtimestamp(collection.modified, UTC).strftime("%Y-%m-%d (UTC)")
    where = " in the toy world, which says nothing of real SAEs" if collection.notice == TOY_NOTICE else ""
    best = f'<section id="answer"><h2>Which method is best{where}</h2>{answer(grid, mask, against)}</section>\n'
    return best + f'<section id="run"><h2>On what</h2>{what_was_run(grid, day)}</section>'


def _sections(
    collection: Collection, grid: Grid, mask: str, against: str, shown: list[Picture], lacking: list[str]
) -> list[Section]:
    """All that the first screen rests on, in this order; a section without content is left out."""
    compared, ids = grid.compare(against, mask), ids_of(collection.explanations)
    drawn = {part: figures([p for p in shown if p.section == part]) for part in ("figures", "quality", "training")}
    worked = [found for target in grid.targets if (found := worked_pairs(grid, target, mask))]
    controls = grid.compare_controls(mask) if grid.results else []
    chance = differences("controls", controls, mask, grid) if controls else "<p>None were run (--controls).</p>"
    at_a_glance = "".join(glance(grid, target, mask, compared, ids) for target in grid.targets)
    if 0 < len(grid.layers) <= SIDE_BY_SIDE:
        at_a_glance = f'<div class="columns">{at_a_glance}</div>'
    every = "".join(scores(grid, target, ids) for target in grid.targets)
    templates = grid.with_templates_held_out()
    other_test = ""
    if templates:
        other_test = "<p>Everything else on this page is of pairs whose entities were held out; this is of pairs whose "
        other_test += "templates were, with entities of the training pairs.</p>"
        other_test += "".join(scores(templates, target, ids, "templates-") for target in templates.targets)
    selected = selected_features(collection.explanations, ids, grid.labels) if collection.explanations else ""
    return [
        Section("glance", "Scores at a glance", at_a_glance),
        Section("meaning", "What the scores mean, and do not", _own("report_meaning.html") if grid.results else ""),
        Section("differences", "Differences", differences("differences", compared, mask, grid) if compared else ""),
        Section("controls", "Against chance: controls", chance if grid.results else ""),
        Section("worked", "Single pairs", worked_table(worked, grid) if worked else ""),
        Section("figures", "Figures", drawn["figures"]),
        Section("scores", "All scores", every),
        Section("templates", "All scores, templates held out", other_test),
        Section("selected", "What the masks selected", selected),
        Section("quality", "SAE quality", drawn["quality"] + quality_table(collection.quality, collection.labels)),
        Section("unmeasured", "Not measured", _unmeasured(collection, grid, lacking)),
        Section("training", "Training", drawn["training"], True),
        Section("settings", "Settings and provenance", settings(collection), True),
        Section("files", "Files", files(collection) if grid.results else "", True),
    ]


def _unmeasured(collection: Collection, grid: Grid, lacking: list[str]) -> str:
    items = []
    ran = {r["method"] for r in grid.results}
    not_run = [m for m in METHODS if m not in ran and m not in BASELINES]
    if not_run:
        items.append(f"Methods that were not run: {', '.join(not_run)}.")
    if grid.results and set(grid.attributes) - set(grid.targets):
        items.append(f"Targets that were not run: {', '.join(t for t in grid.attributes if t not in grid.targets)}.")
    if lacking:
        items.append(f"Cells of the grid without a result: {'; '.join(lacking)}.")
    if len(grid.seeds) == 1:
        items.append(f"How much scores vary over seeds: one seed was run. Intervals are over {grid.entities[1]} only.")
    if grid.results and not collection.explanations:
        items.append("What the masks selected: no files of main.py --explain.")
    if collection.quality is None:
        items.append("SAE quality (squared error, explained variance, spliced accuracy): no file of eval_sae.py.")
    if collection.problems:
        items.append(f"Files that were left out as broken or foreign: {'; '.join(collection.problems)}.")
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>" if items else ""
