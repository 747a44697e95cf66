"""How a run and its stages went: what is printed, compared and drawn of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from jobrelay.errors import EvidenceIncomplete, Exit
from jobrelay.figures.wording import accuracy, duration, in_one_line, memory
from jobrelay.kube.objects import Resources
from jobrelay.runs import results
from jobrelay.runs.timeline import Timeline
from jobrelay.verdicts import Verdict
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.record import Closing, LogProof, differing


@dataclass(frozen=True)
class StageReport:
    """How one stage went."""

    stage: Stage
    verdict: Verdict
    how: str  # created | early | adopted | replaced | complete
    closing: Closing | None
    seconds: float | None
    memory_limit: str
    log_complete: bool | None  # None: it ran before, or has not reported what it printed
    pods: int
    ran: bool  # some container of it has started
    timeline: Timeline
    resources: Resources | None = field(
        default_factory=Resources
    )  # what its container asked for; None: without effect here
    #: what the other Pods of a stage of several report to have printed; None: one that has not reported
    peer_logs: tuple[LogProof | None, ...] = ()
    attempt: int = 1  # the one that decided
    attempts: int = 1  # that there may be


@dataclass
class RunReport:
    """How a run went, as far as it got."""

    run: str
    place: str
    folder: Path
    stages: list[StageReport] = field(default_factory=list)
    fetched: results.Fetched | None = None
    incomplete: EvidenceIncomplete | None = None  # all stages succeeded, and yet

    @property
    def verdict(self) -> Verdict:
        return self.stages[-1].verdict

    def has_log(self, stage: StageReport) -> bool:
        """Whether all that a stage has printed is in the folder now, as its record and its Pods prove it."""
        return (
            self.fetched is not None
            and stage.stage in self.fetched.logs
            and all(proof and not differing(self.folder, {proof.file: proof}) for proof in stage.peer_logs)
        )

    @property
    def exit_code(self) -> Exit:
        return self.incomplete.exit_code if self.incomplete else self.verdict.exit_code


def stage_line(report: StageReport) -> str:
    """✓ train  12.3 s  acc 0.9921  peak 812 MiB of 2.0 GiB"""
    verdict = report.verdict
    attempt = f"attempt {report.attempt} of {report.attempts}" if report.attempt > 1 else ""
    if verdict.exit_code != Exit.SUCCEEDED:
        how = ", ".join(filter(None, (verdict.outcome, attempt)))
        return f"✗ {report.stage}  {how}: {in_one_line(verdict.cause)}"
    parts = [f"✓ {report.stage}"]
    if report.seconds is not None:
        parts.append(duration(report.seconds))
    parts.append(accuracy(report.closing))
    if peak := memory(report.closing, report.memory_limit):
        parts.append(f"peak {peak}")
    if report.how == "complete" or (report.closing and report.closing.skipped):
        parts.append("(complete already)")
    elif attempt:
        parts.append(f"({attempt})")
    return "  ".join(part for part in parts if part)
