"""`make faults`: the catalogue of faults, with what came of every row on this machine.

    python -m tests.faults [--repeat 20] [--rows 15-25,40] [pytest's own arguments]

A test belongs to the rows in its name (test_row_19_…, test_rows_43_and_44_…) or in the id of its
parameters ([row-19-not-found]). What was left out because something is not here is told as "needs
…, not here". Ends with 1 if a test fails, or if a row has no test.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from tests.support import REPOSITORY

CATALOGUE = REPOSITORY / "docs" / "faults.md"
RESULTS = REPOSITORY / "build" / "faults.json"

_NAME = re.compile(r"test_rows?_(\d+(?:_(?:and_)?\d+)*)(?=_|\[|$)")
_ID = re.compile(r"(?:^|[\[-])rows?-(\d+(?:-and-\d+)*)(?=-|\]|$)")


def rows_of(name: str) -> set[int]:
    """The rows that a test's name speaks of."""
    found = [*_NAME.findall(name), *_ID.findall(name)]
    return {int(number) for part in found for number in re.findall(r"\d+", part)}


def catalogue() -> dict[int, str]:
    """The faults by their numbers, from docs/faults.md."""
    cells = (line.split("|") for line in CATALOGUE.read_text().splitlines() if re.match(r"\| \d", line))
    return {int(row[1]): row[2].strip() for row in cells}


@dataclass
class Outcome:
    """What came of the tests of one row."""

    passed: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    needs: Counter[str] = field(default_factory=Counter)

    def state(self) -> str:
        if self.failed:
            names = ", ".join(f"{name} ({count}x)" for name, count in self.failed.items())
            return f"FAIL  {sum(self.failed.values())} of {self.passed + sum(self.failed.values())}: {names}"
        needs = "; ".join(self.needs)
        if not self.passed:
            return needs or "NO TEST"
        return f"pass  {self.passed}" + (f" ({needs})" if needs else "")


class Recorder:
    """A pytest plugin that keeps the tests of the wanted rows, and their outcomes."""

    def __init__(self, wanted: set[int]) -> None:
        self.wanted = wanted
        self.outcomes: dict[int, Outcome] = defaultdict(Outcome)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if rows_of(item.name) & self.wanted]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("::")[2]
        for row in rows_of(name) & self.wanted:
            outcome = self.outcomes[row]
            if report.failed:
                outcome.failed[report.nodeid] += 1
            elif report.skipped:
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
                outcome.needs[reason.removeprefix("Skipped: ")] += 1
            elif report.when == "call":
                outcome.passed += 1


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=1, help="run everything so many times")
    parser.add_argument("--rows", default="", help="only these: 1-9,40  [default: all]")
    options, for_pytest = parser.parse_known_args(arguments)
    faults = catalogue()
    wanted = set(_numbers(options.rows)) if options.rows else set(faults)
    recorder = Recorder(wanted)
    for number in range(1, options.repeat + 1):
        print(f"--- {number} of {options.repeat}, {datetime.now(UTC):%H:%M:%S} UTC", flush=True)
        code = pytest.main(["-q", *for_pytest], plugins=[recorder])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return int(code)
        _write(recorder, number)
    width = max(len(fault) for fault in faults.values())
    for row in sorted(wanted):
        print(f"{row:>3}  {faults.get(row, '?'):<{width}}  {recorder.outcomes[row].state()}")
    untested = [row for row in wanted if recorder.outcomes[row].state() == "NO TEST"]
    return int(bool(untested) or any(outcome.failed for outcome in recorder.outcomes.values()))


def _numbers(text: str) -> Iterator[int]:
    """1-3,40 → 1, 2, 3, 40"""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _write(recorder: Recorder, repeats: int) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    rows = {
        row: {"passed": outcome.passed, "failed": dict(outcome.failed), "needs": dict(outcome.needs)}
        for row, outcome in sorted(recorder.outcomes.items())
    }
    tree = {"date": datetime.now(UTC).isoformat(), "repeats": repeats, "rows": rows}
    RESULTS.write_text(json.dumps(tree, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
