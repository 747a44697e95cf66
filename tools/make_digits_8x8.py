"""Print tests/data/digits-8x8.txt: 300 of the digits that come with scikit-learn (8 x 8 pixels of 0 to 16).

    python -m venv DIR && DIR/bin/pip install scikit-learn==1.9.1
    DIR/bin/python tools/make_digits_8x8.py > tests/data/digits-8x8.txt

Of every class the first 15 and the last 15, which other hands have written. A line has the digit and its
pixels, row by row, a letter each: 0 to 9, then a to g.
"""

from __future__ import annotations

import numpy
from sklearn.datasets import load_digits

LETTERS = "0123456789abcdefg"
EACH = 15


def main() -> None:
    found = load_digits()
    for digit in range(10):
        which = numpy.flatnonzero(found.target == digit)
        for index in (*which[:EACH], *which[-EACH:]):
            print(digit, "".join(LETTERS[int(value)] for value in found.data[index]))


if __name__ == "__main__":
    main()
