"""A stage's metrics: the numbers in a JSON file that it wrote, or in the last of its JSON lines."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any, Dict, Final, Iterator, Tuple

from jobrelay_runner.volume.safe_read import RECORD_BYTES, open_regular, read_bytes

#: So that the metrics fit into a termination message of 4 KiB: their number, and the length of their names.
MOST_METRICS: Final = 40
_MOST_CHARACTERS: Final = 1200
_LINES: Final = (".jsonl", ".ndjson")
#: The end of a history, which may have any length: more than its longest line.
_TAIL_BYTES: Final = 1024 * 1024


def read_metrics(path: Path, root: Path) -> Dict[str, float]:
    """Return the numbers in a JSON file by name: {"test": {"acc": 0.9}} gives test.acc.

    Of JSON lines, the last one counts. Raises OSError, ValueError.
    """
    tree = _last_line(path, root) if path.suffix.lower() in _LINES else _whole(path, root)
    if not isinstance(tree, dict):
        raise ValueError("a JSON object is expected")
    metrics: Dict[str, float] = {}
    room = _MOST_CHARACTERS
    for name, value in itertools.islice(_numbers(tree, ""), MOST_METRICS):
        room -= len(name.encode(errors="replace"))
        if room >= 0:
            metrics[name] = value
    return metrics


def _whole(path: Path, root: Path) -> Any:
    """Return the JSON of a file; JSON lines are known by their second object, whatever the file is called."""
    text = read_bytes(path, RECORD_BYTES, root=root)
    try:
        return json.loads(text)
    except ValueError as error:
        if not getattr(error, "msg", "").startswith("Extra data"):
            raise
        try:
            return _last_line(path, root)
        except ValueError:
            raise error from None


def _last_line(path: Path, root: Path) -> Any:
    """Return the last JSON object of a file of lines; a line that was torn off at the end does not count."""
    with open_regular(path, root=root) as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
        lines = [line for line in file.read(_TAIL_BYTES).splitlines() if line.strip()]
    for line in reversed(lines[-2:]):
        try:
            tree = json.loads(line)
        except ValueError:
            continue
        if isinstance(tree, dict):
            return tree
    raise ValueError("its last line is not a JSON object")


def _numbers(tree: Dict[str, Any], prefix: str) -> Iterator[Tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
            yield f"{prefix}{key}", float(value)
