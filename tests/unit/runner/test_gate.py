"""The gate, on a clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobrelay_runner.order.gate import Gate
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import Record
from jobrelay_train.config.loading import load_config
from jobrelay_train.config.schema import RunConfig


class World:
    """A run's folder, a clock that only sleeping moves, and things that happen at given times."""

    def __init__(self, folder: RunFolder) -> None:
        folder.path.mkdir(parents=True)
        self.folder = folder
        self.now = 1000.0
        self.sleeps: list[float] = []
        self.events: list[tuple[float, Callable[[], object]]] = []
        self.config = RunConfig()

    def at(self, seconds: float, event: Callable[[], object]) -> None:
        self.events.append((1000.0 + seconds, event))

    def sleep(self, seconds: float) -> None:
        assert self.now < 1000.0 + 7200, "the gate would wait for ever"
        self.sleeps.append(seconds)
        self.now += seconds
        due = [event for when, event in self.events if when <= self.now]
        self.events = [(when, event) for when, event in self.events if when > self.now]
        for event in due:
            event()

    def leave(self, status: str, **more: object) -> None:
        """Write train's record."""
        fields = {
            "run": "a",
            "stage": "train",
            "status": status,
            "pod": "a-train-x7k2p",
            "config_hash": self.config.stage_hash("train"),
            "started": "2026-11-21T00:00:00Z",
            **more,
        }
        self.folder.record("train").write_text(Record.from_dict(fields).to_json())

    def wait(self) -> int:
        return Gate(
            self.config.stage_hash("train"), self.folder, "train", clock=lambda: self.now, sleep=self.sleep
        ).wait()

    @property
    def waited(self) -> float:
        return self.now - 1000.0


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(RunFolder(tmp_path, "a"))


def test_it_opens_at_once_if_the_stage_has_succeeded(world: World) -> None:
    world.leave("succeeded")

    assert world.wait() == 0
    assert world.sleeps == []


def test_it_opens_within_a_second_of_success(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.at(5, lambda: world.leave("running"))
    world.at(100, lambda: world.leave("succeeded"))

    assert world.wait() == 0
    assert 100 <= world.waited <= 101
    assert max(world.sleeps) <= 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5  # at 0, 30, 60, 90 seconds, and the end
    assert "train.json does not exist yet" in lines[0]
    assert "attempt 1 is running in a-train-x7k2p" in lines[1]


@pytest.mark.parametrize("code", [78, 65])
def test_a_failure_that_would_repeat_itself_closes_it_at_once(
    world: World, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    world.leave("failed", exit_code=code, error="no such device")

    assert world.wait() == 1
    assert world.waited == 0
    told = capsys.readouterr().err
    assert told == f"run a, stage train failed in a-train-x7k2p, exit code {code}: no such device\n"


def test_another_failure_closes_it_when_no_other_attempt_begins(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.leave("failed", exit_code=137, error="killed by signal 9")

    assert world.wait() == 1
    assert 600 <= world.waited <= 602
    assert "no other attempt has started for 10 minutes" in capsys.readouterr().err


def test_another_attempt_starts_the_clock_again(world: World) -> None:
    world.leave("failed", exit_code=1)
    world.at(500, lambda: world.leave("running", attempt=2))
    world.at(900, lambda: world.leave("failed", exit_code=1, attempt=2))
    world.at(1400, lambda: world.leave("succeeded", attempt=3))

    assert world.wait() == 0


def test_a_record_of_another_configuration_is_waited_out(world: World) -> None:
    other = load_config(None, ["train.epochs=9"]).stage_hash("train")
    world.leave("succeeded", config_hash=other)
    world.at(700, lambda: world.leave("succeeded"))

    assert world.wait() == 0
    assert world.waited >= 700


def test_where_it_may_run_is_no_other_configuration(world: World) -> None:
    world.config = load_config(None, ["train.memory=4Gi"])
    world.leave("succeeded", config_hash=RunConfig().stage_hash("train"))

    assert world.wait() == 0


def test_a_record_that_cannot_be_read_is_waited_out_and_then_told(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.folder.record("train").write_text("{")

    assert world.wait() == 1
    assert 60 <= world.waited <= 62
    assert "is not a readable record" in capsys.readouterr().err


def test_a_record_that_becomes_readable_is_read(world: World) -> None:
    world.folder.record("train").write_text("{")
    world.at(50, lambda: world.leave("running"))
    world.at(70, lambda: world.folder.record("train").write_text("{"))
    world.at(120, lambda: world.leave("succeeded"))

    assert world.wait() == 0
