"""An SVG file, read as XML."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from jobrelay.report.drawing import letters_width

_SVG = "{http://www.w3.org/2000/svg}"


class Drawing:
    def __init__(self, source: str) -> None:
        self.root = ElementTree.fromstring(source)
        _, _, self.width, self.height = map(float, self.root.attrib["viewBox"].split())

    def all(self, tag: str, style: str | None = None) -> list[Element]:
        found = self.root.findall(_SVG + tag)
        return [each for each in found if style is None or each.get("class") == style]

    def one(self, tag: str, style: str | None = None) -> Element:
        [found] = self.all(tag, style)
        return found

    def texts(self) -> list[str]:
        return [each.text or "" for each in self.all("text")]

    def places(self, tag: str, style: str) -> list[tuple[float, float]]:
        """The points of a line or a band."""
        pairs = (pair.split(",") for pair in self.one(tag, style).attrib["points"].split())
        return [(float(x), float(y)) for x, y in pairs]

    def check(self) -> None:
        """Check that everything is inside the picture and that no two unslanted texts overlap."""
        boxes = [_box(text) for text in self.all("text") if "transform" not in text.attrib]
        for left, top, right, bottom, letters in boxes:
            assert left >= 0, letters
            assert top >= 0, letters
            assert right <= self.width, letters
            assert bottom <= self.height, letters
        for one, other in combinations(boxes, 2):
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)
        for each in [*self.all("rect"), *self.all("circle")]:
            x, y = (float(each.get(name) or each.get(f"c{name}") or 0) for name in ("x", "y"))
            assert 0 <= x <= x + float(each.get("width") or 0) <= self.width
            assert 0 <= y <= y + float(each.get("height") or 0) <= self.height


def _box(text: Element) -> tuple[float, float, float, float, str]:
    letters = text.text or ""
    width = 0.9 * letters_width(letters)  # not all of them are digits
    x, y = float(text.attrib["x"]), float(text.attrib["y"])
    left = x - width * {"start": 0, "middle": 0.5, "end": 1}[text.attrib["text-anchor"]]
    return left, y - 9, left + width, y + 2, letters
