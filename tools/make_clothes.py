"""Write Fashion-MNIST as five folders of PNG files: topwear, bottomwear, footwear, handbag and dress.

    python tools/make_clothes.py DIR
    python launcher put DIR clothes
    python launcher run-all --set data.name=imagefolder --set data.folder=data/clothes \\
        --set model.name=mobilenet_v3_small

Without --source it takes the 7,000 images in the box. Nothing is random.
"""

from __future__ import annotations

import argparse
import gzip
from collections import Counter
from pathlib import Path

from PIL import Image

BOX = (
    Path(__file__).resolve().parents[1] / "jobs" / "jobrelay_train" / "data" / "assets" / "fashion-mnist-mini"
)
PIXELS = 28
#: By label: the class, and what the file is called.
KINDS = (
    ("topwear", "t-shirt"),
    ("bottomwear", "trouser"),
    ("topwear", "pullover"),
    ("dress", "dress"),
    ("topwear", "coat"),
    ("footwear", "sandal"),
    ("topwear", "shirt"),
    ("footwear", "sneaker"),
    ("handbag", "bag"),
    ("footwear", "ankle-boot"),
)


def read(path: Path, header_bytes: int) -> bytes:
    """The content of a gzip IDX file without its header."""
    with gzip.open(path) as file:
        return file.read()[header_bytes:]


def write(source: Path, target: Path, per_class: int | None) -> Counter[str]:
    """Write the first `per_class` images of every class (None: all); returns how many each has."""
    written: Counter[str] = Counter()
    for prefix in ("train", "t10k"):
        labels = read(source / f"{prefix}-labels-idx1-ubyte.gz", header_bytes=8)
        images = read(source / f"{prefix}-images-idx3-ubyte.gz", header_bytes=16)
        for index, label in enumerate(labels):
            folder, kind = KINDS[label]
            if written[folder] == per_class:
                continue
            written[folder] += 1
            pixels = images[index * PIXELS**2 : (index + 1) * PIXELS**2]
            path = target / folder / f"{kind}-{prefix}-{index:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.frombytes("L", (PIXELS, PIXELS), pixels).save(path)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", type=Path, help="folder to write the five folders to")
    parser.add_argument("--source", type=Path, default=BOX, help="folder with the four .gz files")
    parser.add_argument("--per-class", type=int, help="write so many of every class")
    asked = parser.parse_args()
    for name, count in sorted(write(asked.source, asked.target, asked.per_class).items()):
        print(f"{asked.target / name}: {count:,}")


if __name__ == "__main__":
    main()
