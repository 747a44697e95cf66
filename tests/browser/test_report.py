"""The pages in a real browser, as people with a screen, a phone, a keyboard or a screen reader have them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jobrelay.report.command import write_sweep
from jobrelay.report.page import render
from jobrelay.report.run import gather
from tests.browser.conftest import Open
from tests.support import eventually
from tests.support.pages import write_run
from tests.support.pages import write_sweep as write_sweep_files
from tests.unit.report.test_programs import hostile_run
from tests.unit.report.test_report import HOSTILE


def run_page(folder: Path, **of_run: Any) -> Path:
    write_run(folder, **of_run)
    (folder / "report.html").write_text(render("run.html", run=gather(folder, "a")))
    return folder / "report.html"


@pytest.fixture(
    params=["run", "failed run", "sweep", "hostile run", "hostile sweep", "programs", "hostile programs"]
)
def page_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    beside = HOSTILE if "hostile" in request.param else ""
    if "sweep" in request.param:
        return write_sweep(write_sweep_files(tmp_path / "s", failed=True, beside=beside))
    if "programs" in request.param:
        folder = hostile_run(tmp_path / "a", beside or "x")
        (folder / "report.html").write_text(render("run.html", run=gather(folder, "a")))
        return folder / "report.html"
    return run_page(tmp_path / "a", failed="infer" if "failed" in request.param else None, beside=beside)


@pytest.mark.parametrize("width", [360, 1200])
def test_no_page_is_wider_than_the_screen(page_file: Path, open_page: Open, width: int) -> None:
    page = open_page(page_file, width=width)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_wide_tables_are_scrolled_by_keyboard(tmp_path: Path, open_page: Open) -> None:
    page = open_page(write_sweep(write_sweep_files(tmp_path / "s")), width=360)
    box = page.locator(".scroll", has=page.locator("table.sortable"))
    assert box.evaluate("(box) => box.scrollWidth > box.clientWidth")
    box.focus()
    page.keyboard.press("ArrowRight")
    with eventually() as until:
        until(lambda: box.evaluate("(box) => box.scrollLeft") > 0)


# Of an element that holds text: what it looks like on what is painted below it, and which it is.
FAINT = """() => {
  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !element.checkVisibility() || element.closest("desc, title")) continue;
    const chain = [];
    for (let at = element; at; at = at.parentElement) {
      chain.unshift(parse(getComputedStyle(at).backgroundColor));
    }
    const below = chain.reduce((below, top) => over(top, below), [255, 255, 255]);
    const style = getComputedStyle(element);
    const ink = over(parse(element instanceof SVGElement ? style.fill : style.color), below);
    const [dark, light] = [luminance(ink), luminance(below)].sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) faint.push(`${element.tagName} ${element.className} ${ratio.toFixed(2)}`);
  }
  return faint;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(page_file: Path, open_page: Open, scheme: str) -> None:
    page = open_page(page_file, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate(FAINT) == []


def test_dark_is_dark(page_file: Path, open_page: Open) -> None:
    brightness = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number))"
    assert open_page(page_file, scheme="light").evaluate(brightness) > 220
    assert open_page(page_file, scheme="dark").evaluate(brightness) < 40


def test_a_screen_reader_finds_its_way(page_file: Path, open_page: Open) -> None:
    page = open_page(page_file)
    assert page.evaluate("document.documentElement.lang") == "en"
    for landmark in ("banner", "main", "navigation", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))")
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    targets = page.evaluate("[...document.querySelectorAll('a')].map((a) => a.getAttribute('href'))")
    assert {target.removeprefix("#") for target in targets} <= set(ids)
    assert page.locator("table:not(:has(> caption))").count() == 0
    assert page.locator("thead th:not([scope=col]), tbody th:not([scope=row])").count() == 0
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert all(page.locator("svg[role=img] > desc").all_text_contents())


def test_the_first_tab_skips_to_the_content(page_file: Path, open_page: Open) -> None:
    page = open_page(page_file)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def column(page: Any, number: int) -> list[str]:
    cells = page.locator(f"table.sortable tbody tr > :nth-child({number})").all_text_contents()
    return [cell.split()[0] if cell.strip() else "" for cell in cells]


def test_a_sweep_is_sorted_by_keyboard(tmp_path: Path, open_page: Open) -> None:
    page = open_page(write_sweep(write_sweep_files(tmp_path / "s", failed=True)))
    assert page.locator("th[aria-sort]").count() == 0
    epochs = page.get_by_role("button", name="train.epochs")
    header = page.get_by_role("columnheader", name="train.epochs")
    epochs.focus()
    page.keyboard.press("Enter")
    assert column(page, 2) == ["1", "2", "10"]
    assert header.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert column(page, 2) == ["10", "2", "1"]
    assert header.get_attribute("aria-sort") == "descending"
    assert page.evaluate("document.activeElement.textContent") == "train.epochs"

    page.get_by_role("button", name="train.learning_rate").click()
    assert column(page, 3) == ["1e-05", "0.005", "0.01"]

    page.get_by_role("button", name="test acc").click()
    assert page.locator("th[aria-sort]").count() == 1
    assert column(page, 1) == ["s-0", "s-1", "s-2"]  # one without a figure is the last
    page.get_by_role("button", name="test acc").click()
    assert column(page, 1) == ["s-1", "s-0", "s-2"]


def test_without_script_it_is_a_table(tmp_path: Path, open_page: Open) -> None:
    page = open_page(write_sweep(write_sweep_files(tmp_path / "s")), script=False)
    assert page.get_by_role("button").count() == 0
    assert page.get_by_role("columnheader", name="train.epochs").is_visible()
    assert column(page, 2) == ["2", "10", "1"]


def test_pictures_are_shown(tmp_path: Path, open_page: Open) -> None:
    for file in (run_page(tmp_path / "a"), write_sweep(write_sweep_files(tmp_path / "s"))):
        page = open_page(file)
        widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
        assert widths
        assert all(widths)


def test_a_foreign_script_would_not_run(tmp_path: Path, chromium: Any) -> None:
    """Were a text ever not escaped, the page's own policy still stands before it."""
    file = run_page(tmp_path / "a")
    foreign = "<script>document.title = 'run'</script><b id='b' style='color: rgb(1, 2, 3)'>b</b>"
    file.write_text(file.read_text().replace("<h1>", f"<h1>{foreign}"))
    page = chromium.new_page()
    page.goto(file.as_uri())
    assert page.title() == "Run a · JobRelay"
    assert page.locator("#b").evaluate("(b) => getComputedStyle(b).color") != "rgb(1, 2, 3)"
    page.close()
