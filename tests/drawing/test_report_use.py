"""What a reader can do with the report: sort, enlarge, unfold, print, with and without script, keys and eyes."""

import pytest

EN_DASH = "\N{EN DASH}"


def column(page, table: str, head: str) -> list[str]:
    """The cells below a head, in the order of the page."""
    return page.evaluate(
        """([table, head]) => {
            const heads = [...document.querySelectorAll(`#${table} thead th`)].map(th => th.textContent.trim());
            const rows = [...document.querySelectorAll(`#${table} tbody tr`)];
            return rows.map(row => row.cells[heads.indexOf(head)].textContent.trim());
        }""",
        [table, head],
    )


def first_number(text: str) -> float:
    return float(text.lstrip("[< ").split(",")[0].split("/")[0])


def press(page, table: str, head: str, key: str | None = None) -> str | None:
    """Click a head, or press a key on it; its aria-sort afterwards."""
    where = page.locator(f"#{table} thead th").filter(has_text=head).first
    if key:
        where.get_by_role("button").focus()
        page.keyboard.press(key)
    else:
        where.get_by_role("button").click()
    return where.get_attribute("aria-sort")


@pytest.mark.parametrize(
    ("table", "head", "key"),
    [
        ("differences-table", "difference", None),
        ("differences-table", "95 %", "Enter"),
        ("scores-country", "selected", None),
        ("scores-country", "selected", "Space"),
        ("quality-table", "squared error", None),
        ("quality-table", "squared error", "Enter"),
    ],
)
def test_numbers_sort_as_numbers(opened, toy_report, table, head, key):
    page = opened(toy_report)
    before = [text for text in column(page, table, head) if text != EN_DASH]
    numbers = [first_number(text) for text in before]
    assert numbers != sorted(numbers)
    for order, is_reverse in (("ascending", False), ("descending", True)):
        assert press(page, table, head, key) == order
        found = [first_number(text) for text in column(page, table, head) if text != EN_DASH]
        assert found == sorted(numbers, reverse=is_reverse)
    assert press(page, table, head, key) is None
    assert [text for text in column(page, table, head) if text != EN_DASH] == before


def test_words_sort_as_words_and_rows_stay_whole(opened, toy_report):
    page = opened(toy_report)
    rows = {row.inner_text() for row in page.query_selector_all("#differences-table tbody tr")}
    press(page, "differences-table", "method")
    found = column(page, "differences-table", "method")
    assert found == sorted(found)
    assert found[0] == "apollo-e2e"
    assert {row.inner_text() for row in page.query_selector_all("#differences-table tbody tr")} == rows
    press(page, "differences-table", "layer")
    sorts = page.evaluate("[...document.querySelectorAll('#differences-table [aria-sort]')].map(th => th.textContent)")
    assert sorts == ["layer"]


def test_what_was_not_measured_stays_last(opened, toy_report):
    """l0 is of SAEs alone: two of the rows of a layer."""
    page = opened(toy_report)
    for _ in range(2):
        press(page, "scores-country", "l0")
        found = column(page, "scores-country", "l0")
        n = found.index(EN_DASH)
        assert 0 < n < len(found)
        assert set(found[n:]) == {EN_DASH}


def test_without_script_everything_can_be_read(opened, toy_report):
    pages = opened(toy_report), opened(toy_report, java_script_enabled=False)
    texts = [page.evaluate("[...document.querySelectorAll('table')].map(table => table.textContent)") for page in pages]
    assert texts[0] == texts[1]
    assert [len(page.query_selector_all("button")) > 0 for page in pages] == [True, False]
    plots = pages[1].query_selector_all("figure img")
    assert all(plot.is_visible() for plot in plots[:9])


def test_a_figure_is_enlarged_by_key_and_gives_the_focus_back(opened, toy_report):
    page = opened(toy_report)
    figure = page.locator("#differences_continent")
    opener, small = figure.get_by_role("button"), figure.locator("img").bounding_box()
    opener.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    plot = dialog.locator("img.plot")
    assert plot.get_attribute("src") == figure.locator("img").get_attribute("src")
    assert plot.bounding_box()["width"] > 1.3 * small["width"]
    assert dialog.locator("img.key").is_visible()
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert opener.evaluate("button => button === document.activeElement")
    opener.click()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()
    assert opener.evaluate("button => button === document.activeElement")


def test_what_few_need_is_folded_and_links_unfold_it(opened, toy_report):
    page = opened(toy_report)
    folded = page.evaluate("[...document.querySelectorAll('details')].map(d => [d.closest('section').id, d.open])")
    assert folded == [["training", False], ["settings", False], ["files", False]]
    assert not page.locator("#L0acc").is_visible()
    page.click("nav a[href='#training']")
    assert page.locator("#L0acc").is_visible()


# ---------------------------------------------------------------- width, print, readers


@pytest.mark.parametrize("width", [360, 390, 800, 1280])
def test_the_page_does_not_scroll_sideways(opened, toy_report, width):
    page = opened(toy_report, viewport={"width": width, "height": 800})
    inner = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
    assert max(inner) <= width
    frames = page.evaluate(
        "[...document.querySelectorAll('.scroll, .frame')].filter(f => f.offsetParent).map(f => [f.clientWidth, "
        "f.scrollWidth, getComputedStyle(f, '::before').content.includes('sideways')])"
    )
    assert all(box <= width for box, _, _ in frames)
    assert all(is_marked == (content > box) for box, content, is_marked in frames)
    assert any(is_marked for _, _, is_marked in frames) == (width < 1280)


def test_on_a_phone_figures_are_as_large_as_text_and_have_their_key(opened, toy_report):
    page = opened(toy_report, viewport={"width": 390, "height": 844})
    for figure in ("country", "differences_country", "cause_isolation_continent"):
        plot = page.locator(f"#{figure} img.plot").bounding_box()
        assert plot["width"] > 500  # as drawn, 7.15 inches: letters of 8.5 points are 9 px high
        key = page.locator(".group").filter(has=page.locator(f"#{figure}")).locator("img.key").bounding_box()
        assert key["x"] >= 0
        assert key["x"] + key["width"] <= 390
        assert key["y"] < plot["y"]


def test_in_print_all_is_open_and_nothing_is_cut(opened, toy_report):
    page = opened(toy_report, viewport={"width": 690, "height": 1000})  # A4 less its margins, at 96 dpi
    are_open = "[...document.querySelectorAll('details')].map(fold => fold.open)"
    page.emulate_media(media="print")
    assert page.locator("#L0acc").is_visible()  # also without script
    assert page.evaluate(are_open) == [False] * 3
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(are_open) == [True] * 3
    wide = page.evaluate("[...document.querySelectorAll('table, img')].map(t => t.getBoundingClientRect().right)")
    assert max(wide) <= 690
    assert not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert not page.locator("#L0acc").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "light"), (1280, "dark")])
def test_axe_finds_nothing_serious(opened, toy_report, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(toy_report, viewport={"width": width, "height": 800}, color_scheme=scheme)
    for state in ("as opened", "unfolded", "enlarged"):
        if state == "unfolded":
            page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        if state == "enlarged":
            page.locator("#country").get_by_role("button").click()
        found = Axe().run(page).response
        assert found["passes"]
        grave = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["nodes"][0]["html"]) for v in grave] == [], state
