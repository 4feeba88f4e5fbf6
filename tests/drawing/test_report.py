"""The report, as a browser shows it."""

import os
import re
import shutil

import pytest
from helpers_results import quality_row, result, small_grid, write, write_quality

import visualisation
from data.names import ATTRIBUTES
from drawing.collect import collect
from grid.profiles import TOY_NOTICE
from results.estimates import Grid

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET += " --disable-component-update --disable-sync"

pytestmark = pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no Chromium")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "there is no Chromium; CI needs it"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield found
        found.close()


@pytest.fixture(scope="module")
def toy_report(tmp_path_factory):
    """Of a small toy grid with one seed."""
    return made(tmp_path_factory.mktemp("toy"), seeds=(0,))


def made(folder, seeds, **changes):
    root = small_grid(folder / "results", seeds=seeds, **changes)
    rows = [quality_row("openai", layer, attribute) for layer in (0, 1) for attribute in ATTRIBUTES]
    write_quality(root, rows, changes.get("model", "toy"))
    assert visualisation.main(["--results", str(root), "--output", str(folder / "fig"), "--report"]) == 0
    return folder / "fig" / "report.html"


@pytest.fixture
def opened(browser):
    """Open a page: nothing may be asked of a network, nothing said on the console."""
    complaints, pages = [], []

    def open_page(path, **options):
        page = browser.new_page(**options)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked(request.url, path))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    def asked(url: str, path) -> None:
        if not url.startswith("data:") and url != path.as_uri():
            complaints.append(url)

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


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


def test_another_model_is_no_toy(opened, tmp_path):
    page = opened(made(tmp_path, (0,), model="openai-community/gpt2", mode="paper"))
    assert page.query_selector(".notice") is None
    assert "toy" not in page.inner_text("body")


def test_every_image_is_there_and_described(opened, toy_report):
    page = opened(toy_report)
    images = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt, i.src.slice(0, 19)])")
    assert len(images) == 13  # 4 per target, SAE quality, 2 at each of 2 layers
    for complete, width, alt, source in images:
        assert complete
        assert width > 0
        assert len(alt) > 80
        assert source == "data:image/svg+xml;"
    assert len({alt for _, _, alt, _ in images}) == 13
    captions = [caption.inner_text() for caption in page.query_selector_all("figcaption")]
    assert len(captions) == 13
    assert all(len(caption) > 40 for caption in captions)


def test_tables_hold_the_numbers_of_the_results(opened, tmp_path):
    root = tmp_path / "results"
    hard, soft = (0.125, 0.875), (0.25, 0.5)
    write(root, result("country", "bloom", 1, hard=hard, soft=soft, n_selected=17, l0=12.34))
    write(root, result("country", "none", 1, hard=(0.0, 1.0), soft=(0.0, 1.0)))
    assert visualisation.main(["--results", str(root), "--output", str(tmp_path / "fig"), "--report"]) == 0
    page = opened(tmp_path / "fig" / "report.html")
    row = '[data-target="country"][data-layer="1"]'
    grid = Grid(collect(root / "toy").results)

    def interval(method: str, mask: str) -> str:
        estimate = grid.score("country", method, 1, mask, "disentangle")
        return f"[{estimate.low:.3f}, {estimate.high:.3f}]"

    own = ["bloom", "0.125", "0.875", "0.500", interval("bloom", "hard")]
    own += ["0.250", "0.500", "0.375", interval("bloom", "soft"), "17/256", "12.3"]
    assert cells(page, f'{row}[data-method="bloom"]:not([data-reconstruction])') == own
    spliced = 2 * ["0.062", "0.500", "0.281", interval("bloom", "reconstruction")]
    expected = ["reconstruction", *spliced, "\N{EN DASH}", "12.3"]
    assert cells(page, f'{row}[data-method="bloom"][data-reconstruction]') == expected
    assert cells(page, f'{row}[data-method="none"]')[1:4] == ["0.000", "1.000", "0.500"]
    full = cells(page, f'{row}[data-method="full"]')  # beside the others
    assert full == ["full", *2 * ["1.000", "0.062", "0.531", interval("full", "hard")], "\N{EN DASH}", "\N{EN DASH}"]
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
        for target in ATTRIBUTES:
            found = cells(page, f'[data-target="{target}"][data-layer="{layer}"][data-method="neuron"]')
            assert found[1:3] == [f"{0.5 + layer / 16:.3f}", "0.750"]
    quality = [row.inner_text().split() for row in page.query_selector_all("#quality tbody tr")]
    assert quality[1][:7] == ["openai", "0", "country", "all", "centred", "64.00", "0.750"]
    assert len(quality) == 8


def test_intervals_are_those_of_the_grid(opened, tmp_path):
    """das: disentangle 0.9375, 0.9453125, 0.953125; neuron at layer 0: 0.625."""
    page = opened(made(tmp_path, (0, 1, 2)))
    grid = Grid(collect(tmp_path / "results" / "toy").results)
    estimate = grid.score("country", "das", 0, "hard", "disentangle")
    found = cells(page, '[data-target="country"][data-layer="0"][data-method="das"]')
    assert found[3:5] == ["0.945", f"[{estimate.low:.3f}, {estimate.high:.3f}]"]
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
    settings = page.inner_text("#settings")
    for words in ("n_cities\t30", 'commit\t"0123abc"', 'device\t"cpu"', 'torch\t"2.13.0"', "epochs\t2"):
        assert words in settings
    assert re.search(r"lr\t0\.003 \(\d+\), null \(\d+\)", settings)
    assert re.search(r"results of\s+20\d\d-\d\d-\d\d", page.inner_text("#run"))
    assert 'SAE quality\tprompt\t"bare"' in settings


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_does_not_scroll_sideways(opened, toy_report, width):
    page = opened(toy_report, viewport={"width": width, "height": 740})
    inner = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
    assert max(inner) <= width
    tables = page.evaluate("[...document.querySelectorAll('.scroll')].map(b => [b.clientWidth, b.scrollWidth])")
    assert all(box <= width for box, _ in tables)
    if width == 360:
        assert any(content > box for box, content in tables)  # the wide ones scroll within themselves


def test_a_strangers_text_stays_text(opened, tmp_path):
    evil = '"><img src=x onerror="console.log(1)"><script>console.log(2)</script>'
    root = tmp_path / "results"
    content = result("country", "das", 0, model=evil, device=evil, commit=evil, mode=evil)
    content["config"] = {**content["config"], evil: evil}
    content["versions"] = {evil: evil}
    write(root, content, folder="evil")
    write_quality(root, [{"method": evil}, quality_row("openai", 0, "country")], model="evil")
    assert visualisation.main(["--results", str(root), "--output", str(tmp_path / "fig"), "--report"]) == 0
    page = opened(tmp_path / "fig" / "report.html")
    assert page.query_selector_all("script") == []
    assert page.query_selector_all("img[src=x]") == []
    assert evil in page.inner_text("h1")


def test_it_prints(browser, toy_report, tmp_path):
    page = browser.new_page()
    page.goto(toy_report.as_uri())
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 690, "height": 1000})  # A4 less its margins, at 96 dpi
    wide = page.evaluate("[...document.querySelectorAll('table')].map(t => t.scrollWidth)")
    assert max(wide) <= 690
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.close()
