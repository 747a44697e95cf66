"""Reports of a run and its stages: printed, compared, drawn, and returned by the library."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jobrelay.errors import EvidenceIncomplete, Exit, StageEnded
from jobrelay.figures import accuracy, duration, in_one_line, memory
from jobrelay.hints import of_run
from jobrelay.kube.objects import Resources
from jobrelay.runs import results
from jobrelay.runs.timeline import Timeline
from jobrelay.verdicts import Verdict
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.record import Closing, LogDigest, differing

COLUMNS: Final = ("stage", "verdict", "seconds", "result", "peak memory", "log")


@dataclass(frozen=True)
class StageReport:
    """The report of one stage."""

    stage: Stage
    verdict: Verdict
    how: str  # created | early | adopted | replaced | complete
    closing: Closing | None
    seconds: float | None
    memory_limit: str
    log_complete: bool | None  # None: it ran before, or did not report its log's digest
    pods: int
    ran: bool  # one of its containers has started
    timeline: Timeline
    resources: Resources | None = field(
        default_factory=Resources
    )  # requests and limits of its container; None: without effect here
    #: with several Pods: the log digests that the others reported; None: a Pod that did not report
    peer_logs: tuple[LogDigest | None, ...] = ()
    attempt: int = 1  # the deciding one
    attempts: int = 1  # the most allowed
    notes: tuple[str, ...] = ()  # signs of trouble in the log of a stage that succeeded

    @property
    def exit_code(self) -> Exit:
        """0 if the stage succeeded, else the code of its verdict (docs/exit-codes.md)."""
        return self.verdict.exit_code

    @property
    def metrics(self) -> Mapping[str, float]:
        """The stage's metrics, such as `test_acc` (0 to 1); empty if it did not finish."""
        return self.closing.metrics if self.closing else {}

    @property
    def line(self) -> str:
        """✓ train  12.3 s  acc 0.9921  peak 812 MiB of 2.0 GiB"""
        verdict = self.verdict
        attempt = f"attempt {self.attempt} of {self.attempts}" if self.attempt > 1 else ""
        if verdict.exit_code != Exit.SUCCEEDED:
            how = ", ".join(filter(None, (verdict.outcome, attempt)))
            return f"✗ {self.stage}  {how}: {in_one_line(verdict.cause)}"
        parts = [f"✓ {self.stage}"]
        if self.seconds is not None:
            parts.append(duration(self.seconds))
        parts.append(accuracy(self.closing))
        if peak := memory(self.closing, self.memory_limit):
            parts.append(f"peak {peak}")
        if self.how == "complete" or (self.closing and self.closing.skipped):
            parts.append("(complete already)")
        elif attempt:
            parts.append(f"({attempt})")
        return "  ".join(part for part in parts if part)

    def row(self, log_proven: bool) -> tuple[str, ...]:
        """Its row of the closing table (COLUMNS). log_proven: its complete log is in the folder."""
        log = {True: "complete", False: "from the volume" if log_proven else "incomplete", None: ""}
        return (
            self.stage,
            f"{self.verdict.outcome} (before)" if self.how == "complete" else self.verdict.outcome,
            duration(self.seconds) if self.seconds is not None else "",
            accuracy(self.closing),
            memory(self.closing, self.memory_limit),
            log[self.log_complete],
        )


@dataclass
class RunReport:
    """The report of a run, up to its last stage that ran. folder: where its results and logs are."""

    run: str
    place: str
    folder: Path
    stages: list[StageReport] = field(default_factory=list)
    fetched: results.Fetched | None = None
    incomplete: EvidenceIncomplete | None = None  # all stages succeeded, but evidence is missing

    @property
    def verdict(self) -> Verdict:
        """The verdict of the last stage that ran."""
        return self.stages[-1].verdict

    @property
    def exit_code(self) -> Exit:
        """0 if all stages succeeded with complete results; else the exit code of the command line."""
        return self.incomplete.exit_code if self.incomplete else self.verdict.exit_code

    def __getitem__(self, stage: str) -> StageReport:
        """The report of a stage. Raises KeyError if the run did not reach it."""
        for report in self.stages:
            if report.stage == stage:
                return report
        raise KeyError(f"run {self.run} did not come to {stage}; it has {', '.join(self) or 'no stage'}")

    def __iter__(self) -> Iterator[str]:
        """The names of the stages that ran."""
        return (report.stage for report in self.stages)

    def raise_for_verdict(self) -> None:
        """Return if the run succeeded; else raise StageEnded or EvidenceIncomplete."""
        if self.incomplete:
            raise self.incomplete
        if self.verdict.exit_code != Exit.SUCCEEDED:
            raise StageEnded(self.verdict.exit_code, self.failure(), of_run(self.verdict.hint, self.run))

    def failure(self) -> str:
        """Why the last stage did not succeed, in a sentence."""
        stage, verdict = self.stages[-1], self.verdict
        pod = f", Pod {verdict.pod}" if verdict.pod else ""
        return f"{stage.stage} {verdict.outcome}: Job {self.run}-{stage.stage}{pod}: {verdict.cause}"

    def has_log(self, stage: StageReport) -> bool:
        """Whether the folder now holds the complete log of a stage, proven by its record and its Pods."""
        return (
            self.fetched is not None
            and stage.stage in self.fetched.logs
            and all(
                digest and not differing(self.folder, {digest.file: digest}) for digest in stage.peer_logs
            )
        )

    def rows(self) -> list[tuple[str, ...]]:
        """The closing table (COLUMNS), one row per stage."""
        return [stage.row(self.has_log(stage)) for stage in self.stages]

    def _repr_html_(self) -> str:
        """The closing table, for a notebook."""

        def cells(tag: str, values: tuple[str, ...]) -> str:
            return "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values)

        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.rows())
        failed = "" if self.exit_code == Exit.SUCCEEDED else f"<p>{html.escape(self._problem())}</p>"
        title = html.escape(f"run {self.run} on {self.place}: {self.folder}")
        return f"<table><caption>{title}</caption><tr>{cells('th', COLUMNS)}</tr>{body}</table>{failed}"

    def _problem(self) -> str:
        return self.incomplete.what if self.incomplete else self.failure()
