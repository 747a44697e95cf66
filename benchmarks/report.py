"""The report of every benchmark: a table on stdout, and the same as JSON in build/benchmarks/."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "build" / "benchmarks"


def spread(samples: Sequence[float], digits: int = 3) -> str:
    """median (min to max)"""
    low, middle, high = min(samples), statistics.median(samples), max(samples)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def finish(name: str, rows: Sequence[tuple[str, str, str]], samples: dict[str, Any]) -> None:
    """Print rows (what, measured, target) and write them with the samples."""
    width = max(len(row[0]) for row in rows)
    measured = max(len(row[1]) for row in rows)
    print(f"{name}, {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.machine()}")
    for what, figure, target in rows:
        print(f"  {what:<{width}}  {figure:<{measured}}  {target}".rstrip())
    RESULTS.mkdir(parents=True, exist_ok=True)
    tree = {"name": name, "date": datetime.now(UTC).isoformat(), "rows": rows, "samples": samples}
    (RESULTS / f"{name}.json").write_text(json.dumps(tree, indent=2) + "\n")
