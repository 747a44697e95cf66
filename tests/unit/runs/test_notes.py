"""A stage that exited with 0, and in whose log something went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobrelay.cli.summary import print_report
from jobrelay.console import Console
from jobrelay.errors import Exit
from jobrelay.executors.base import Submission
from jobrelay.runs.outcome import outcome
from jobrelay.runs.report import RunReport, StageReport
from jobrelay.runs.stage.log_copies import LogCollector, LogCopy
from jobrelay.runs.stage.reporting import stage_report
from jobrelay.verdicts import JobView, Verdict
from tests.support import objects as o


def report_on(folder: Path, log: str, code: Exit = Exit.SUCCEEDED) -> StageReport:
    job = o.job("train")
    pod = o.pod(job, "Succeeded", containerStatuses=[o.terminated(0, "Completed")])
    name = pod["metadata"]["name"]
    collector = LogCollector(None, "train", "train", folder, lambda name: lambda chunk: None)  # type: ignore[arg-type]
    collector.copies[name] = copy = LogCopy(folder / f"train-{name}.log")
    copy.path.write_text(log)
    verdict = Verdict(code, "succeeded" if code == Exit.SUCCEEDED else "failed", "", "", pod=name)
    submission = Submission(job, "created")
    return stage_report("train", submission, verdict, JobView(job, [pod]), collector, "", True)


def test_it_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = report_on(tmp_path, "epoch 1\nKilled\ntrain: succeeded, but wrote nothing\n")
    assert stage.notes == ("succeeded, but wrote nothing", "a process was killed (its log, line 2)")
    report = RunReport("a", "here", tmp_path, [stage])
    assert outcome(report, str)["stages"][0]["notes"] == list(stage.notes)
    print_report(report, output="table", console=Console(quiet=True))
    reported = capsys.readouterr().err
    assert "  train: exit code 0, but wrote nothing\n" in reported
    assert "  train: exit code 0, but a process was killed (its log, line 2)\n" in reported


def test_of_a_stage_that_failed_the_verdict_tells(tmp_path: Path) -> None:
    assert report_on(tmp_path, "Killed\n", Exit.FAILED).notes == ()


def test_nothing_is_noted_where_nothing_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = report_on(tmp_path, "epoch 1\n")
    assert stage.notes == ()
    print_report(RunReport("a", "here", tmp_path, [stage]), output="table", console=Console(quiet=True))
    assert "but" not in capsys.readouterr().err
