"""The page in headless Chromium: nothing goes wrong, all that moves moves, and an accessibility checker finds nothing.

Skipped where playwright or Chromium is not installed: `pip install '.[browser]'` and `apt install chromium`.
"""

import json
import re
import shutil
import time
from dataclasses import replace

import pytest
from reports import FAILED, PLANNED, REFUSED, REPORT, TRAINED, UNTRAINED, long

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
WIDTHS = (390, 820, 1440)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Open a report; what the console says by the end fails the test."""
    said, contexts = [], []

    def open_page(report, width=1440, scheme="light"):
        path = report.save(tmp_path / "report.html")
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: request.url.startswith("file:") or said.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def painted(page):
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def broken(page):
    """What the checker finds, in short."""
    found = axe.Axe().run(page).response["violations"]
    return [(one["id"], one["impact"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "report", [REPORT, TRAINED, FAILED, REFUSED, PLANNED, UNTRAINED, long(120)], ids=lambda r: r.verdict[:20]
)
def test_nothing_is_wider_than_the_screen_and_all_can_be_read(visit, report, width, scheme):
    page = visit(report, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert broken(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_opens_can_be_read_too(visit, scheme):
    page = visit(TRAINED, 1440, scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    page.click("#tab-graph")
    page.locator("#graph .node").first.click()
    painted(page)
    assert broken(page) == []
    page.keyboard.press("Escape")
    page.click("#tab-order")
    assert broken(page) == []


def test_a_long_report_opens_short_and_at_once(visit):
    report = long(5000)
    start = time.perf_counter()
    page = visit(report)
    painted(page)
    assert time.perf_counter() - start < 2 + 3  # the page itself is made in the time, too
    assert page.evaluate("performance.now()") < 2000
    assert page.evaluate("document.documentElement.scrollHeight") < 4000
    for tab in ("order", "graph", "tree"):
        start = time.perf_counter()
        page.click(f"#tab-{tab}")
        painted(page)
        assert time.perf_counter() - start < 1
        assert page.is_visible(f"#panel-{tab}")


def test_a_node_shows_its_error_at_every_size(visit):
    page = visit(REPORT)
    page.click("#tab-order")
    page.click("#panel-order [data-row='3']")
    for at, error in REPORT.rows[3].errors.items():
        playwright.expect(page.locator("#detail")).to_contain_text(f"{at}: {error:.1e}")


def test_search(visit):
    page = visit(long(120))
    page.fill("#search", "blocks.3 dense")
    page.wait_for_selector("#found:not([hidden])")
    playwright.expect(page.locator("#count")).to_have_text("10 of 120 nodes")
    assert not page.is_visible("#panel-tree")
    page.keyboard.press("Escape")
    page.wait_for_selector("#panel-tree:not([hidden])")
    page.fill("#search", "weight: o i -> i o")
    page.wait_for_selector("#found:not([hidden])")
    playwright.expect(page.locator("#count")).to_have_text("120 of 120 nodes")
    page.fill("#search", "nowhere")
    playwright.expect(page.locator("#found")).to_contain_text("Nothing")
    page.click("#weights summary")
    page.fill("#search-weights", "dense_11")
    playwright.expect(page.locator("#count-weights")).to_have_text("11 of 120")
    assert page.locator("#weights-table tbody tr:visible").count() == 11


def test_folding_and_order(visit):
    page = visit(long(500))
    lines = page.locator("#panel-tree .row:visible")
    assert lines.count() < 200
    page.click("#open-all")
    assert lines.count() == 500
    page.click("#close-all")
    assert lines.count() == 0
    page.click("#tab-order")
    ordered = page.locator("#panel-order .row")
    assert ordered.count() == 200
    page.click("#panel-order .further")
    assert ordered.count() == 400
    assert ordered.nth(17).inner_text().startswith("18")
    page.click("nav a[href='#weights']")
    assert page.is_visible("#weights-table")


def test_a_node_says_what_it_is(visit):
    page = visit(REPORT)
    page.click("#panel-tree [data-row='3']")
    shown = page.inner_text("#detail")
    for said in ("head.0", "Dense head_0", '"relu"', "folded(head.0.bias)", "2.4e-06", "one way"):
        assert said in shown
    page.click("#detail .link >> text=Concat")
    assert "Concatenate concat" in page.inner_text("#detail")
    page.click("text=Show in the graph")
    assert page.locator("#graph .node.chosen").count() == 1
    page.keyboard.press("Escape")
    assert page.is_hidden("#detail")


def scale(page):
    return float(re.search(r"scale\(([\d.]+)\)", page.get_attribute("#graph > g", "transform"))[1])


def test_graph(visit):
    page = visit(long(120))
    page.click("#tab-graph")
    page.click("#open-all")
    assert page.locator("#graph .node").count() == 120
    assert page.locator("#graph .edge").count() == 120 + 12 + 1  # the chain, its skips, the output
    page.click("#close-all")
    groups = page.locator("#graph .group")
    assert (groups.count(), page.locator("#graph .node").count()) == (1, 0)
    groups.first.click()
    assert groups.count() > 1
    before = scale(page)
    page.click("#zoom-in")
    assert scale(page) > before
    page.click("#fit")
    box = page.locator("#graph").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 200)
    moved = page.get_attribute("#graph > g", "transform")
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 240, steps=4)
    page.mouse.up()
    assert page.get_attribute("#graph > g", "transform") != moved
    before = page.get_attribute("#graph > g", "transform")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    playwright.expect(page.locator("#graph > g")).not_to_have_attribute("transform", before)


def test_by_keyboard(visit):
    page = visit(long(120))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.focus("#profile")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#profile", "aria-valuenow") == "2"
    page.keyboard.press("Enter")
    assert page.is_visible("#detail")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "profile"
    page.focus("#tab-tree")
    page.keyboard.press("ArrowLeft")
    assert page.is_visible("#panel-graph")
    page.keyboard.press("Tab")
    page.focus("#graph")
    before = scale(page)
    page.keyboard.press("+")
    assert scale(page) > before
    page.focus("#graph .group:not(.opened)")
    name = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    assert page.evaluate(
        "[document.activeElement.getAttribute('aria-label'), document.activeElement.getAttribute('aria-expanded')]"
    ) == [name, "true"]
    outline = "getComputedStyle(document.activeElement.querySelector('.box')).strokeWidth"
    assert page.evaluate(outline) == "3px"


def test_names_are_text(visit):
    evil = "</script><img src=x onerror=alert(1)><b>" + "x" * 10_000
    rows = tuple(
        replace(row, path=f"{evil}{place}", name=f"{evil}{place % 2}", op=evil)
        for place, row in enumerate(REPORT.rows)
    )
    report = replace(
        REPORT, source=evil, rows=rows, notes=(evil,), refusals=(evil,), layers={f"{evil}0": evil}
    )
    page = visit(report, 390)
    page.click("#tab-order")
    page.locator("#panel-order .row").first.click()
    page.click("#tab-graph")
    page.click("#open-all")
    assert page.locator("img").count() == 0
    assert page.locator("#detail b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_in_print_what_is_short_is_open(visit):
    page = visit(TRAINED)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.is_visible("#weights-table")
    assert not page.is_visible("nav")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert not page.is_visible("#weights-table")


def test_a_notebook_shows_it_in_a_frame(browser, tmp_path):
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><title>n</title>{REPORT._repr_html_()}", encoding="utf-8")
    page = browser.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("#tab-order").click()
    assert frame.locator("#panel-order .row").count() == len(REPORT.rows)
    frame.locator("nav a[href='#weights']").click()
    assert frame.locator("#weights-table").is_visible()
    assert json.loads(frame.locator("#data").text_content())["rows"]
    page.close()
    assert said == []
