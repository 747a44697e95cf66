"""What is kept of a stage's log, and what is said when that is not all."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from jobrelay.runs.stage.log_copies import LogCollector
from jobrelay.verdicts import JobView
from tests.support import objects as o

TRAIN = o.job()
RUNNING = JobView(TRAIN, [o.pod(TRAIN, containerStatuses=[o.running()])])


class Executor:
    """Gives a line, and then nothing until it is told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def read_log(self, pod: Any, container: str, sink: Any) -> None:
        sink(b"a line\n")
        self.go_on.wait(10)
        sink(b"another\n")


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "row-1-stands-still"])
def test_a_log_that_is_not_read_to_its_end_says_so(tmp_path: Path, ends: bool) -> None:
    executor: Any = Executor()
    if ends:
        executor.go_on.set()
    shown: list[bytes] = []
    collector = LogCollector(executor, "train", "train", tmp_path, lambda name: shown.append)
    collector.notice(RUNNING)
    collector.finish(0.2)
    executor.go_on.set()
    (copy,) = collector.copies.values()
    assert bool(copy.error) is not ends
    assert copy.path.read_bytes().startswith(b"a line\n")


def test_row_40_a_log_whose_end_does_not_come_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a node that is gone, nobody answers for a minute."""
    monkeypatch.setattr("jobrelay.runs.stage.log_copies._SILENCE_SECONDS", 0.0)
    executor = Executor()
    collector = LogCollector(executor, "train", "train", tmp_path, lambda name: lambda chunk: None)  # type: ignore[arg-type]
    collector.notice(RUNNING)
    said: list[str] = []
    collector.finish(1.0, said.append)
    executor.go_on.set()
    assert said == ["  train: waiting for the end of its log, up to 1 s"]
