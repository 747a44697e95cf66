"""Synthetic photographs of digits and garments, the same on every run.

    python -m tests.support.photographs KIND SOURCE DIR

    digits    from MNIST's test images (IDX files in SOURCE), and drawn ones
    clothes   from Fashion-MNIST's test images
    small     from scikit-learn's digits, tests/data/digits-8x8.txt; native: the same in the format of MNIST

    python -m tests.support.photographs right RUN/predictions.json    counts correct ones by their file names

Each photograph has paper (or another ground), uneven light, often a shadow with an edge, noise, a rotation of
up to 15 degrees, and its own size and position; some paper is ruled. File names start with the class number.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Pixels = NDArray[numpy.uint8]
Ink = NDArray[numpy.float64]

#: How a hand draws each digit: lines through points of a square of 1, from the top left.
STROKES: dict[int, list[list[tuple[float, float]]]] = {
    0: [[(.5, 0), (.25, .12), (.15, .5), (.27, .9), (.5, 1), (.75, .88), (.85, .5), (.73, .1), (.5, 0)]],
    1: [[(.38, .16), (.55, 0), (.52, .5), (.5, 1)]],
    2: [[(.15, .25), (.3, .03), (.62, 0), (.82, .2), (.75, .42), (.45, .7), (.12, .98), (.5, .93),
         (.9, .98)]],
    3: [[(.18, .1), (.5, 0), (.8, .14), (.76, .36), (.42, .47), (.8, .6), (.84, .85), (.5, 1), (.14, .9)]],
    4: [[(.62, 0), (.4, .3), (.12, .64), (.5, .63), (.9, .62)], [(.66, .35), (.64, .7), (.62, 1)]],
    5: [[(.82, .02), (.3, .03), (.24, .42), (.55, .38), (.82, .58), (.75, .88), (.45, 1), (.14, .9)]],
    6: [[(.68, 0), (.35, .25), (.18, .62), (.28, .94), (.56, 1), (.8, .84), (.76, .6), (.48, .52), (.2, .7)]],
    7: [[(.12, .05), (.5, .03), (.88, .02), (.62, .45), (.42, 1)]],
    8: [[(.55, .47), (.24, .3), (.26, .08), (.52, 0), (.77, .1), (.74, .3), (.5, .48), (.22, .66), (.2, .9),
         (.5, 1), (.8, .9), (.78, .66), (.55, .47)]],
    9: [[(.8, .3), (.68, .48), (.38, .5), (.2, .3), (.32, .06), (.6, 0), (.8, .16), (.78, .5), (.64, 1)]],
}  # fmt: skip


def drawn(digit: int, rng: numpy.random.Generator, size: int = 400) -> Ink:
    """A digit as a pen has drawn it: the share of ink in each pixel (size, size)."""
    wide, lean = rng.uniform(0.6, 0.95), rng.uniform(-0.2, 0.15)
    pen = round(size * rng.uniform(0.035, 0.11))
    image = Image.new("L", (size, size), 0)
    pencil = ImageDraw.Draw(image)
    for stroke in STROKES[digit]:
        points = []
        for x, y in stroke:
            x, y = x + rng.normal(0, 0.018), y + rng.normal(0, 0.018)
            across = 0.5 + (x - 0.5) * wide + (0.5 - y) * lean
            points.append((size * (0.15 + 0.7 * across), size * (0.12 + 0.76 * y)))
        curve = _smooth(points)
        pencil.line(curve, fill=255, width=pen, joint="curve")
        for x, y in (curve[0], curve[-1]):
            pencil.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=255)
    return numpy.asarray(image.filter(ImageFilter.GaussianBlur(size / 300)), dtype=numpy.float64) / 255


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Chaikin's curve through the corners, three times."""
    for _ in range(3):
        corners = [points[0]]
        for (x, y), (u, v) in itertools.pairwise(points):
            corners += [
                (0.75 * x + 0.25 * u, 0.75 * y + 0.25 * v),
                (0.25 * x + 0.75 * u, 0.25 * y + 0.75 * v),
            ]
        points = [*corners, points[-1]]
    return points


def written(native: Pixels, size: int = 400) -> Ink:
    """An image of MNIST as what a pen had left on paper: enlarged, its edges sharp again."""
    large = numpy.asarray(Image.fromarray(native).resize((size, size), Image.Resampling.BICUBIC)) / 255.0
    return ((large - 0.3) / 0.3).clip(0, 1)


def enlarged(small: Pixels, size: int = 400) -> Ink:
    """A digit of 8 x 8, 0 to 16, as a pen had left it on paper: with a margin, enlarged, its edges sharp."""
    values = Image.fromarray(numpy.pad(small, 1).astype(numpy.float32))
    large = numpy.asarray(values.resize((size, size), Image.Resampling.BICUBIC), dtype=numpy.float64) / 16
    return ((large - 0.3) / 0.3).clip(0, 1)


def as_mnist(ink: Ink) -> Ink:
    """The ink as MNIST would have it: in 20 x 20, its centre of mass in the middle of 28 x 28; 0 to 1."""
    rows, columns = (numpy.flatnonzero((ink > 0.5).any(axis=axis)) for axis in (1, 0))
    box = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(numpy.float32))
    scale = 20 / max(box.size)
    small = numpy.asarray(
        box.resize(
            (max(1, round(box.width * scale)), max(1, round(box.height * scale))), Image.Resampling.BOX
        )
    )
    y, x = (float((places * small).sum() / small.sum()) for places in numpy.indices(small.shape))
    whole = numpy.zeros((48, 48))
    top, left = round(24 - y), round(24 - x)
    whole[top : top + small.shape[0], left : left + small.shape[1]] = small
    return whole[10:38, 10:38]


def light(rng: numpy.random.Generator, width: int, height: int) -> Ink:
    """How much light each place has, up to 1: it falls off to one side, and there may be a shadow's edge."""
    y, x = numpy.mgrid[:height, :width] / max(width, height)
    turn = rng.uniform(0, 2 * numpy.pi)
    along = x * numpy.cos(turn) + y * numpy.sin(turn)
    along = (along - along.min()) / (along.max() - along.min())
    field = 1 - rng.uniform(0.05, 0.45) * along
    if rng.random() < 0.5:
        turn, place = rng.uniform(0, 2 * numpy.pi), rng.uniform(0.15, 0.85)
        across = x * numpy.cos(turn) + y * numpy.sin(turn)
        across = (across - across.min()) / (across.max() - across.min())
        edge = 1 / (1 + numpy.exp(-(across - place) / rng.uniform(0.004, 0.06)))
        field = field * (1 - rng.uniform(0.2, 0.5) * edge)
    return field


def placed(
    mask: Ink,
    rng: numpy.random.Generator,
    width: int,
    height: int,
    least: float,
    most: float,
    fill: float = 0,
) -> tuple[tuple[int, int], Ink, float, int]:
    """Where a square goes in a picture: its corner, itself turned and scaled, the angle, and the size."""
    side = round(min(width, height) * rng.uniform(least, most))
    angle = rng.uniform(-15, 15)
    turned = turn(mask, angle, side, fill)
    corner = (int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1)))
    return corner, turned, angle, side


def turn(values: Ink, angle: float, side: int, fill: float = 0) -> Ink:
    image = Image.fromarray(values.astype(numpy.float32))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    return numpy.asarray(image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=fill), dtype=numpy.float64)


def on_paper(ink: Ink, rng: numpy.random.Generator) -> Image.Image:
    """A photograph of paper with this ink on it."""
    return photographed(ink, rng)[0]


def photographed(ink: Ink, rng: numpy.random.Generator) -> tuple[Image.Image, Ink]:
    """A photograph of paper with this ink on it, and the ink as it lies there."""
    width, height = (int(rng.integers(260, 900)) for _ in range(2))
    paper = (
        numpy.ones((height, width, 3))
        * rng.uniform(0.8, 0.97)
        * (1, rng.uniform(0.95, 1), rng.uniform(0.85, 1))
    )
    if rng.random() < 0.25:
        gap = max(18, height // int(rng.integers(6, 14)))
        for row in range(int(rng.integers(gap)), height, gap):
            paper[row : row + max(1, height // 300)] *= (0.75, 0.82, 0.92)
    (top, left), mask, _, side = placed(ink, rng, width, height, 0.25, 0.95)
    colour = numpy.array(
        [(0.1, 0.1, 0.12), (0.12, 0.16, 0.5), (0.5, 0.1, 0.1)][int(rng.choice(3, p=(0.6, 0.3, 0.1)))]
    )
    amount = (mask.clip(0, 1) * rng.uniform(0.8, 1))[..., None]
    region = paper[top : top + side, left : left + side]
    region[:] = region * (1 - amount) + colour * amount
    return _taken(paper, rng), mask


def on_ground(native: Pixels, rng: numpy.random.Generator, holes: bool = False) -> Image.Image:
    """A photograph of the garment of a Fashion-MNIST image, on a table, a wall or a sheet."""
    width, height = (int(rng.integers(220, 700)) for _ in range(2))
    colour = [(0.96, 0.96, 0.95), (0.85, 0.8, 0.7), (0.72, 0.55, 0.4), (0.55, 0.62, 0.7)][
        int(rng.integers(4))
    ]
    ground = numpy.ones((height, width, 3)) * colour
    side = 300
    large = Image.fromarray(native).resize((side, side), Image.Resampling.BICUBIC)
    values = numpy.asarray(large, dtype=numpy.float64) / 255
    mask = _silhouette(native, side, holes)
    (top, left), turned, angle, size = placed(mask, rng, width, height, 0.45, 0.95)
    cloth = turn(1 - values, angle, size, 1)[..., None]
    cover = turned.clip(0, 1)[..., None]
    region = ground[top : top + size, left : left + size]
    region[:] = region * (1 - cover) + cloth.clip(0.02, 1) * cover
    return _taken(ground, rng)


def _silhouette(native: Pixels, side: int, holes: bool) -> Ink:
    """Where the garment is: what is not black, and what that encloses unless one sees through it."""
    shape = Image.fromarray(((native > 8) * 255).astype(numpy.uint8))
    around = Image.new("L", (30, 30), 0)
    around.paste(shape, (1, 1))
    ImageDraw.floodfill(around, (0, 0), 128)
    inside = numpy.asarray(shape) > 0 if holes else numpy.asarray(around.crop((1, 1, 29, 29))) != 128
    image = Image.fromarray((inside * 255).astype(numpy.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return ((numpy.asarray(image) / 255.0 - 0.55) / 0.3).clip(0, 1)


def _taken(scene: Ink, rng: numpy.random.Generator) -> Image.Image:
    height, width = scene.shape[:2]
    lit = scene * light(rng, width, height)[..., None] * rng.uniform(0.85, 1.05)
    image = Image.fromarray((lit * 255).clip(0, 255).astype(numpy.uint8))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    noisy = numpy.asarray(image) + rng.normal(0, rng.uniform(1, 5), (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8))


def empty(rng: numpy.random.Generator) -> Image.Image:
    """A photograph of paper with nothing on it."""
    return on_paper(numpy.zeros((400, 400)), rng)


def digits(images: Pixels, labels: Pixels, count: int, seed: int = 0) -> Iterator[tuple[str, Image.Image]]:
    """Names and photographs: as many of MNIST's images as are drawn with a pen."""
    rng = numpy.random.default_rng(seed)
    for number in range(count):
        digit = number % 10
        which = numpy.flatnonzero(labels == digit)[number // 10]
        yield f"{digit}_{number:04}_written", on_paper(written(images[which]), rng)
        yield f"{digit}_{number:04}_drawn", on_paper(drawn(digit, rng), rng)


def small(images: Pixels, labels: Pixels, count: int, seed: int = 0) -> Iterator[tuple[str, Image.Image]]:
    """Names and photographs of scikit-learn's digits."""
    rng = numpy.random.default_rng(seed)
    for number in range(count):
        digit = number % 10
        which = numpy.flatnonzero(labels == digit)[number // 10]
        yield f"{digit}_{number:04}_small", on_paper(enlarged(images[which]), rng)


def native(images: Pixels, labels: Pixels, count: int, seed: int = 0) -> Iterator[tuple[str, Image.Image]]:
    """The same digits under the same names, as MNIST would have them."""
    for number in range(count):
        digit = number % 10
        which = numpy.flatnonzero(labels == digit)[number // 10]
        pixels = (as_mnist(enlarged(images[which])) * 255).round().clip(0, 255).astype(numpy.uint8)
        yield f"{digit}_{number:04}_small", Image.fromarray(pixels)


def clothes(images: Pixels, labels: Pixels, count: int, seed: int = 0) -> Iterator[tuple[str, Image.Image]]:
    rng = numpy.random.default_rng(seed)
    for number in range(count):
        kind = number % 10
        which = numpy.flatnonzero(labels == kind)[number // 10]
        yield (
            f"{kind}_{number:04}_garment",
            on_ground(images[which], rng, holes=kind in (5, 8)),
        )  # straps of sandals, handles of bags


def read_test_images(folder: Path) -> tuple[Pixels, Pixels]:
    """Images uint8 (N, 28, 28) and their labels (N,), plain or gzip."""

    def content(name: str, header: int) -> Pixels:
        path = folder / name
        data = path.read_bytes() if path.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())
        return numpy.frombuffer(data[header:], numpy.uint8)

    return content("t10k-images-idx3-ubyte", 16).reshape(-1, 28, 28), content("t10k-labels-idx1-ubyte", 8)


def read_small(path: Path) -> tuple[Pixels, Pixels]:
    """scikit-learn's digits, uint8 (N, 8, 8) of 0 to 16, and their labels (N,): see tests/data/README.md."""
    lines = [line.split() for line in path.read_text().splitlines()]
    images = [[int(value, 17) for value in values] for _, values in lines]
    labels = [int(label) for label, _ in lines]
    return numpy.array(images, numpy.uint8).reshape(-1, 8, 8), numpy.array(labels, numpy.uint8)


def right(predictions: list[dict[str, Any]]) -> Counter[str]:
    """How many were recognised, of each kind of picture: `written`, `written of`, …"""
    counts: Counter[str] = Counter()
    for each in predictions:
        label, _, kind = Path(each["image"]).stem.split("_")
        counts[f"{kind} of"] += 1
        counts[kind] += each["predicted"] == int(label)
    return counts


MAKERS = {"digits": digits, "clothes": clothes, "small": small, "native": native}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=(*MAKERS, "right"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the scenes; 0 is what the code was tuned on")
    parser.add_argument("--last", action="store_true", help="the last images of the set, not the first")
    asked = parser.parse_args()
    if asked.what == "right":
        print(dict(right(json.loads(asked.source.read_text()))))
        return
    asked.target.mkdir(parents=True)
    images, labels = (read_small if asked.source.is_file() else read_test_images)(asked.source)
    if asked.last:
        images, labels = images[::-1].copy(), labels[::-1].copy()
    for name, image in MAKERS[asked.what](images, labels, asked.count, asked.seed):
        image.save(asked.target / f"{name}.png")


if __name__ == "__main__":
    main()
