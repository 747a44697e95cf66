"""Shapes → a picture: inline SVG in a page, a standalone SVG file, or a PNG file if matplotlib is installed.

All three use the colours, lines and letters of templates/style.css: its variables, and its rules that start
with `svg`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from jobrelay_runner.text.redaction import redacted
from jobrelay_runner.volume.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Printed once if no PNG was written.
NO_PNG: Final = "PNG pictures need matplotlib: pip install 'jobrelay[plots]'"

_STYLE: Final = Path(__file__).parent / "templates/style.css"
#: The font that ships with matplotlib, scaled down: it is wider than the fonts of most browsers.
_PNG_FONT: Final = "DejaVu Sans"
_PNG_FONT_SCALE: Final = 0.88
_PNG_SCALE: Final = 3


@dataclass(frozen=True)
class Shape:
    """An SVG element.

    style: its class in style.css. text: the content of a <text>, the tooltip of any other element. slant:
    rotation of a <text> about its position, in degrees.
    """

    tag: Literal["line", "polyline", "polygon", "circle", "rect", "text"]
    style: str
    attributes: Mapping[str, float | str] = field(default_factory=dict)
    text: str = ""
    slant: int = 0


class Picture(Protocol):
    """Anything that can be drawn. summary: the picture in words, for screen readers."""

    @property
    def title(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def width(self) -> float: ...
    @property
    def height(self) -> float: ...
    @property
    def shapes(self) -> Sequence[Shape]: ...


def line(style: str, x1: float, y1: float, x2: float, y2: float) -> Shape:
    return Shape("line", style, {"x1": x1, "y1": y1, "x2": x2, "y2": y2})


def text(x: float, y: float, letters: str, anchor: str = "start", style: str = "", slant: int = 0) -> Shape:
    return Shape("text", style, {"x": x, "y": y, "text-anchor": anchor}, letters, slant)


def letters_width(letters: str) -> float:
    """Upper estimate of the width of letters 12 units high, in units, from the width of wide digits."""
    return 7.7 * len(letters)


def shortened(letters: str, width: float) -> str:
    """Letters that fit into a width. The middle is cut, because names differ at either end."""
    if letters_width(letters) <= width:
        return letters
    count = max(2, int(width / letters_width(" ")) - 1)
    return f"{letters[: (count + 1) // 2]}…{letters[len(letters) - count // 2 :]}"


def write(picture: Picture, folder: Path, name: str) -> list[Path]:
    """Write NAME.svg, and NAME.png if matplotlib is installed; return the files.

    Equal pictures give equal bytes. If no new PNG can be drawn, an old one is deleted. Raises OSError.
    """
    svg_path, png_path = folder / f"{name}.svg", folder / f"{name}.png"
    write_atomically(svg_path, svg(picture))
    if _write_png(picture, png_path):
        return [svg_path, png_path]
    png_path.unlink(missing_ok=True)
    return [svg_path]


def svg(picture: Picture) -> str:
    """The content of an SVG file; it is dark if its viewer prefers dark."""
    from markupsafe import Markup

    from jobrelay.report.page import render

    light, dark = (_rules(colours) for colours in _palettes())
    rules = [
        *light,
        "@media (prefers-color-scheme: dark) {",
        *(rule for rule in dark if rule not in light),
        "}",
    ]
    return render("picture.svg", picture=picture, rules=Markup("\n".join(rules)))  # noqa: S704 - our own file


def _write_png(picture: Picture, path: Path) -> bool:
    """Write a PNG file; return False if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # takes half a second and imports numpy
    except ImportError:
        return False
    css = _properties()
    figure = Figure(figsize=(picture.width / 72, picture.height / 72))  # one unit is one point
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, picture.width), ylim=(picture.height, 0))
    axes.set_axis_off()
    for shape in picture.shapes:
        looks: dict[str, str] = {}
        for selector in (shape.tag, f".{shape.style}", f"{shape.tag}.{shape.style}"):
            looks |= css.get(selector, {})
        _paint(axes, shape, looks)
    figure.savefig(
        path,
        dpi=72 * _PNG_SCALE,
        facecolor=css[".card"]["fill"],
        metadata={"Software": None},  # without matplotlib's version: equal pictures give equal bytes
    )
    return True


def _paint(axes: Axes, shape: Shape, looks: Mapping[str, str]) -> None:
    from matplotlib.patches import Circle, Polygon, Rectangle

    at: Any = shape.attributes
    filled: Any = {
        "facecolor": looks.get("fill"), "alpha": float(looks.get("fill-opacity", 1)), "linewidth": 0
    }  # fmt: skip
    stroked: Any = {"color": looks.get("stroke"), "linewidth": float(looks.get("stroke-width", 1))}
    if dashes := looks.get("stroke-dasharray"):
        length = stroked["linewidth"]  # matplotlib measures dashes in line widths
        stroked["dashes"] = [float(part) / length for part in dashes.split()]
    match shape.tag:
        case "line":
            axes.plot([at["x1"], at["x2"]], [at["y1"], at["y2"]], solid_capstyle="butt", **stroked)
        case "polyline":
            axes.plot(*zip(*_places(at["points"]), strict=True), solid_joinstyle="round", **stroked)
        case "polygon":
            axes.add_patch(Polygon(_places(at["points"]), **filled))
        case "circle":
            axes.add_patch(Circle((at["cx"], at["cy"]), at["r"], zorder=3, **filled))
        case "rect":
            axes.add_patch(Rectangle((at["x"], at["y"]), at["width"], at["height"], **filled))
        case "text":
            axes.text(
                at["x"], at["y"], redacted(shape.text), parse_math=False, usetex=False,
                ha={"start": "left", "middle": "center", "end": "right"}[at["text-anchor"]], va="baseline",
                rotation=-shape.slant, rotation_mode="anchor", color=looks["fill"], family=_PNG_FONT,
                size=float(looks["font-size"].removesuffix("px")) * _PNG_FONT_SCALE,
                weight="bold" if "font-weight" in looks else "normal",
            )  # fmt: skip


def _places(points: str) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in points.split())
    return [(float(x), float(y)) for x, y in pairs]


@cache
def _style() -> str:
    return _STYLE.read_text(encoding="utf-8")


def _palettes() -> tuple[dict[str, str], dict[str, str]]:
    """The variables of style.css, light and dark."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): ([^;]+);", block))
        for block in re.findall(r":root \{(.*?)\}", _style(), re.DOTALL)
    )
    return light, light | dark


def _rules(colours: Mapping[str, str]) -> list[str]:
    """The rules of style.css for drawings, with variables resolved: not every viewer supports them."""
    rules = re.findall(r"^svg .*$", _style(), re.MULTILINE)
    return [re.sub(r"var\(--([\w-]+)\)", lambda match: colours[match[1]], rule) for rule in rules]


def _properties() -> dict[str, dict[str, str]]:
    """Selector of a light drawing (`text`, `.line`, `line.mark`) → its properties."""
    found: dict[str, dict[str, str]] = {}
    for rule in _rules(_palettes()[0]):
        selector, _, body = rule.removeprefix("svg ").partition(" {")
        found[selector] = dict(re.findall(r"([\w-]+): ([^;]+);", body))
    return found
