"""What a line of a stage's log says about the work that is left."""

from __future__ import annotations

import re
from typing import Final

#: epoch 3/5  loss 0.2595  acc 0.9095  0.7 s  8.0k images/s  …
_EPOCH: Final = re.compile(rb"epoch (\d{1,9})/(\d{1,9}) .* (\d{1,9}\.\d) s\b")
#: testing cnn on 1,000 images of …: one pass over them, and then the end
_LAST_PASS: Final = re.compile(rb"testing \S+ on [\d,]+ (images|points|items) ")


def epochs(line: bytes) -> tuple[int, int] | None:
    """Return which epoch has ended, and of how many; None if the line does not say."""
    found = _EPOCH.match(line)
    return (int(found[1]), int(found[2])) if found else None


def seconds_left(line: bytes) -> float | None:
    """Estimate the seconds of work left after this line; None if the line does not say."""
    if epoch := _EPOCH.match(line):
        done, all_of_them, seconds = int(epoch[1]), int(epoch[2]), float(epoch[3])
        return max(all_of_them - done, 0) * seconds
    return 0.0 if _LAST_PASS.match(line) else None
