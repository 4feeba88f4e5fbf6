"""Every figure, in the order of the report: draw all that the results allow, and say what is missing."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from common.errors import UserError
from common.files import write_atomically
from common.text import abridged, filled, one_line
from data.names import PAPER
from drawing import report
from drawing.banner import banner
from drawing.canvas import Drawing, look, save
from drawing.collect import Collection, choose_folder, collect, missing
from drawing.differences import differences_by_layer
from drawing.features import score_against_features
from drawing.halves import cause_against_isolation
from drawing.latents import latents_by_city, picks
from drawing.needed import score_against_kept
from drawing.quality import sae_quality
from drawing.report_figures import Picture
from drawing.scores import as_published, by_layer
from drawing.training import by_epoch, trained_layers
from featurizers.labels import parse_labels
from grid.compared import compare, contrasts
from masks.names import default_mask
from quality.names import SCORES_FILE
from results.differences import Comparison, Contrast
from results.estimates import Grid, not_compared
from results.labels import keep_labels
from results.published import paper_for, read_paper
from results.run import Run

BANNER_DPI = 200  # 1600 px: README shows it at up to 800


@dataclass
class Inputs:
    """What there is to draw from."""

    collection: Collection
    grid: Grid
    mask: str
    against: str
    published: dict | None  # the paper's numbers, if they can be compared with these results
    contrasts: Sequence[Contrast] = ()  # of the two that --compare names


@dataclass(frozen=True)
class Figure:
    """An entry of the registry.

    each: what one picture is drawn for; its values fill the name's braces.
    draw: (inputs, value) -> the picture, or None if the results hold nothing for it.
    section: of the report, where it stands.
    """

    name: str
    each: Callable[[Inputs], Iterable]
    draw: Callable[[Inputs, object], Drawing | None]
    section: str = "figures"


def _differences(inputs: Inputs, target: str, family: list[Comparison]) -> Drawing | None:
    return differences_by_layer(inputs.grid, target, inputs.mask, family)


def _latents(inputs: Inputs, run: Run) -> Drawing:
    collection, label = inputs.collection, inputs.grid.label(run.method)
    return latents_by_city(collection.explanations[run], run, collection.model, label)


def layers(inputs: Inputs) -> list[int]:
    return trained_layers(inputs.grid)


targets = attrgetter("grid.targets")
# In the order of the report.
FIGURES = (
    Figure("{}", targets, lambda i, target: by_layer(i.grid, target, i.mask, i.published)),
    Figure("differences_{}", targets, lambda i, target: _differences(i, target, i.grid.compare(i.against, i.mask))),
    Figure("compare_{}", targets, lambda i, target: _differences(i, target, i.grid.contrast(i.contrasts, i.mask))),
    Figure("cause_isolation_{}", targets, lambda i, target: cause_against_isolation(i.grid, target, i.mask)),
    Figure("features_{}", targets, lambda i, target: score_against_features(i.grid, target, i.mask)),
    Figure("needed_{}", targets, lambda i, target: score_against_kept(i.grid, i.collection.explanations, target)),
    Figure(
        "latents_{}",
        lambda i: picks(i.grid, i.collection.explanations),
        lambda i, pick: _latents(i, pick.run),
    ),
    Figure(
        "sae_quality",
        lambda i: filter(None, [i.collection.quality]),
        lambda i, quality: sae_quality(quality, i.grid.labels),
        "quality",
    ),
    Figure("L{}acc", layers, lambda i, layer: by_epoch(i.grid, layer, "accuracy"), "training"),
    Figure("L{}loss", layers, lambda i, layer: by_epoch(i.grid, layer, "loss"), "training"),
)


def draw_figures(args: Namespace) -> None:
    """Do what the command line asks for.  Raises UserError."""
    folder = None if args.paper else choose_folder(args.results, args.results_named, args.model)
    collection = collect(folder) if folder else None
    if collection and collection.problems:
        say(f"skipped: {abridged(collection.problems)}")
    if collection and (collection.results or collection.quality):
        draw_results(args, collection)
        return
    if not args.paper:
        if args.results_named or args.model:
            raise UserError(f"nothing in {folder} can be drawn; run main.py with --output {args.results}")
        also = "; no report without results" if args.report else ""
        say(
            f"no results in {args.results}: the paper's published numbers are drawn (soft mask){also}; make results "
            "with ./run.sh --model toy, or ./run.sh for GPT-2 small"
        )
    for target in PAPER:  # the paper's numbers, under their own name
        with look():
            save(as_published(read_paper(), target), args.output, target)
    draw_banner(args.output)
    announce(args.output, list(PAPER))


def draw_results(args: Namespace, collection: Collection) -> None:
    if args.label:
        collection.labels = keep_labels(collection.folder, parse_labels(args.label, collection.methods))
    grid = Grid(collection.results, args.cluster, collection.labels)
    mode = collection.results[0]["mode"] if collection.results else None
    mask = args.mask or default_mask(mode)
    wanted = contrasts(grid, *args.compare) if args.compare else []
    if args.compare:
        compare(grid, *args.compare, mask)  # says what is wrong if there is nothing to compare
    inputs = Inputs(collection, grid, mask, args.against, paper_for(grid), wanted)
    shown = []
    for entry in FIGURES:
        for value in entry.each(inputs):
            with look():
                drawing = entry.draw(inputs, value)
            if drawing:
                shown.append(Picture(entry.name.format(value), drawing, entry.section))
                save(drawing, args.output, shown[-1].name)
    draw_banner(args.output)
    for warning in grid.warnings if grid.results else ():
        say(f"warning: {warning}")
    if len(grid.methods) > 1 and not grid.compare(args.against, mask):
        say(not_compared(args.against))
    lacking = missing(collection.results)
    if lacking:
        say(f"no results of: {abridged(lacking)}")
    undrawn = not_drawn(inputs)
    if undrawn:
        say(f"not drawn: {'; '.join(undrawn)}")
    announce(args.output, [picture.name for picture in shown])
    if args.report:
        path = args.output / "report.html"
        page = report.page(collection, grid, mask, args.against, shown, lacking)
        write_atomically(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
        print(f"report: {path}")


def not_drawn(inputs: Inputs) -> list[str]:
    """Pictures that one may miss, and why they are not there."""
    grid, found = inputs.grid, []
    if not grid.results:
        return ["scores and training (only SAE quality was measured; main.py makes the rest)"]
    untrained = [str(layer) for layer in grid.layers if layer not in trained_layers(grid)]
    if untrained:
        found.append(f"training at layer {', '.join(untrained)} (nothing was trained there)")
    if not inputs.collection.quality:
        path = inputs.collection.folder / SCORES_FILE
        found.append(f"sae_quality ({path} {'is broken' if path.exists() else 'is not there'}; eval_sae.py makes it)")
    return found


def announce(output: Path, names: list[str]) -> None:
    """Which figures lie where, the banner with them, in lines of 80 columns."""
    print(filled(f"figures: {output} ({', '.join([*names, 'title1'])})"))


def draw_banner(output: Path) -> None:
    with look():
        drawing = banner()
    save(drawing, output, "title1", dpi=BANNER_DPI)


def say(text: str) -> None:
    """One line on stderr, whatever is in names of files."""
    print(one_line(text), file=sys.stderr)
