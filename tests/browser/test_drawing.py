"""Pictures that stand alone, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobrelay.report.command import write_sweep
from jobrelay.report.curves import trend
from jobrelay.report.drawing import svg
from tests.browser.conftest import Open
from tests.support.pages import write_sweep as write_sweep_files

NAMES = ["cnn", "resnet18", "efficientnet_b0", "mobilenet_v3_small"]

OVERLAPS = """() => {
  const texts = [...document.querySelectorAll("text:not([transform])")];
  const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
  const whole = document.documentElement.getBoundingClientRect();
  const isOutside = (box) => box.left < 0 || box.right > whole.right || box.bottom > whole.bottom;
  const found = boxes.filter(([, box]) => isOutside(box));
  boxes.forEach(([name, a], at) => boxes.slice(at + 1).forEach(([other, b]) => {
    const apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
    if (!apart) found.push([name, other]);
  }));
  return found;
}"""


def picture(values: list[object], folder: Path) -> Path:
    samples = [(0.9 + 0.01 * at, 0.92 + 0.01 * at) for at in range(len(values))]
    drawn = trend("Test accuracy", values, samples, x_label="train.x", band="all seeds")
    path = folder / "picture.svg"
    path.write_text(svg(drawn))
    return path


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("values", [NAMES, [16, 32, 64, 128, 256], [1e-5, 1e-4, 3e-4, 1e-3, 0.1]])
def test_it_fits_and_no_text_runs_into_another(
    values: list[object], width: int, tmp_path: Path, open_page: Open
) -> None:
    page = open_page(picture(values, tmp_path), width=width)
    assert page.evaluate("document.documentElement.getBoundingClientRect().width") == min(width, 540)
    assert page.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_has_the_colours_of_the_report(scheme: str, tmp_path: Path, open_page: Open) -> None:
    folder = write_sweep_files(tmp_path / "s")
    report = open_page(write_sweep(folder), scheme=scheme)
    card = report.evaluate("getComputedStyle(document.querySelector('main > section')).backgroundColor")
    page = open_page(picture(["a", "b"], tmp_path), scheme=scheme)
    assert page.evaluate("getComputedStyle(document.querySelector('.card')).fill") == card
