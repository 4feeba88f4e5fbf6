"""The figures: what is drawn against numbers worked out by hand, and what strangers' files do to it."""

import itertools
import json
import math
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from helpers_cli import error_line, finish, require_words, snapshot, start
from helpers_results import quality_row, result, small_grid, three, write, write_quality
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

import visualisation
from common.paths import HOME
from data.names import PAPER as ATTRIBUTES
from drawing import figures, report_figures
from drawing.banner import banner
from drawing.canvas import FURTHER_STYLES, STYLES, Sheet, handle, look, style_of
from drawing.collect import collect, missing
from drawing.features import score_against_features
from drawing.halves import cause_against_isolation
from drawing.quality import FLOOR, sae_quality
from drawing.scores import as_published, by_layer
from drawing.training import by_epoch, trained_layers
from featurizers.methods import METHODS, ORDER
from grid.profiles import TOY_NOTICE
from results.estimates import Grid
from results.published import read_paper

PAPER = read_paper()
GPT2 = "openai-community/gpt2"


def grid_of(root: Path, model: str = "toy") -> Grid:
    collection = collect(root / model.replace("/", "--"))
    assert collection.problems == []
    return Grid(collection.results)


def draw(function, *arguments):
    with look():
        return function(*arguments).figure


def artists(figure, gid: str) -> list:
    return figure.findobj(lambda artist: artist.get_gid() == gid)


def line(figure, gid: str) -> tuple[list, list]:
    """(x, y) of the one line of this name, without gaps; x to whole layers."""
    (found,) = artists(figure, gid)
    points = [(round(x), y) for x, y in zip(found.get_xdata(), found.get_ydata(), strict=True) if not np.isnan(y)]
    return [x for x, _ in points], [y for _, y in points]


def run(capsys, *argv) -> tuple[int, str, str]:
    capsys.readouterr()
    code = visualisation.main([*map(str, argv)])
    return code, *capsys.readouterr()


# ---------------------------------------------------------------- scores by layer


def test_lines_are_the_numbers_of_the_results(tmp_path):
    grid = grid_of(small_grid(tmp_path))
    figure = draw(by_layer, grid, "country", "hard")
    assert line(figure, "line-neuron") == ([0, 1, 2], [0.625, 0.65625, 0.6875])
    assert line(figure, "line-das") == ([0, 1, 2], [0.9375] * 3)
    assert line(figure, "line-none") == ([0, 1, 2], [0.5] * 3)
    assert line(figure, "line-full") == ([0, 1, 2], [0.53125] * 3)  # nobody ran it: it stands beside the others
    (whiskers,) = artists(figure, "whiskers-das")
    found = grid.score("country", "das", 0, "hard", "disentangle")
    assert 0 < found.low < 0.9375 < found.high < 1
    for segment in whiskers.get_segments():
        assert list(segment[:, 1]) == pytest.approx([found.low, found.high])


def test_soft_and_hard_are_not_swapped(tmp_path):
    write(tmp_path, result("country", "neuron", 0, hard=(0.5, 1.0), soft=(0.25, 0.5)))
    grid = grid_of(tmp_path)
    assert line(draw(by_layer, grid, "country", "hard"), "line-neuron") == ([0], [0.75])
    assert line(draw(by_layer, grid, "country", "soft"), "line-neuron") == ([0], [0.375])


def test_absent_saes_are_gaps_and_no_zeros(tmp_path):
    for layer, score in ((1, 0.5), (5, 0.25), (9, 0.75)):
        write(tmp_path, result("country", "apollo-e2e", layer, hard=(score, score)))
    for layer in range(12):
        write(tmp_path, result("country", "neuron", layer))
    figure = draw(by_layer, grid_of(tmp_path), "country", "hard")
    assert line(figure, "line-apollo-e2e") == ([1, 5, 9], [0.5, 0.25, 0.75])
    assert line(figure, "bridge-apollo-e2e") == ([1, 5, 9], [0.5, 0.25, 0.75])
    assert artists(figure, "line-openai") == []
    assert artists(figure, "bridge-neuron") == []


def test_bands_over_three_seeds(tmp_path):
    """das at layer 0 and 1: isolation 0.5, 0.6, 0.7 and cause 0.5, so disentangle 0.5, 0.55, 0.6."""
    for layer in (0, 1):
        for seed, isolation in enumerate((0.5, 0.6, 0.7)):
            write(tmp_path, result("country", "das", layer, seed, hard=(0.5, isolation)))
    grid = grid_of(tmp_path)
    figure = draw(by_layer, grid, "country", "hard")
    assert line(figure, "line-das")[1] == pytest.approx([0.55, 0.55])
    (band,) = artists(figure, "band-das")
    heights = {round(float(y), 5) for y in band.get_paths()[0].vertices[:, 1]}
    found = grid.score("country", "das", 0, "hard", "disentangle")
    assert heights == {round(found.low, 5), round(found.high, 5)}
    assert found.low < 0.5 < 0.6 < found.high  # seeds that lie .05 apart cannot be told apart from .1 by three
    assert artists(figure, "whiskers-das") == []
    assert "n = 3" in texts(figure)


def test_each_target_has_its_own_baseline(tmp_path):
    for target, none in (("country", 0.565625), ("continent", 0.6775)):
        baselines = {
            "none": {**three(2 * none - 1, 1.0), "disentangle": none},
            "full": three(1, 0),
            "reconstruction": None,
        }
        changes = {"model": GPT2, "mode": "paper", "baselines": baselines}
        write(tmp_path, result(target, "neuron", 0, **changes))
        write(tmp_path, result(target, "neuron", 1, **changes))
    grid = grid_of(tmp_path, GPT2)
    for target, none in (("country", 0.565625), ("continent", 0.6775)):
        assert line(draw(by_layer, grid, target, "soft"), "line-none")[1] == pytest.approx([none, none])
        assert line(draw(as_published, PAPER, target), "line-none")[1] == [none] * 12


def test_published_numbers_are_those_of_the_paper():
    """Some of them, as they stand in the paper; and what can be said of all."""
    country, continent = (PAPER["disentangle"][target] for target in ATTRIBUTES)
    figure = draw(as_published, PAPER, "country")
    assert line(figure, "line-bloom")[1] == [0.64, 0.42, 0.38, 0.57, 0.65, 0.64, 0.63, 0.65, 0.60, 0.49, 0.22, 0.56]
    assert line(figure, "line-apollo-e2e+ds") == ([1, 5, 9], [0.59, 0.44, 0.60])
    assert (continent["das"]["4"], continent["apollo-e2e"]["9"], country["openai"]["8"]) == (0.97, 0.72, 0.42)
    for target, scores in PAPER["disentangle"].items():
        none = PAPER["no_intervention"][target]
        for method, points in scores.items():
            assert list(map(int, points)) == ([1, 5, 9] if "apollo" in method else list(range(12)))
            if "11" in points:  # nothing can be done at the last block
                assert points["11"] == pytest.approx(none, abs=0.0076)


def test_published_points_only_where_they_can_be_compared(tmp_path, monkeypatch, capsys):
    saved = {}
    monkeypatch.setattr(figures, "save", lambda drawing, _, name, **__: saved.update({name: drawing}))
    for name, model, mode, split, expected in (
        ("a", GPT2, "paper", "pairs", 6),
        ("b", GPT2, "strict", "pairs", 0),
        ("c", "openai-community/gpt2-medium", "paper", "pairs", 0),
        ("d", "toy", "paper", "pairs", 0),
        ("e", GPT2, "paper", "cities", 0),
    ):
        small_grid(tmp_path / name, model=model, mode=mode, split=split)
        assert run(capsys, "--results", tmp_path / name, "--output", tmp_path / name / "fig")[0] == 0
        drawn = saved["country"].figure.findobj(lambda artist: (artist.get_gid() or "").startswith("published-"))
        assert len(drawn) == expected, name
        assert ("as published" in texts(saved["country"].figure)) == bool(expected)
        rings = saved["country"].figure.findobj(lambda artist: (artist.get_gid() or "").startswith("far-"))
        assert bool(rings) == bool(expected)  # tests/results/test_published.py says which
        assert ("scores lie within what seeds and cities explain" in texts(saved["country"].figure)) == bool(expected)


# ---------------------------------------------------------------- the other figures


def test_cause_and_isolation_points(tmp_path):
    figure = draw(cause_against_isolation, grid_of(small_grid(tmp_path)), "country", "hard")
    for layer, ax in enumerate(figure.axes):
        points = {a.get_gid(): (a.get_xdata()[0], a.get_ydata()[0]) for a in ax.lines if a.get_gid()}
        assert points["point-neuron"] == (0.5 + layer / 16, 0.75)
        assert points["point-none"] == (0.0, 1.0)
        assert points["point-full"] == (1.0, 0.0625)
        assert points["reconstruction-openai"] == (0.0625, 0.5)
        assert ("point-apollo-e2e" in points) == (layer == 1)
        for level in (0.25, 0.5, 0.75):
            (diagonal,) = [a for a in ax.lines if a.get_gid() == f"iso-{level}"]
            assert {x + y for x, y in diagonal.get_xydata()} == {2 * level}


def test_a_layer_where_all_equal_none_says_so(tmp_path):
    for method in ("none", "das", "neuron"):
        write(tmp_path, result("country", method, 5, hard=(0.0, 1.0), last_block=True))
        write(tmp_path, result("country", method, 4, hard=(0.0, 1.0) if method == "none" else (0.5, 0.75)))
    figure = draw(cause_against_isolation, grid_of(tmp_path), "country", "hard")
    said = ["every method\nequals none" in [text.get_text() for text in ax.texts] for ax in figure.axes]
    assert said == [False, True]


def test_no_feature_selected_is_drawn_at_zero(tmp_path):
    for layer, selected in enumerate((0, 1, 40)):
        write(tmp_path, result("country", "openai", layer, n_selected=selected))
    figure = draw(score_against_features, grid_of(tmp_path), "country", "hard")
    assert line(figure, "features-openai")[0] == [0, 1, 40]
    ax = figure.axes[0]
    at = [ax.transData.transform((x, 0.5))[0] for x in (0, 1, 10, 100)]
    assert at == sorted(at)
    assert ax.bbox.x0 < at[0]
    assert at[2] - at[1] == pytest.approx(at[3] - at[2], rel=0.02)  # a decade is a decade
    assert "l0 8" in texts(figure)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "10", "100"]


def test_training_curves(tmp_path):
    grid = grid_of(small_grid(tmp_path))
    assert trained_layers(grid) == [0, 1]
    for measure, values in (("loss", [2.0, 1.0]), ("accuracy", [0.25, 0.75])):
        figure = draw(by_epoch, grid, 1, measure)
        assert [ax.get_title(loc="left") for ax in figure.axes] == ["target country", "target continent"]
        for ax in figure.axes:
            curves = {a.get_gid(): (list(a.get_xdata()), list(a.get_ydata())) for a in ax.lines}
            assert set(curves) == {"line-neuron", "line-das", "line-openai", "line-apollo-e2e"}
            assert all(curve == ([1, 2], values) for curve in curves.values())


def test_sae_quality_points(tmp_path):
    rows = [quality_row("openai", layer, attribute) for layer in (0, 2) for attribute in ATTRIBUTES]
    far = {**rows[0]["city"], "explained_variance": -37.5}
    rows.append(quality_row("bloom", 2, "country", raw_residual=True, city=far))
    write_quality(tmp_path, rows)
    quality = collect(tmp_path / "toy").quality
    figure = draw(sae_quality, quality)
    error, all_error, variance = figure.axes[0], figure.axes[1], figure.axes[2]

    def points(ax, gid):
        (found,) = [a for a in ax.lines if a.get_gid() == gid]
        return [(round(x), y) for x, y in found.get_xydata() if not np.isnan(y)]

    assert points(error, "squared_error-openai-country") == [(0, 4.0), (2, 6.0)]
    assert points(all_error, "squared_error-openai-continent") == [(0, 64.0), (2, 64.0)]
    assert points(variance, "explained_variance-openai-country") == [(0, 0.75), (2, 0.75)]
    assert points(variance, "explained_variance-bloom-country-raw") == []  # an arrow on the edge instead
    (arrow,) = [a for a in variance.lines if a.get_marker() == "v" and list(a.get_ydata()) == [FLOOR]]
    assert round(arrow.get_xdata()[0]) == 2
    assert "-37.5" in [text.get_text() for text in variance.texts]
    assert variance.get_ylim()[0] == FLOOR
    assert "raw residual" in texts(figure)


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e14])
def test_sae_quality_of_odd_size(tmp_path, value):
    row = quality_row("openai", 3, "country")
    for place in ("city", "all"):
        row[place] = {**row[place], "squared_error": value, "explained_variance": None}
    write_quality(tmp_path, [row])
    require_legible(draw(sae_quality, collect(tmp_path / "toy").quality))


# ---------------------------------------------------------------- the look


def all_figures(root: Path, model: str = "toy", mask: str = "hard") -> dict:
    collection = collect(root / model.replace("/", "--"))
    inputs = figures.Inputs(collection, Grid(collection.results), mask, "neuron", PAPER if model == GPT2 else None)
    with look():
        found = {
            entry.name.format(value): drawing.figure
            for entry in figures.FIGURES
            for value in entry.each(inputs)
            if (drawing := entry.draw(inputs, value))
        }
        return {**found, "title1": banner().figure, "published": as_published(PAPER, "country").figure}


def texts(figure) -> str:
    """All words of a figure, in one line."""
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def full_grid(root: Path, seeds=(0,)) -> None:
    """As large as the paper's: 12 layers, all methods, numbers as long as they come."""
    for target, layer, method, seed in itertools.product(ATTRIBUTES, range(12), METHODS, seeds):
        if "apollo" not in method or layer in (1, 5, 9):
            wave = 0.5 + 0.4 * math.sin(layer + 2.0 * len(method) + seed / 4)
            own = {"hard": (wave, 1 - wave / 2), "soft": (wave, 0.5), "last_block": layer == 11}
            sizes = {"n_features": 46080, "n_selected": int(46080 * wave**9), "model": GPT2, "mode": "paper"}
            write(root, result(target, method, layer, seed, **own, **sizes))
    rows = [
        quality_row(method, layer, attribute, raw_residual=raw, city=quality_at(layer, raw), all=quality_at(layer, raw))
        for method in ("openai", "bloom")
        for layer in range(12)
        for attribute in ATTRIBUTES
        for raw in (False, True)
    ]
    write_quality(root, rows, GPT2)


def quality_at(layer: int, raw: bool) -> dict:
    at = quality_row("openai", layer, "country")["city"]
    return {**at, "squared_error": 10.0**layer, "explained_variance": -123.25 * layer if raw else 0.5}


@pytest.fixture(scope="module")
def every_figure(tmp_path_factory) -> dict:
    """name -> figure, of a toy's small grid and of grids of the paper's size with one seed and with three."""
    root = tmp_path_factory.mktemp("every")
    small_grid(root / "toy")
    full_grid(root / "one")
    full_grid(root / "three", seeds=(0, 1, 2))
    found = {f"toy {name}": figure for name, figure in all_figures(root / "toy").items()}
    for name in ("one", "three"):
        found |= {f"{name} {key}": figure for key, figure in all_figures(root / name, GPT2, "soft").items()}
    return found


def require_legible(figure) -> None:
    """No text is cut off by the canvas, none lies over another, no key covers a panel."""
    canvas = FigureCanvasAgg(figure)
    with look():
        figure.draw_without_rendering()
    renderer, edge = canvas.get_renderer(), figure.bbox
    boxes = []
    for text in shown_texts(figure):
        name, box = text.get_text(), text.get_window_extent(renderer)
        assert edge.x0 <= box.x0 and box.x1 <= edge.x1, f"{name!r} is cut off"
        assert edge.y0 <= box.y0 and box.y1 <= edge.y1, f"{name!r} is cut off"
        boxes.append((name, box))
    for (a, box), (b, other) in itertools.combinations(boxes, 2):
        wide = min(box.x1, other.x1) - max(box.x0, other.x0)
        high = min(box.y1, other.y1) - max(box.y0, other.y0)
        assert wide <= 0.5 or high <= 0.5, f"{a!r} lies over {b!r}"
    for legend in figure.legends:
        for ax in figure.axes:
            assert not legend.get_window_extent(renderer).overlaps(ax.bbox), "the key covers a panel"


def shown_texts(figure) -> list:
    """Every text that reaches the picture: ticks outside of a panel's range do not."""
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for ax in filter(lambda ax: ax.get_visible() and ax.axison, figure.axes):
        found += [ax.title, ax._left_title, ax._right_title, ax.xaxis.label, ax.yaxis.label]
        found += [tick.label1 for axis in (ax.xaxis, ax.yaxis) for tick in axis._update_ticks()]
    found += [text for ax in figure.axes for text in ax.texts]
    return [text for text in found if text.get_text().strip() and text.get_visible()]


def test_nothing_overlaps_and_nothing_is_cut_off(every_figure):
    for name, figure in every_figure.items():
        try:
            require_legible(figure)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


def test_a_method_looks_the_same_everywhere(every_figure):
    """Its colour and marker in every figure are those of the one table."""
    seen = {method: set() for method in STYLES}
    pattern = (
        r"(?:line|point|features|squared_error|explained_variance|accuracy)-(METHOD)(?:-country|-continent)?(?:-raw)?"
    )
    pattern = re.compile(pattern.replace("METHOD", "|".join(map(re.escape, sorted(STYLES, key=len, reverse=True)))))
    for figure in every_figure.values():
        for artist in figure.findobj(lambda artist: bool(pattern.fullmatch(artist.get_gid() or ""))):
            method = pattern.fullmatch(artist.get_gid())[1]
            seen[method].add((to_hex(artist.get_color()), artist.get_marker()))
        for legend in figure.legends:
            for entry, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
                method = text.get_text().split(" (")[0]
                if method in seen:
                    seen[method].add((to_hex(entry.get_color()), entry.get_marker()))
    assert seen == {method: {(style.color.lower(), style.marker)} for method, style in STYLES.items()}
    assert set(STYLES) == set(METHODS)
    assert set(STYLES) | set(FURTHER_STYLES) == set(ORDER)


def test_methods_can_be_told_apart_by_the_colour_blind():
    """Markers are distinct; colours are so too as protanopes and deuteranopes see them (Machado et al. 2009)."""
    styles = {**STYLES, **FURTHER_STYLES}
    assert len({style.marker for style in styles.values()}) == len(styles)
    seen_as = {
        "all": np.eye(3),
        "protanope": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranope": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    }
    for who, matrix in seen_as.items():
        labs = {method: lab(np.array(matrix) @ linear(style.color)) for method, style in styles.items()}
        for a, b in itertools.combinations(labs, 2):
            assert np.linalg.norm(labs[a] - labs[b]) > 10, f"{a} and {b}, {who}"


def test_sizes_and_variants_look_like_their_method():
    """Its colour, paler for METHOD:cause; sizes that double have markers of their own."""
    sizes = [2**i for i in range(1, 8)]
    for method in ("das", "bloom", "sae:runs/a"):
        own = style_of(method)
        looks = [style_of(f"{method}@{size}") for size in sizes]
        assert {look.color for look in looks} == {own.color}
        assert len({look.marker for look in looks}) == len(sizes)
        cause = style_of(f"{method}:cause")
        assert cause.marker == own.marker and cause.line != own.line
        assert linear(cause.color).sum() > linear(own.color).sum() + 0.2
    assert style_of("das@8:cause").marker == style_of("das@8").marker


def test_a_key_of_many_methods_ends_above_the_notes():
    with look():
        sheet = Sheet("title", "subtitle", "Some words. " * 60)
        sheet.key([handle(f"{method}@{2**i}") for method in ("das", "pca", "rlap", "random") for i in range(7)])
        FigureCanvasAgg(sheet.figure).draw()
        box = sheet.figure.legends[0].get_window_extent()
    assert box.y0 >= sheet.under * sheet.figure.dpi


def linear(color: str):
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear sRGB; a distance of 2.3 is just noticeable."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    f = np.where(xyz / [0.9505, 1, 1.089] > 0.008856, np.cbrt(xyz / [0.9505, 1, 1.089]), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_figures_say_what_they_show(every_figure):
    require_words(texts(every_figure["toy country"]), ["toy world", "hard mask", "mode strict", "split by cities"])
    require_words(
        texts(every_figure["toy country"]), ["1 seed", "30 cities", "95 % interval for this seed on other countries"]
    )
    require_words(
        texts(every_figure["three country"]),
        [GPT2, "soft mask", "3 seeds", "n = 3", "another seed on other countries", "published"],
    )
    require_words(texts(every_figure["toy published"]), ["published", "not computed by this code", "0.565625"])


def test_every_figure_of_a_model_with_a_notice_has_it(every_figure, tmp_path):
    """By the results, which say it wherever they are drawn."""
    for name, figure in every_figure.items():
        is_of_a_model = not name.endswith(("title1", "published"))
        assert (TOY_NOTICE in texts(figure)) == (name.startswith("toy ") and is_of_a_model), name
    said = "Of this model, the weights are roundings <b>&</b> not the published checkpoint."
    small_grid(tmp_path / "own", model="smollm2", notice=said)
    found = all_figures(tmp_path / "own", "smollm2")
    assert {name for name, figure in found.items() if said in texts(figure)} == found.keys() - {"title1", "published"}


@pytest.mark.usefixtures("unsaved")
def test_report_has_the_notice_once_at_its_top(tmp_path, capsys):
    """Also without a browser; what comes from a file is escaped."""
    said = "Of this model, the weights are roundings <b>&</b> not the published checkpoint."
    small_grid(tmp_path / "results", model="someone/model", notice=said)
    out = tmp_path / "figures"
    assert run(capsys, "--results", tmp_path / "results", "--output", out, "--report")[0] == 0
    page = (out / "report.html").read_text()
    escaped = "Of this model, the weights are roundings &lt;b&gt;&amp;&lt;/b&gt; not the published checkpoint."
    assert page.count(f'<p class="notice">{escaped}</p>') == 1
    assert page.count(escaped) == 1
    assert page.index(escaped) < page.index('id="answer"')
    assert said not in page


def test_committed_images_are_small_and_opaque():
    for path in (HOME / "figures").rglob("*.png"):
        if path.name == "title1.png" or path.parent.name in ("paper", "toy"):
            assert path.stat().st_size < 200_000, path
    with Image.open(HOME / "figures" / "title1.png") as image:
        assert image.width == 1600
        assert image.convert("RGBA").getextrema()[3] == (255, 255)


# ---------------------------------------------------------------- the command


def test_all_figures_of_a_grid(tmp_path, capsys):
    root = small_grid(tmp_path / "results")
    write_quality(root, [quality_row("openai", 0, "country")])
    before = snapshot(root)
    code, out, err = run(capsys, "--results", root, "--output", tmp_path / "fig")
    assert code == 0
    names = {"country", "continent", "title1", "sae_quality"}
    names |= {f"{kind}_{target}" for kind in ("cause_isolation", "features", "differences") for target in ATTRIBUTES}
    names |= {f"L{layer}{measure}" for layer in (0, 1) for measure in ("acc", "loss")}
    assert {path.name for path in (tmp_path / "fig").iterdir()} == {
        f"{n}.{kind}" for n in names for kind in ("png", "svg")
    }
    assert err.splitlines() == [
        "no results of: country apollo-e2e L0; country apollo-e2e L2; continent apollo-e2e L0; continent apollo-e2e L2",
        "not drawn: training at layer 2 (nothing was trained there)",
    ]
    assert " ".join(out.split()).startswith(f"figures: {tmp_path / 'fig'} (country, continent, ")
    assert all(len(line) < 80 for line in out.splitlines()[1:])
    assert snapshot(root) == before
    for path in (tmp_path / "fig").glob("*.svg"):
        ET.parse(path)  # noqa: S314 - our own file
    for path in (tmp_path / "fig").glob("*.png"):
        with Image.open(path) as image:
            assert image.width in (1440, 1600)
            assert "Software" not in image.info


def test_the_same_results_give_the_same_bytes(tmp_path):
    root = small_grid(tmp_path / "results", seeds=(0, 1))
    write_quality(root, [quality_row("openai", 0, "country")])
    for name, hash_seed in (("a", "1"), ("b", "2")):
        process = start_drawing("--results", root, "--output", tmp_path / name, "--report", PYTHONHASHSEED=hash_seed)
        assert finish(process)[0] == 0
    one, two = ({name: content for name, (_, content) in snapshot(tmp_path / name).items()} for name in ("a", "b"))
    assert one == two
    assert "report.html" in one


def start_drawing(*argv, **environment):
    code = "import sys, visualisation; sys.exit(visualisation.main(sys.argv[1:]))"
    return start(*argv, code=code, **environment)


def test_a_users_own_matplotlibrc_changes_nothing(tmp_path):
    root = tmp_path / "results"
    write(root, result("country", "neuron", 0))
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 30\ntext.usetex: True\n")
    for name, extra in (("a", {}), ("b", {"MATPLOTLIBRC": tmp_path / "matplotlibrc"})):
        assert finish(start_drawing("--results", root, "--output", tmp_path / name, **extra))[0] == 0
    assert (tmp_path / "a" / "country.svg").read_bytes() == (tmp_path / "b" / "country.svg").read_bytes()


@pytest.mark.parametrize(
    ("mode", "flags", "word"),
    [
        ("paper", [], "soft mask"),
        ("strict", [], "hard mask"),
        ("paper", ["--mask", "hard"], "hard mask"),
        ("strict", ["--mask", "soft"], "soft mask"),
    ],
)
def test_which_mask_is_drawn(tmp_path, monkeypatch, capsys, mode, flags, word):
    small_grid(tmp_path / "results", mode=mode)
    saved = {}
    monkeypatch.setattr(figures, "save", lambda drawing, _, name, **__: saved.update({name: drawing}))
    assert run(capsys, "--results", tmp_path / "results", *flags)[0] == 0
    assert word in texts(saved["country"].figure)
    assert word in saved["country"].sheet.subtitle


def test_a_fresh_clone_draws_the_papers_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(visualisation, "HOME", tmp_path)
    code, out, err = run(capsys, "--report")
    assert code == 0
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"country", "continent", "title1"}
    assert err.count("\n") == 1
    require_words(err, ["no results", "paper's published numbers", "./run.sh --model toy", "no report"])
    assert " ".join(out.split()) == f"figures: {tmp_path / 'figures'} (country, continent, title1)"


def test_the_papers_numbers_on_request(tmp_path, capsys):
    small_grid(tmp_path / "results")
    code, _, err = run(capsys, "--paper", "--results", tmp_path / "results", "--output", tmp_path / "fig")
    assert (code, err) == (0, "")
    assert {path.stem for path in (tmp_path / "fig").iterdir()} == {"country", "continent", "title1"}


@pytest.mark.usefixtures("unsaved")
def test_which_model_is_drawn(tmp_path, capsys):
    small_grid(tmp_path / "results")
    small_grid(tmp_path / "results", model="someone/model-b")
    argv = ("--results", tmp_path / "results", "--output", tmp_path / "fig")
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    require_words(error_line(err), ["several models", "--model", "toy", "someone--model-b"])
    code, _, _ = run(capsys, *argv, "--model", "someone/model-b")
    assert code == 0
    small_grid(tmp_path / "results", model=GPT2)
    assert figures.choose_folder(tmp_path / "results", True, None).name == "openai-community--gpt2"
    code, out, err = run(capsys, *argv, "--model", "nobody")
    assert (code, out) == (2, "")
    require_words(error_line(err), ["no results of nobody", "toy"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--results", "nowhere"], ["nowhere", "is no folder", "--output of main.py"]),
        (["--results", "."], ["holds no results"]),
        (["--results", "file"], ["file", "is no folder"]),
        (["--results", "x" * 5000], ["x"]),
        (["--results", "a\0b"], ["a"]),
        (["--mask", "medium"], ["--mask", "medium", "--help"]),
        (["--against", "nix"], ["--against", "nix", "neuron"]),
        (["--model", "nobody", "--results", "."], ["no results of nobody"]),
        (["--paper", "--output", "file"], ["cannot write", "file"]),
        (["--reslts", "."], ["--reslts", "--help"]),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    require_words(error_line(err), words)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_help_answers_at_once_and_loads_no_library():
    code = """
import sys
import visualisation
try:
    visualisation.main(sys.argv[1:])
finally:
    heavy = {"torch", "numpy", "matplotlib", "transformers", "nnsight", "safetensors"}
    print("loaded:", sorted(heavy & set(sys.modules)))
"""
    status, out, err = finish(start("--help", code=code))
    assert (status, err) == (0, "")
    assert out.endswith("loaded: []\n")
    for flag in ("--results", "--model", "--output", "--mask", "--paper", "--report"):
        assert f"  {flag} " in out
    assert max(map(len, out.splitlines())) <= 80


# ---------------------------------------------------------------- strangers' files


@pytest.mark.usefixtures("unsaved")
def test_broken_and_foreign_files_are_named_in_one_line(tmp_path, capsys):
    root = small_grid(tmp_path / "results")
    toy = root / "toy" / "country"
    (toy / "das" / "layer00-seed0.json").write_text("{")
    write(root, {**result("country", "das", 1), "n_selected": "many"})
    write(root, {**result("continent", "das", 0), "mode": "paper"})
    shutil.copy(toy / "das" / "layer02-seed0.json", toy / "das" / "layer07-seed0.json")
    (toy / "oracle").mkdir()
    (toy / "oracle" / "layer00-seed0.json").write_text(json.dumps({**result("country", "das", 0), "method": "oracle"}))
    (toy / "neuron" / "layer09-seed0.json").mkdir()
    (root / "toy" / "sae-quality.json").write_text("[]")
    code, _, err = run(capsys, "--results", root, "--output", tmp_path / "fig", "--report")
    assert code == 0
    skipped, lacking, undrawn = err.splitlines()
    require_words(skipped, ["skipped: ", "country/das/layer00-seed0.json (no json)", 'n_selected is "many"', " more"])
    assert lacking.startswith(
        "no results of: country das L0; country das L1; continent das L0; country apollo-e2e L0; "
    )
    assert lacking.endswith(" and 1 more")
    require_words(undrawn, ["sae-quality.json is broken", "layer 2"])
    page = (tmp_path / "fig" / "report.html").read_text()
    for words in (
        "oracle/layer00-seed0.json",
        "layer07-seed0.json (it says that it is country/das/layer02",
        "of toy, paper",
    ):
        assert words in page
    figure = draw(by_layer, Grid(collect(root / "toy").results), "country", "hard")
    assert line(figure, "line-das")[0] == [2]


@pytest.mark.usefixtures("unsaved")
def test_a_users_own_saes_are_drawn_and_reported_like_any_other(tmp_path, capsys):
    root = small_grid(tmp_path / "results")
    mine, other = "sae:runs/mine", "sae:/far/away/" + "x" * 60
    for layer in (0, 1):
        for method, score in ((mine, 0.75), (other, 0.25)):
            write(root, result("country", method, layer, hard=(score, 0.5)))
    write_quality(root, [quality_row(method, 0, "country") for method in ("openai", mine, other)])
    code, _, err = run(capsys, "--results", root, "--output", tmp_path / "fig", "--report")
    assert code == 0
    assert "skipped" not in err
    grid = grid_of(root)
    assert grid.methods == ["neuron", "das", "openai", "apollo-e2e", other, mine]
    figure = draw(by_layer, grid, "country", "hard")
    assert line(figure, f"line-{mine}") == ([0, 1], [0.625, 0.625])
    assert line(figure, f"line-{other}") == ([0, 1], [0.375, 0.375])
    assert "sae:runs/mine" in texts(figure)
    assert style_of(mine) == style_of(mine) != style_of(other)
    require_legible(figure)
    for name, figure in all_figures(root).items():
        if not name.startswith(("L", "title", "published")) and "continent" not in name:
            require_legible(figure)
            assert "sae:runs/mine" in texts(figure), name
    page = (tmp_path / "fig" / "report.html").read_text()
    assert page.count(f'data-method="{mine}"') >= 4  # scores and reconstructions at two layers, and differences
    assert f'<th scope="row">{mine}</th><td>0</td><td class="text">country</td>' in page  # SAE quality


def test_only_broken_files(tmp_path, capsys):
    path = small_grid(tmp_path / "results") / "toy" / "country" / "das" / "layer00-seed0.json"
    shutil.rmtree(tmp_path / "results" / "toy" / "continent")
    for other in (tmp_path / "results").rglob("*.json"):
        other.write_text("nonsense")
    code, _, err = run(capsys, "--results", tmp_path / "results", "--output", tmp_path / "fig")
    assert code == 2
    require_words(error_line(err), ["nothing in", "can be drawn"])
    assert path.exists()
    assert not (tmp_path / "fig").exists()


def test_only_sae_quality(tmp_path, capsys):
    write_quality(tmp_path / "results", [quality_row("openai", 0, "country"), {"method": 3}])
    code, _, err = run(capsys, "--results", tmp_path / "results", "--output", tmp_path / "fig", "--report")
    assert code == 0
    assert {path.stem for path in (tmp_path / "fig").iterdir()} == {"sae_quality", "title1", "report"}
    require_words(err, ["row 2: method is 3", "only SAE quality"])


def test_missing_cells_know_what_was_published(tmp_path):
    """Nobody misses an Apollo SAE at a layer that has none."""
    full_grid(tmp_path)
    folder = tmp_path / "openai-community--gpt2"
    assert missing(collect(folder).results) == []
    (folder / "country" / "apollo-e2e" / "layer05-seed0.json").unlink()
    (folder / "continent" / "bloom" / "layer11-seed0.json").unlink()
    assert missing(collect(folder).results) == ["country apollo-e2e L5", "continent bloom L11"]


def test_a_diverged_loss_is_a_gap(tmp_path):
    history = [{"epoch": e, "loss": x, "accuracy": 0.5} for e, x in ((1, 2.0), (2, math.nan), (3, math.inf))]
    write(tmp_path, result("country", "das", 0, history=history))
    assert line(draw(by_epoch, grid_of(tmp_path), 0, "loss"), "line-das") == ([1], [2.0])


@pytest.mark.usefixtures("unsaved")
def test_names_are_no_mathtext_and_no_html(tmp_path, capsys):
    for layer in (0, 1):
        name = r"$\frac$ <script>&" + "\ud800\n\x07"
        write(tmp_path / "results", result("country", "das", layer, model=name, device=name), folder="strange")
    code, _, err = run(capsys, "--results", tmp_path / "results", "--output", tmp_path / "fig", "--report")
    assert code == 0, err
    page = (tmp_path / "fig" / "report.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1  # the page's own
    assert r"$\frac$ &lt;script&gt;&amp;" in page


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("toy") | st.just(-1),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def places(content, at=()) -> list[tuple]:
    """The path of every value in nested json."""
    found = [at] if at else []
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return found + [place for key, value in items for place in places(value, (*at, key))]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mangled_json_is_never_a_traceback(tmp_path, capsys, monkeypatch, data):
    """One or two values of a sound file are replaced or left out: it is drawn or named."""
    monkeypatch.setattr(figures, "save", lambda drawing, *_, **__: draw_only(drawing.figure))
    monkeypatch.setattr(figures, "draw_banner", lambda _: None)
    monkeypatch.setattr(report_figures, "parts", lambda _: (b"", None))
    root = tmp_path / "results"
    shutil.rmtree(root, ignore_errors=True)
    write(root, result("country", "neuron", 0))
    is_quality = data.draw(st.booleans())
    path = (
        write_quality(root, [quality_row("bloom", 1, "country")])
        if is_quality
        else write(root, result("country", "bloom", 1))
    )
    content = json.loads(path.read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(places(content)))
        inside = content
        for key in place[:-1]:
            inside = inside[key]
        if data.draw(st.booleans()):
            inside[place[-1]] = data.draw(JSON)
        else:
            del inside[place[-1]]
        if not places(content):
            break
    path.write_text(json.dumps(content))
    code, _, err = run(capsys, "--results", root, "--output", tmp_path / "fig", "--report")
    assert code == 0
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 3


def draw_only(figure) -> None:
    with look():
        figure.draw_without_rendering()


def test_the_script_itself(tmp_path):
    """As a user starts it, from another folder."""
    done = subprocess.run(
        [sys.executable, HOME / "visualisation.py", "--paper", "--output", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "country.png").exists()


@pytest.mark.usefixtures("unsaved")
def test_what_cannot_be_compared_is_said(tmp_path, capsys):
    """A method that was not run, and cells of fewer seeds; controls that were run at one layer are not missed."""
    root = small_grid(tmp_path / "results", seeds=(0, 1, 2))
    write(root, result("country", "das:random", 0, l0=None, n_features=64))
    (root / "toy" / "country" / "das" / "layer01-seed2.json").unlink()
    argv = ("--results", root, "--output", tmp_path / "fig", "--report")
    code, _, err = run(capsys, *argv, "--against", "bloom")
    assert code == 0
    assert "no differences: bloom was not run beside another method" in err
    require_words(err, ["warning: fewer than 3 seeds:", "country das L1 (2)", "country das:random L0 (1)"])
    assert "no results of: country das L1 seed 2; country apollo-e2e L0" in err
    assert "fewer than 3 seeds" in (tmp_path / "fig" / "report.html").read_text()
