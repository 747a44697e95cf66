"""A stage's metrics: the numbers in a JSON file that it wrote."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, Dict, Final, Iterator, Tuple

from jobrelay_runner.volume.safe_read import RECORD_BYTES, read_bytes

#: So that the metrics fit into a termination message of 4 KiB: their number, and the length of their names.
MOST_METRICS: Final = 40
_MOST_CHARACTERS: Final = 1200


def read_metrics(path: Path, root: Path) -> Dict[str, float]:
    """Return the numbers in a JSON file by name: {"test": {"acc": 0.9}} gives test.acc.

    Raises OSError, ValueError.
    """
    tree = json.loads(read_bytes(path, RECORD_BYTES, root=root))
    if not isinstance(tree, dict):
        raise ValueError("a JSON object is expected")
    metrics: Dict[str, float] = {}
    room = _MOST_CHARACTERS
    for name, value in itertools.islice(_numbers(tree, ""), MOST_METRICS):
        room -= len(name.encode(errors="replace"))
        if room >= 0:
            metrics[name] = value
    return metrics


def _numbers(tree: Dict[str, Any], prefix: str) -> Iterator[Tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
            yield f"{prefix}{key}", float(value)
