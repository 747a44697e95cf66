"""What `status`, `list` and other commands say of runs: by Jobs, by records, and of those not there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobrelay.cli import main as cli
from jobrelay.errors import Exit
from jobrelay.executors.local.volume import LocalVolume
from jobrelay.runs import status as overview
from tests.support import objects as o
from tests.support.pages import write_run

Object = dict[str, Any]
EPOCHS = b"epoch 1/5  loss 1.1908  acc 0.7197  1.4 s  4.2k images/s  lr 0.0040\n" \
         b"epoch 2/5  loss 0.8701  acc 0.8497  1.8 s  3.3k images/s  lr 0.0040\nsaved\n"  # fmt: skip


class Executor:
    """Jobs that are there, what their Pods have printed, and a volume."""

    def __init__(self, root: Path, *jobs: tuple[Object, Sequence[Object]], log: bytes = b"") -> None:
        self._root, self._jobs, self._log = root, list(jobs), log

    def place(self) -> str:
        return "here"

    def jobs(self, run: str | None = None) -> list[tuple[Object, Sequence[Object]]]:
        return self._jobs if run in (None, o.RUN) else []

    def volume(self, run: str | None = None) -> Any:
        return contextlib.nullcontext(LocalVolume(self._root))

    def log_tail(self, pod: Object, container: str, lines: int, follow: bool, sink: Any) -> None:
        sink(self._log)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; the volume is in `volume`."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def recorded(root: Path, run: str, started: str, **fields: Any) -> None:
    """A run whose train record has these fields."""
    write_run(root / "runs" / run)
    for stage in ("eval", "infer"):
        (root / "runs" / run / f"{stage}.json").unlink()
    path = root / "runs" / run / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "run": run, "started": started, **fields}))


def launch(place: Path, *arguments: str) -> int:
    return cli.main([*arguments, "--local", "--volume", str(place / "volume")])


@pytest.mark.parametrize(
    "command",
    [["status", "b"], ["logs", "b"], ["logs", "b", "train"], ["fetch", "b"], ["fetch", "b", "-o", "x"],
     ["verify", "b"], ["report", "b"], ["cancel", "b"], ["delete", "b"], ["delete", "b", "--data"]],
    ids=" ".join,
)  # fmt: skip
def test_a_run_that_is_not_there_is_reported_alike_by_every_command(
    place: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(place / "volume", "a", o.T0)
    assert launch(place, *command) == Exit.BAD_INPUT
    said = capsys.readouterr()
    assert f"error: there is no run b on this machine, volume {place / 'volume'}\n" in said.err
    assert said.out == ""
    assert list((place / "work").iterdir()) == []


def test_a_run_with_files_alone_is_known(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(place / "volume", "a", o.T0)
    assert launch(place, "cancel", "a") == Exit.SUCCEEDED
    assert launch(place, "delete", "a") == Exit.BAD_INPUT
    assert "run a has no Jobs, only files on the volume" in capsys.readouterr().err
    assert launch(place, "delete", "a", "--data") == Exit.SUCCEEDED


def test_runs_are_listed_by_time_and_none_is_hidden(
    place: Path, berlin: None, capsys: pytest.CaptureFixture[str]
) -> None:
    root = place / "volume"
    recorded(root, "a", "2026-11-21T14:22:33.123Z")
    recorded(root, "z", "2026-11-20T23:30:00+00:00")
    (root / "runs" / "m").mkdir()
    os.utime(root / "runs" / "m", (1_795_000_000, 1_795_000_000))  # 2026-11-18

    assert launch(place, "list", "-o", "name") == 0
    assert capsys.readouterr().out.split() == ["m", "z", "a"]
    assert launch(place, "list") == 0
    rows = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["m", "files no record", "2026-11-18 12:06:40 CET"] in rows
    assert ["z", "train succeeded", "acc 0.9000", "2026-11-21 00:30:00 CET"] in rows
    assert launch(place, "list", "-o", "json") == 0
    assert {row["run"]: row["created"] for row in json.loads(capsys.readouterr().out)} == {
        "m": "2026-11-18T11:06:40+00:00",
        "z": "2026-11-20T23:30:00+00:00",
        "a": "2026-11-21T14:22:33+00:00",
    }


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"status": "failed", "exit_code": 143, "error": "stopped by SIGTERM"}, "cancelled"),
        ({"status": "failed", "exit_code": 1, "error": "ValueError"}, "failed"),
        ({"status": "running"}, "stopped"),
        ({"started": "no time at all"}, "succeeded"),
    ],
)
def test_what_has_no_job_any_more_is_called_by_its_end(
    place: Path, fields: Object, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(place / "volume", "a", **{"started": o.T0, **fields})
    assert launch(place, "status", "a", "-o", "json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["state"] == state


def test_a_stage_that_was_cancelled_is_shown_beside_those_whose_jobs_are_there(place: Path) -> None:
    root = place / "volume"
    write_run(root / "runs" / o.RUN)
    (root / "runs" / o.RUN / "infer.json").unlink()
    path = root / "runs" / o.RUN / "eval.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "failed", "exit_code": 143}))
    done = o.job("train", o.condition("Complete"))
    pods = [o.pod(done, "Succeeded", containerStatuses=[o.terminated(0, "Completed")])]
    states = overview.status(Executor(root, (done, pods)), o.RUN)  # type: ignore[arg-type]
    assert [(state.stage, state.state) for state in states] == [("train", "succeeded"), ("eval", "cancelled")]


def test_of_what_runs_epoch_elapsed_time_and_time_left_are_shown(place: Path) -> None:
    job = o.job("train")
    started = (datetime.now(UTC) - timedelta(seconds=60)).isoformat(timespec="seconds").replace("+00:00", "Z")
    status = o.container("train", running={"startedAt": started})
    pod = o.pod(job, "Running", containerStatuses=[status], conditions=[o.SCHEDULED])
    (state,) = overview.status(Executor(place, (job, [pod]), log=EPOCHS), o.RUN)  # type: ignore[arg-type]
    assert (state.state, state.epoch, state.epochs) == ("running", 2, 5)
    assert state.seconds_left == pytest.approx(3 * 1.8)
    assert state.reason == "epoch 2 of 5, about 5 s left"
    assert state.seconds is not None
    assert 60 <= state.seconds < 600
    assert re.fullmatch(r"[-0-9]{10} [:0-9]{8} \S+", state.row()[-1])


def test_logs_of_a_stage_that_the_run_does_not_have(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(place / "volume", "a", o.T0)
    assert launch(place, "logs", "a", "serve") == Exit.BAD_INPUT
    said = capsys.readouterr().err
    assert "run a has no stage serve" in said
    assert "choose from train" in said


def test_logs_takes_a_stage_for_what_it_is(
    place: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = place / "volume"
    write_run(root / "runs" / o.RUN)
    shutil.rmtree(place / "work")
    (place / "work").mkdir()
    monkeypatch.chdir(place / "work")
    there = Executor(
        root, (o.job("train", o.condition("Complete")), [o.pod(o.job("train"))]), log=b"of train\n"
    )
    monkeypatch.setattr("jobrelay.runs.target.Target.executor", lambda self: there)
    assert cli.main(["logs", "train"]) == 0
    assert capsysbinary.readouterr().out == b"of train\n"
