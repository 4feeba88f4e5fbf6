"""What the report says, as a browser shows it."""

import json
import re

import pytest
from helpers_results import quality_row, result, write, write_quality

from common.paths import HOME
from data.names import PAPER
from drawing.canvas import look, save
from drawing.collect import collect
from drawing.scores import by_layer
from grid.profiles import TOY_NOTICE
from results.estimates import Grid
from results.kept import estimates


def grid_of(report) -> Grid:
    return Grid(collect(report.parent.parent / "results" / "toy").results)


def cells(page, where: str) -> list[str]:
    (row,) = page.query_selector_all(f"#scores tr{where}")
    return [cell.inner_text().strip() for cell in row.query_selector_all("th, td")]


def test_the_first_lines_name_the_toy(opened, toy_report):
    page = opened(toy_report)
    heading, notice = page.inner_text("body").split("\n", 2)[0], page.inner_text(".notice")
    assert heading.endswith("toy")
    assert notice.startswith("This is the toy world: that das beats neurons")
    assert notice == TOY_NOTICE
    box = page.query_selector(".notice").bounding_box()
    assert box["y"] + box["height"] < 300


def test_another_model_is_no_toy(opened, made, tmp_path):
    page = opened(made(tmp_path, (0,), model="openai-community/gpt2", mode="paper"))
    assert page.query_selector(".notice") is None
    assert "toy" not in page.inner_text("body")


def test_every_image_is_there_and_described_once(opened, toy_report):
    """The picture is named by its alt; its words stand below it as text, and nowhere a second time."""
    page = opened(toy_report)
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    images = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt, i.src.slice(0, 19)])")
    shown = page.inner_text("body")
    for complete, width, alt, source in images:
        assert complete
        assert width > 0
        assert alt
        assert alt not in shown
        assert source == "data:image/svg+xml;"
    plots = page.evaluate("[...document.querySelectorAll('img.plot')].map(image => image.alt)")
    assert all(4 < len(alt) < 60 for alt in plots)
    assert len(plots) == 13  # 4 per target, SAE quality, 2 at each of 2 layers
    assert sum("target country" in alt for alt in plots) == 4
    captions = [caption.inner_text() for caption in page.query_selector_all("figcaption")]
    assert len(set(captions)) == 13
    for caption in [*captions, *(notes.inner_text() for notes in page.query_selector_all(".under p"))]:
        assert len(caption) > 30
        assert shown.count(caption) == 1
    keys = page.evaluate("[...document.querySelectorAll('#country, #L0acc')].map(f => f.closest('.group').innerHTML)")
    # One key for what stands side by side; layer 1 was trained with a method more.
    assert [html.count('class="key"') for html in keys] == [1, 2]
    assert 'alt="Key: none (no patch), full (whole vector), neuron, das, openai, apollo-e2e"' in keys[0]


def test_figures_on_the_page_have_no_words_of_their_own(opened, toy_report, tmp_path):
    """What a caption says is not drawn again: the notes, or the title, of which matplotlib's file has the text."""
    page = opened(toy_report)
    drawn = page.evaluate("[...document.querySelectorAll('img.plot')].map(image => atob(image.src.split(',')[1]))")
    grid = grid_of(toy_report)
    with look():
        save(by_layer(grid, "country", "hard"), tmp_path, "country")
    whole = (tmp_path / "country.svg").read_text(encoding="utf-8")
    for words in ("Disentangle score by layer, target country", "Disentangle: mean of cause"):
        assert words in whole
        assert not any(words in svg for svg in drawn)


def test_tables_hold_the_numbers_of_the_results(opened, drawn, tmp_path):
    root = tmp_path / "results"
    hard, soft = (0.125, 0.875), (0.25, 0.5)
    write(root, result("country", "bloom", 1, hard=hard, soft=soft, n_selected=17, l0=12.34))
    write(root, result("country", "none", 1, hard=(0.0, 1.0), soft=(0.0, 1.0)))
    page = opened(drawn(root, tmp_path / "fig"))
    row = '[data-target="country"][data-layer="1"]'
    grid = Grid(collect(root / "toy").results)

    def interval(method: str, mask: str) -> str:
        estimate = grid.score("country", method, 1, mask, "disentangle")
        return f"[{estimate.low:.3f}, {estimate.high:.3f}]"

    own = ["bloom", "1", "0.125", "0.875", "0.500", interval("bloom", "hard")]
    own += ["0.250", "0.500", "0.375", interval("bloom", "soft"), "17/256", "12.3"]
    assert cells(page, f'{row}[data-method="bloom"]:not([data-reconstruction])') == own
    spliced = 2 * ["0.062", "0.500", "0.281", interval("bloom", "reconstruction")]
    expected = ["bloom: reconstruction", "1", *spliced, "\N{EN DASH}", "12.3"]
    assert cells(page, f'{row}[data-method="bloom"][data-reconstruction]') == expected
    assert cells(page, f'{row}[data-method="none"]')[2:5] == ["0.000", "1.000", "0.500"]
    full = cells(page, f'{row}[data-method="full"]')  # beside the others
    expected = ["full", "1", *2 * ["1.000", "0.062", "0.531", interval("full", "hard")], *2 * ["\N{EN DASH}"]]
    assert full == expected
    glance = [row.inner_text().split() for row in page.query_selector_all("#glance-country tbody tr")]
    assert glance == [["none", "0.50"], ["full", "0.53"], ["bloom", "0.50"]]
    assert "was not run" not in page.inner_text("#run")
    assert "neuron, das, openai" in page.inner_text("#unmeasured")
    assert "continent" in page.inner_text("#unmeasured")
    assert page.inner_text("#quality").endswith("Not measured.")


def test_every_score_of_a_grid_is_in_the_tables(opened, toy_report):
    page = opened(toy_report)
    rows = page.query_selector_all("#scores tr[data-method]:not([data-reconstruction])")
    assert len(rows) == 2 * (3 * 5 + 1)  # per target: 3 layers x none, full, neuron, das, openai; apollo-e2e at one
    for layer in range(3):
        for target in PAPER:
            found = cells(page, f'[data-target="{target}"][data-layer="{layer}"][data-method="neuron"]')
            assert found[1:4] == [str(layer), f"{0.5 + layer / 16:.3f}", "0.750"]
    quality = [row.inner_text().split() for row in page.query_selector_all("#quality tbody tr")]
    assert quality[1][:7] == ["openai", "0", "country", "all", "centred", "64.00", "0.750"]
    assert len(quality) == 8


def test_intervals_are_those_of_the_grid(opened, three_seeds):
    """das: disentangle 0.9375, 0.9453125, 0.953125; neuron at layer 0: 0.625."""
    page, grid = opened(three_seeds), grid_of(three_seeds)
    estimate = grid.score("country", "das", 0, "hard", "disentangle")
    found = cells(page, '[data-target="country"][data-layer="0"][data-method="das"]')
    assert found[4:6] == ["0.945", f"[{estimate.low:.3f}, {estimate.high:.3f}]"]
    assert "another seed on other countries" in page.inner_text("#scores-country-caption")
    (compared,) = [c for c in grid.compare("neuron", "hard") if (c.target, c.layer, c.method) == ("country", 0, "das")]
    (row,) = page.query_selector_all("#differences tr[data-target=country][data-layer='0'][data-method=das]")
    shown = [cell.inner_text().strip() for cell in row.query_selector_all("th, td")]
    assert shown[:5] == ["country", "0", "das", "neuron", "+0.320"]
    assert shown[5] == f"[{compared.low:+.3f}, {compared.high:+.3f}]"
    assert shown[8] == "better"
    wins = [cell.inner_text() for cell in page.query_selector_all("#glance-country td.wins")]
    assert wins == ["0.95", "0.95"]  # das, at the two layers where masks were trained


def test_settings_and_provenance(opened, toy_report):
    page = opened(toy_report)
    page.click("#settings summary")
    settings = page.inner_text("#settings")
    for words in ("n_cities\t30", 'commit\t"0123abc"', 'device\t"cpu"', 'torch\t"2.13.0"', "epochs\t2"):
        assert words in settings
    assert re.search(r"lr\t0\.003 \(\d+\), null \(\d+\)", settings)
    assert re.search(r"results of\s+20\d\d-\d\d-\d\d", page.inner_text("#run"))
    assert 'SAE quality\tprompt\t"bare"' in settings


def test_a_strangers_text_stays_text(opened, drawn, tmp_path):
    evil = '"><img src=x onerror="console.log(1)"><script>console.log(2)</script>'
    root = tmp_path / "results"
    content = result("country", "das", 0, model=evil, device=evil, commit=evil, mode=evil)
    content["config"] = {**content["config"], evil: evil}
    content["versions"] = {evil: evil}
    write(root, content, folder="evil")
    write_quality(root, [{"method": evil}, quality_row("openai", 0, "country")], model="evil")
    page = opened(drawn(root, tmp_path / "fig"))
    (script,) = page.query_selector_all("script")  # the page's own
    assert script.inner_text() == (HOME / "drawing" / "report.js").read_text(encoding="utf-8")
    assert page.query_selector_all("img[src=x]") == []
    assert evil in page.inner_text("h1")


# ---------------------------------------------------------------- the first screen


def answer_rows(page, target: str) -> dict[str, list[str]]:
    rows = page.query_selector_all(f"#answer-{target} tbody tr")
    found = [[cell.inner_text() for cell in row.query_selector_all("th, td")] for row in rows]
    return {method: others for method, *others in found}


def sentence(page, target: str) -> str:
    (article,) = [a for a in page.query_selector_all("#answer article") if f"Target {target}" in a.inner_text()]
    return article.query_selector("p").inner_text()


@pytest.mark.parametrize("name", ["toy_report", "three_seeds"])
def test_numbers_of_the_first_screen_are_those_of_the_json(opened, request, name):
    """Every number in the tables and sentences, from what main.py keeps in estimates.json."""
    report = request.getfixturevalue(name)
    page, kept = opened(report), json.loads(json.dumps(estimates(grid_of(report), "neuron", "hard")))
    for target in PAPER:
        rows = answer_rows(page, target)
        chosen = {c["method"]: c for c in kept["layer_chosen_on_validation"] if c["target"] == target}
        assert {"neuron", "das", "openai"} == set(chosen)  # of several layers; apollo-e2e has one
        assert rows.keys() == chosen.keys() | {"apollo-e2e"}
        for method, choice in chosen.items():
            test = choice["test"]
            expected = [str(choice["layer"]), f"{test['mean']:.3f} [{test['low']:.3f}, {test['high']:.3f}]"]
            assert rows[method][:2] == expected
            about = (target, method, choice["layer"])
            found = [d for d in kept["differences"] if (d["target"], d["method"], d["layer"]) == about]
            if method == "neuron":
                assert rows[method][2:] == 2 * ["\N{EN DASH}"]
                continue
            (d,) = found
            expected = [f"{d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]", d["verdict"]]
            assert rows[method][2:] == expected
        words = sentence(page, target)
        assert words.startswith("das is best on the validation pairs, at layer 0, the best of 2 layers. ")
        assert f"it scores {rows['das'][1]}; none 0.500 and full 0.531 there." in words
        assert f"It is better than neuron there, by {rows['das'][2]}." in words
        assert "None of its controls was run" in words
    assert f"the {len(kept['differences'])} comparisons of this page" in page.inner_text("#answer")


def test_the_first_screen_answers_what_was_asked(opened, three_seeds):
    page = opened(three_seeds, viewport={"width": 1280, "height": 800})
    for name in ("#answer", "#run"):
        box = page.query_selector(name).bounding_box()
        assert box["y"] + box["height"] <= 800
    assert page.inner_text("#answer h2") == "Which method is best in the toy world, which says nothing of real SAEs"
    shown = " ".join(page.inner_text("#run").split())
    for fact in ("model toy", "cities 30", "country: 1,600 cause, 1,600 isolation", "layers 0, 1, 2", "seeds 0, 1, 2"):
        assert fact in shown
    assert "controls none were run" in shown


def write_pair(root, das: tuple, neuron: tuple, **more) -> None:
    """das and neuron at layer 0, target country; more: scores of other methods, with _ for a colon."""
    for method, hard in {"das": das, "neuron": neuron, **more}.items():
        write(root, result("country", method.replace("_", ":"), 0, hard=hard))


@pytest.mark.parametrize(
    ("das", "neuron", "best", "compared"),
    [
        ((0.75, 0.75), (0.75, 0.7), "das", "Better than neuron there? Cannot tell: +0.025 ["),
        ((0.25, 0.25), (0.9, 0.9), "neuron", "The others are compared with it; at layer 0: das -0.650 ["),
    ],
)
def test_what_is_said_of_the_best(opened, drawn, tmp_path, das, neuron, best, compared):
    write_pair(tmp_path / "results", das, neuron)
    said = sentence(opened(drawn(tmp_path / "results", tmp_path / "fig")), "country")
    assert f"{best} is best on the validation pairs, at layer 0. On" in said
    assert compared in said


def test_controls_are_said_beside_the_best(opened, drawn, tmp_path):
    """das 0.9375, das:random 0.5: the difference is 0.4375."""
    write_pair(tmp_path / "results", (1.0, 0.875), (0.5, 0.75), das_random=(0.5, 0.5), neuron_shuffled=(0.5, 0.5))
    page = opened(drawn(tmp_path / "results", tmp_path / "fig"))
    assert "Minus its controls: random +0.438 [" in sentence(page, "country")
    assert "shuffled" not in sentence(page, "country")
    assert "controls shuffled, random" in page.inner_text("#run")


def test_without_the_other_method_no_difference_is_claimed(opened, drawn, tmp_path):
    write(tmp_path / "results", result("country", "das", 0))
    words = sentence(opened(drawn(tmp_path / "results", tmp_path / "fig")), "country")
    assert "No difference from neuron: it was not run there" in words
