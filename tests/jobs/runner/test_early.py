"""A stage that was started early: it imports, waits for the record of the stage before, and then works."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from jobrelay_runner.usage.cgroup import usable_cpus
from jobrelay_runner.volume.record import Closing, Record, parse_closing
from tests.support.volume import Place, finish, read_until

WAITS = b"eval: started early, waits until train has succeeded\n"


@pytest.fixture
def early(trained: Place, tmp_path: Path) -> Place:
    """A run whose train has succeeded; its eval is started early."""
    environment = {"JOBRELAY_AFTER": "train", "JOBRELAY_TERMINATION_MESSAGE": str(tmp_path / "closing")}
    return replace(trained, environment=environment)


def said(tmp_path: Path) -> Closing:
    closing = parse_closing((tmp_path / "closing").read_text())
    assert closing
    return closing


def leave(place: Place, record: Record) -> None:
    """The record of train, whole or not there, as the fence writes it."""
    path = place.folder.record("train")
    path.with_suffix(".new").write_text(record.to_json())
    path.with_suffix(".new").rename(path)


def at_work(record: Record) -> Record:
    return replace(record, status="running", outputs={}, finished=None)


def test_it_begins_with_the_record_of_the_stage_before_and_not_earlier(early: Place, tmp_path: Path) -> None:
    done = early.record("train")
    leave(early, at_work(done))
    process = early.start("eval")
    assert read_until(process, b"\n") == WAITS
    assert not early.folder.record("eval").exists()
    leave(early, done)
    ended = finish(process)

    assert ended.code == 0
    assert "test loss" in ended.out
    moments = said(tmp_path).moments
    order = ["begun", "imported", "working", "first_batch", "recorded"]
    assert sorted(moments, key=moments.__getitem__) == order
    assert early.record("eval").moments == {name: moments[name] for name in order[:-1]}


def test_what_it_imported_while_it_waited_is_no_cost_of_its_work(early: Place, tmp_path: Path) -> None:
    done = early.record("train")
    leave(early, at_work(done))
    process = early.start("eval")
    assert read_until(process, b"\n") == WAITS
    time.sleep(4)
    leave(early, done)
    assert finish(process).code == 0

    cost = said(tmp_path).cost
    assert 0 < cost.cpu_seconds < (cost.wall_seconds + 0.3) * usable_cpus()


def test_its_seconds_are_those_of_a_stage_in_its_turn(early: Place, tmp_path: Path) -> None:
    """Both without the imports: from the beginning of the work to the record."""
    for when in ("in its turn", "early"):
        done = early.record("train")
        early.folder.record("eval").unlink(missing_ok=True)
        if when == "early":
            leave(early, at_work(done))
        process = early.start("eval")
        if when == "early":
            read_until(process, b"\n")
            leave(early, done)
        assert finish(process).code == 0
        closing = said(tmp_path)
        begun, imported, working, recorded = (
            datetime.fromisoformat(closing.moments[name].replace("Z", "+00:00")).timestamp()
            for name in ("begun", "imported", "working", "recorded")
        )
        # What is left lies between the looks of two processes at the clock.
        assert abs(closing.cost.wall_seconds - (recorded - working)) < (imported - begun) / 2, when


def test_it_does_not_look_at_its_own_record_before(early: Place) -> None:
    """The model that its old results are of may be about to change."""
    early.do("eval")
    old = early.folder.record("eval").read_bytes()
    done = early.record("train")
    leave(early, at_work(done))
    process = early.start("eval")
    assert read_until(process, b"\n") == WAITS
    assert early.folder.record("eval").read_bytes() == old
    leave(early, done)

    assert "nothing to do" in finish(process).out


def test_an_open_gate_costs_nothing(early: Place) -> None:
    early.do("eval")
    ended = early.do("eval")

    assert "started early" not in ended.out
    assert "nothing to do" in ended.out


def test_it_does_not_begin_after_a_failed_stage(early: Place, tmp_path: Path) -> None:
    record = at_work(early.record("train"))
    leave(early, record)
    process = early.start("eval")
    assert read_until(process, b"\n") == WAITS
    leave(early, replace(record, status="failed", exit_code=78, error="no such device"))
    ended = finish(process)

    assert ended.code == 69
    assert (
        ended.out == "eval: not started: run a, stage train failed in local, exit code 78: no such device\n"
    )
    assert said(tmp_path).exit_code == 69
    assert not early.folder.record("eval").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_can_be_ended_while_it_waits(early: Place, tmp_path: Path, number: signal.Signals) -> None:
    leave(early, at_work(early.record("train")))
    process = early.start("eval")
    assert read_until(process, b"\n") == WAITS
    os.kill(process.pid, number)
    ended = finish(process)

    assert ended.code == 143
    assert "stopped while it waited for train" in ended.out
    assert said(tmp_path).exit_code == 143
    assert not early.folder.record("eval").exists()


def test_a_stage_before_that_is_none_is_told(place: Place) -> None:
    ended = replace(place, environment={"JOBRELAY_AFTER": "brew"}).do("eval")
    assert ended.code == 78
    assert "JOBRELAY_AFTER: 'brew' is not one of train, eval, infer" in ended.err
