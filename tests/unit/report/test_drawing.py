"""Pictures in files of their own: as SVG always, as PNG where matplotlib is installed."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobrelay.report.curves import curve, trend
from jobrelay.report.drawing import shortened, svg, write
from jobrelay.sweep.observations import Point
from jobrelay.sweep.pipeline import Objective
from jobrelay.sweep.plots import draw
from tests.support.drawings import Drawing

ACCURACY = Objective("test_acc", True, "accuracy", "Test accuracy", "seconds", "Training time (s)", ".4f")
POWERS = [16, 32, 64, 128]
THREE = [(0.90, 0.91, 0.93), (0.91, 0.92, 0.93), (0.92, 0.93, 0.95), (0.94, 0.95, 0.96)]


def points(values: list[Any], samples: list[tuple[float, ...]]) -> list[Point]:
    return [
        Point(value, each, tuple(100 * a for a in each)) for value, each in zip(values, samples, strict=True)
    ]


def drawing(values: list[Any], samples: list[tuple[float, ...]], **options: Any) -> Drawing:
    picture = trend("Test accuracy", values, samples, x_label="train.x", band="all seeds", **options)
    return Drawing(svg(picture))


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", *(name for name in sys.modules if name.startswith("matplotlib."))):
        monkeypatch.setitem(sys.modules, name, None)


# --- a key of a sweep ---


def test_medians_are_a_line_and_all_trials_a_band() -> None:
    found = drawing(POWERS, THREE)
    line, band = found.places("polyline", "line"), found.places("polygon", "band")
    assert len(line) == len(POWERS)
    assert len(band) == 2 * len(POWERS)
    for (x, y), upper, lower in zip(line, band, reversed(band), strict=False):
        assert x == upper[0] == lower[0]
        assert upper[1] <= y <= lower[1]
    _of_legend, *dots = found.all("circle", "dot")
    assert dots[0][0].text == "train.x 16: 0.91 (0.9 to 0.93)"
    assert {"Test accuracy", "median", "all seeds", "train.x", "16", "32", "64", "128"} <= set(found.texts())
    found.check()


def test_one_trial_a_value_has_no_band_and_no_legend() -> None:
    found = drawing([1, 3, 5], [(0.8,), (0.9,), (0.95,)])
    assert not found.all("polygon")
    assert "all seeds" not in found.texts()
    assert len(found.all("circle", "dot")) == 3


def steps(found: Drawing) -> list[float]:
    xs = [x for x, _ in found.places("polyline", "line")]
    return [b - a for a, b in pairwise(xs)]


def test_the_axis_suits_the_values() -> None:
    assert steps(drawing(POWERS, THREE)) == pytest.approx([steps(drawing(POWERS, THREE))[0]] * 3, abs=0.3)
    one, two, four = steps(drawing([1, 2, 4, 7], THREE))
    assert two == pytest.approx(2 * one, abs=0.3)
    assert four == pytest.approx(3 * one, abs=0.3)
    for names in (["b", "a", "d", "c"], [0, 1, 100, 1000], [True, False, None, "x"]):
        found = drawing(names, THREE)
        assert steps(found) == pytest.approx([steps(found)[0]] * 3, abs=0.3)
        assert {str(name) for name in names} <= set(found.texts())


def test_small_numbers_are_written_as_people_type_them() -> None:
    found = drawing([1e-5, 0.005, 0.1], THREE[:3])
    assert {"1e-5", "0.005", "0.1"} <= set(found.texts())


def test_time_starts_at_zero() -> None:
    found = drawing(POWERS, THREE, from_zero=True)
    assert "0.0" in found.texts()
    heights = [found.places("polyline", "line")[at][1] for at in (0, 3)]
    bottom = max(float(line.attrib["y1"]) for line in found.all("line", "grid"))
    assert (bottom - heights[0]) / (bottom - heights[1]) == pytest.approx(0.91 / 0.95, abs=0.01)


def test_long_names_are_slanted_and_shortened() -> None:
    names = ["cnn", "efficientnet_b0", "mobilenet_v3_small_minimalistic", "vit_b_16"]
    found = drawing(names, THREE)
    slanted = [text.text for text in found.all("text") if "transform" in text.attrib]
    assert slanted == ["cnn", "efficientnet_b0", "mobilene…alistic", "vit_b_16"]
    assert "mobilenet_v3_small_minimalistic: 0.93" in str(found.one("desc").text)
    found.check()


@example(["", "\x1f\x1f\x1f"], [0.0] * 40, False)
@given(
    st.one_of(
        st.lists(st.integers(1, 10**7), min_size=1, max_size=40, unique=True).map(sorted),
        st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=40, unique=True).map(sorted),
        st.lists(st.text(max_size=40), min_size=1, max_size=40, unique=True),
        st.lists(st.integers(-(10**7), 10**7), min_size=2, max_size=40, unique=True).map(sorted),
    ),
    st.lists(st.floats(0, 1e6), min_size=40, max_size=40),
    st.booleans(),
)
def test_labels_never_run_into_each_other(values: list[Any], heights: list[float], from_zero: bool) -> None:
    samples = [(heights[at], heights[-at]) for at in range(len(values))]
    picture = trend("Time", values, samples, x_label="train.x", band="all seeds", from_zero=from_zero)
    found = Drawing(svg(picture))
    found.check()
    for x, y in found.places("polyline", "line") + found.places("polygon", "band"):
        assert picture.left <= x <= picture.right
        assert picture.top <= y <= picture.bottom


# --- files ---


def test_equal_rows_give_equal_files(tmp_path: Path) -> None:
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        draw("train.x", points(POWERS, THREE), folder, "all seeds", ACCURACY)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
    assert {"train.x-accuracy.svg", "train.x-time.svg"} <= set(contents[0])


def test_png_where_there_is_matplotlib(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = draw("x$_1$", points(POWERS, THREE), tmp_path, "all seeds", ACCURACY)
    assert [path.name for path in paths] == [
        "x$_1$-accuracy.svg", "x$_1$-accuracy.png", "x$_1$-time.svg", "x$_1$-time.png",
    ]  # fmt: skip
    from PIL import Image

    with Image.open(tmp_path / "x$_1$-accuracy.png") as image:
        colours = image.convert("RGB").getcolors(1 << 24)
        assert image.width == 3 * 360
    assert {(0xFF, 0xFF, 0xFF), (0x25, 0x63, 0xC9)} <= {colour for _, colour in colours}


@pytest.mark.usefixtures("without_matplotlib")
def test_svg_alone_where_there_is_none(tmp_path: Path) -> None:
    stale = tmp_path / "x-time.png"
    stale.touch()
    paths = draw("x", points(POWERS, THREE), tmp_path, "all seeds", ACCURACY)
    assert [path.name for path in paths] == ["x-accuracy.svg", "x-time.svg"]
    assert not stale.exists()


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    nan = float("nan")
    draw("x", points([1, 2, 3], [(0.9, nan), (nan,), (0.8,)]), tmp_path, "all seeds", ACCURACY)
    assert len(Drawing((tmp_path / "x-accuracy.svg").read_text()).places("polyline", "line")) == 2
    assert draw("y", points([1, 2], [(nan,), (nan,)]), tmp_path, "all seeds", ACCURACY) == []


def test_colours_need_no_variables_and_are_of_both_schemes() -> None:
    source = svg(curve("Loss", [1, 2], [0.5, 0.4], x_label="epoch", mark=(0.45, "test")))
    assert "var(" not in source
    light, dark = re.findall(r"svg \.line \{ fill: none; stroke: (#\w+);", source)
    assert light != dark
    assert "prefers-color-scheme: dark" in source


def test_text_is_text() -> None:
    hostile = "</text><script>alert(1)</script>\x00\u202e&amp;"
    found = drawing([hostile, "b"], THREE[:2])
    assert {each.tag.rpartition("}")[2] for each in found.root.iter()} == {
        "svg", "title", "desc", "style", "rect", "text", "line", "circle", "polyline", "polygon",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("letters", "width", "expected"), [("abcdef", 60, "abcdef"), ("abcdefghijkl", 60, "abc…jkl"), ("", 0, "")]
)
def test_what_is_left_out_is_in_the_middle(letters: str, width: float, expected: str) -> None:
    assert shortened(letters, width) == expected


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        write(trend("x", [1, 2], [(1,), (2,)], x_label="x", band=""), tmp_path / "missing", "x")
