"""Make jobs/jobrelay_train/data/assets/fashion-mnist-mini: a small, balanced part of Fashion-MNIST.

    apt-get install dataset-fashion-mnist
    cd jobs/jobrelay_train/data/assets
    python ../../../../tools/make_fashion_mnist_mini.py /usr/share/datasets/fashion-mnist fashion-mnist-mini

Of every class the first 600 training images and the first 100 test images are taken, in the order
of the original files. Nothing is random: with the same zlib the same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import struct
from collections import Counter
from pathlib import Path

PER_CLASS = {"train": 600, "t10k": 100}
CLASSES = 10
PIXELS = 28 * 28


def choose(labels: bytes, per_class: int) -> list[int]:
    """Indices of the first `per_class` of every class, ascending."""
    seen: Counter[int] = Counter()
    chosen = []
    for index, label in enumerate(labels):
        seen[label] += 1
        if seen[label] <= per_class:
            chosen.append(index)
    if len(chosen) != per_class * CLASSES:
        raise SystemExit(f"{len(chosen)} images found, {per_class * CLASSES} expected")
    return chosen


def read(path: Path, header_bytes: int) -> bytes:
    """The content of a gzip IDX file without its header."""
    with gzip.open(path) as file:
        return file.read()[header_bytes:]


def write(path: Path, magic: int, sizes: tuple[int, ...], content: bytes) -> None:
    """Write a gzip IDX file: magic, sizes as big-endian 32-bit numbers, bytes."""
    header = struct.pack(f">{1 + len(sizes)}I", magic, *sizes)
    # No name and no time in the gzip header: they would differ from one making to the next.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=9, fileobj=raw, mtime=0) as file:
        file.write(header + content)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder with the four files of Fashion-MNIST")
    parser.add_argument("target", type=Path, help="folder to write the four files of the part to")
    arguments = parser.parse_args()
    for split, per_class in PER_CLASS.items():
        images_name, labels_name = f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz"
        images = read(arguments.source / images_name, header_bytes=16)
        labels = read(arguments.source / labels_name, header_bytes=8)
        chosen = choose(labels, per_class)
        write(
            arguments.target / images_name,
            0x00000803,
            (len(chosen), 28, 28),
            b"".join(images[index * PIXELS : (index + 1) * PIXELS] for index in chosen),
        )
        write(
            arguments.target / labels_name,
            0x00000801,
            (len(chosen),),
            bytes(labels[index] for index in chosen),
        )


if __name__ == "__main__":
    main()
