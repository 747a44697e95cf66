"""`make faults`: the catalogue of faults, with what came of every row on this machine.

    python -m pytest -p tests.plugins.faults [--rows 15-25,40] [--repeat 20] [pytest's own options: -n 4]

A test belongs to the rows in its name (test_row_19_…, test_rows_43_and_44_…) or in the id of its
parameters ([row-19-not-found]). What was left out because something is not here is told as "needs
…, not here". A row without a test is a failure. The outcomes are kept in build/faults.json.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from tests.support import REPOSITORY

CATALOGUE = REPOSITORY / "docs" / "faults.md"
NO_TEST = "NO TEST"
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

    def count(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed[report.nodeid] += 1
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.needs[reason.removeprefix("Skipped: ")] += 1
        elif report.when == "call":
            self.passed += 1

    def state(self) -> str:
        if self.failed:
            names = ", ".join(f"{name} ({count}x)" for name, count in self.failed.items())
            return f"FAIL  {sum(self.failed.values())} of {self.passed + sum(self.failed.values())}: {names}"
        needs = "; ".join(self.needs)
        if not self.passed:
            return needs or NO_TEST
        return f"pass  {self.passed}" + (f" ({needs})" if needs else "")


class Selection:
    """The tests of the wanted rows, over and over. Every process of `-n` has one."""

    def __init__(self, wanted: set[int], repeat: int) -> None:
        self.wanted = wanted
        self.repeat = repeat

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        # Every repetition is a test of its own: pytest sets up the same one twice in a row only once.
        if self.repeat > 1:
            metafunc.fixturenames.append("repetition")
            metafunc.parametrize("repetition", range(1, self.repeat + 1), scope="session")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if rows_of(item.name) & self.wanted]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


class Scoreboard:
    """What comes of every row. Only the first process has one: it hears of every test."""

    def __init__(self, wanted: set[int], repeat: int) -> None:
        self.repeat = repeat
        self.outcomes = {row: Outcome() for row in sorted(wanted)}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for row in rows_of(report.nodeid.rpartition("::")[2]) & self.outcomes.keys():
            self.outcomes[row].count(report)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.OK and any(o.state() == NO_TEST for o in self.outcomes.values()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        rows = {
            row: {"passed": outcome.passed, "failed": dict(outcome.failed), "needs": dict(outcome.needs)}
            for row, outcome in self.outcomes.items()
        }
        tree = {"date": datetime.now(UTC).isoformat(), "repeat": self.repeat, "rows": rows}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(tree, indent=2) + "\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        faults = catalogue()
        width = max(len(fault) for fault in faults.values())
        for row, outcome in self.outcomes.items():
            terminalreporter.write_line(f"{row:>3}  {faults[row]:<{width}}  {outcome.state()}")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "the catalogue of faults")
    group.addoption("--rows", type=_numbers, default=set(catalogue()), help="only these: 1-9,40")
    group.addoption("--repeat", type=int, default=1, help="run everything so many times")


def pytest_configure(config: pytest.Config) -> None:
    rows, repeat = config.getoption("--rows"), config.getoption("--repeat")
    if unknown := rows - catalogue().keys():
        raise pytest.UsageError(f"--rows: docs/faults.md has no row {min(unknown)}")
    config.pluginmanager.register(Selection(rows, repeat))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Scoreboard(rows, repeat))


def _numbers(text: str) -> set[int]:
    """1-3,40 → 1, 2, 3, 40"""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers
