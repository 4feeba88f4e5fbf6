"""A real browser for the report, and a small report to open in it."""

import contextlib
import os
import shutil

import pytest
from helpers_results import quality_row, small_grid, write_quality

import visualisation
from data.names import PAPER
from drawing import figures

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET += " --disable-component-update --disable-sync"


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None and "CI" not in os.environ:
        pytest.skip("there is no Chromium")
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "there is no Chromium; CI needs it"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield found
        found.close()


@pytest.fixture(scope="session")
def toy_report(tmp_path_factory):
    """Of a small toy grid with one seed."""
    return make_report(tmp_path_factory.mktemp("toy"), seeds=(0,))


@pytest.fixture(scope="session")
def three_seeds(tmp_path_factory):
    """Of the same grid with three."""
    return make_report(tmp_path_factory.mktemp("seeds"), seeds=(0, 1, 2))


@pytest.fixture(scope="session")
def made():
    """Function that makes a report of a small grid in a folder and returns its path."""
    return make_report


def make_report(folder, seeds, **changes):
    root = small_grid(folder / "results", seeds=seeds, **changes)
    rows = [quality_row("openai", layer, attribute) for layer in (0, 1) for attribute in PAPER]
    write_quality(root, rows, changes.get("model", "toy"))
    return draw_report(root, folder / "fig")


@contextlib.contextmanager
def without_files():
    """Figures are drawn, and on the page if there is one, but not written as files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", lambda *_, **__: None)
        yield


@pytest.fixture
def unsaved():
    """For the whole test."""
    with without_files():
        yield


def draw_report(root, output):
    """Draw the report of some results and return its path.

    Not the files beside it, which take twice as long again; test_visualisation.py draws both.
    """
    with without_files():
        assert visualisation.main(["--results", str(root), "--output", str(output), "--report"]) == 0
    return output / "report.html"


@pytest.fixture(scope="session")
def drawn():
    """Function that draws the report of some results, given their folder and the report's, and returns its path."""
    return draw_report


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
        if not url.startswith("data:") and url.partition("#")[0] != path.as_uri():
            complaints.append(url)

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
