"""The folder of a run → the content of its page. Unknown facts are left out, unusable files reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobrelay.report import files
from jobrelay.report.confusion import Confusion, confusion
from jobrelay.report.curves import Curve, curve
from jobrelay.report.files import (
    Epoch,
    EvalResults,
    Inference,
    NothingFound,
    Prediction,
    RunOutcome,
    StageOutcome,
)
from jobrelay.report.gallery import Group, boundary, gallery
from jobrelay.report.phases import Segment, segments
from jobrelay.report.programs.part import ProgramsPart, programs_part
from jobrelay.report.stages import StagePart, Tone, compared, stage_part, timeline_of
from jobrelay.runs.folder import OUTCOME
from jobrelay.runs.results import logs_of
from jobrelay.verdicts.signs import signs_in
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.paths import LOGS
from jobrelay_runner.volume.record import Record, read_record
from jobrelay_runner.volume.records import pipeline_of, read_records
from jobrelay_runner.volume.safe_read import open_regular

_MOST_LOGS: Final = 12
_MOST_NOTES: Final = 5
_LOG_LINES: Final = 40
_LOG_BYTES: Final = 8 * 1024
_MOST_FILES: Final = 200
_LONGEST_NAME: Final = 300
_MOST_CONFIG: Final = 32 * 1024
#: Rows of the table of epochs, an alternative to the curves for screen readers.
_MOST_ROWS: Final = 100


@dataclass(frozen=True)
class Log:
    name: str
    lines: tuple[str, ...]
    cut: bool  # the file has more lines
    wanted: bool  # its stage failed, so the page opens it


@dataclass(frozen=True)
class FileRow:
    """A file in a stage's record, and whether the file here matches."""

    stage: Stage
    name: str
    size: int
    sha256: str
    state: str
    is_changed: bool  # it was there before the stage


@dataclass(frozen=True)
class Note:
    """A sign that a stage that succeeded has not done its work."""

    stage: Stage
    text: str


@dataclass(frozen=True)
class RunPart:
    """The content of a run's page."""

    run: str
    place: str
    tone: Tone
    headline: str
    incomplete: str
    stages: tuple[StagePart, ...]
    notes: tuple[Note, ...]
    programs: ProgramsPart | None
    phases: dict[str, tuple[Segment, ...]]
    curves: tuple[Curve, ...]
    epochs: tuple[Epoch, ...]
    results: EvalResults | None
    confusion: Confusion | None
    inference: Inference | None
    boundary: str | None  # data:…, of a model of points
    groups: tuple[Group, ...]
    config: str
    files: tuple[FileRow, ...]
    logs: tuple[Log, ...]
    problems: tuple[str, ...]  # files that cannot be used
    #: whether verdicts and requests come from the launcher that followed the run or from its Jobs
    has_outcome: bool

    @property
    def things(self) -> str:
        """The kind of the model's samples."""
        return "points" if self.boundary else "images"


def gather(folder: Path, name: str, from_jobs: RunOutcome | None = None) -> RunPart:
    """Gather the content of a run's page. from_jobs: the outcome from its Jobs; None: from report.json."""
    usable = files.Reader()
    kept = from_jobs or usable(files.read, folder / OUTCOME, RunOutcome)
    found = read_records(folder, root=folder)
    started = [stage.stage for stage in kept.stages] if kept else []
    order = list(dict.fromkeys([*pipeline_of(found), *started]))
    reached = _reached(order, kept)
    records = {
        stage: usable(lambda path: read_record(path, root=folder), folder / f"{stage}.json")
        for stage in reached
    }
    outcomes = (
        {each.stage: each for each in kept.stages if _is_of(each, records.get(each.stage))} if kept else {}
    )
    known = [stage for stage in reached if records[stage] or stage in outcomes]
    stages = tuple(stage_part(folder, stage, outcomes.get(stage), records[stage]) for stage in known)
    history = usable(files.read_history, folder / "history.jsonl") or []
    results = inference = None
    predictions: list[Prediction] = []
    empty: list[NothingFound] = []
    if "eval" in reached:
        results = usable(files.read, folder / "eval_results.json", EvalResults)
    if "infer" in reached:
        inference = usable(files.read, folder / "inference.json", Inference)
        predictions = usable(files.read_pictured, folder / "predictions.json") or []
        empty = usable(files.read_nothing_found, folder / "predictions.json") or []
    tone, headline = _headline(stages, kept, order)
    return RunPart(
        run=kept.run if kept else name,
        place=kept.place if kept else "",
        tone=tone,
        headline=headline,
        incomplete=(kept.incomplete or "") if kept else "",
        stages=stages,
        notes=tuple(_notes(folder, stages, outcomes, records)),
        programs=programs_part(folder, records, kept.place if kept else ""),
        phases=segments({stage: timeline_of(outcomes.get(stage), records[stage]) for stage in known}),
        curves=_curves(history, results),
        epochs=tuple(history[:: max(1, -(-len(history) // _MOST_ROWS))]),
        results=results,
        confusion=confusion(results) if results else None,
        inference=inference,
        boundary=boundary(folder) if "infer" in reached else None,
        groups=gallery(folder, predictions, empty),
        config=_config(folder),
        files=tuple(_files(folder, records))[:_MOST_FILES],
        logs=usable(_logs, folder, reached, {part.stage for part in stages if part.tone == "bad"}) or (),
        problems=tuple(usable.problems),
        has_outcome=kept is not None,
    )


def _is_of(outcome: StageOutcome, record: Record | None) -> bool:
    """Whether a stage's kept outcome belongs to the same work as its record, not to an earlier one."""
    succeeded = outcome.verdict.exit_code == 0 and record is not None and record.status == "succeeded"
    return not succeeded or outcome.skipped or outcome.verdict.pod in (None, record.pod if record else None)


def _reached(order: list[Stage], kept: RunOutcome | None) -> list[Stage]:
    """The stages up to the first failure: files of later stages are from an earlier try."""
    last = kept.stages[-1] if kept and kept.stages else None
    if last is None or last.verdict.exit_code == 0 or last.stage not in order:
        return order
    return order[: order.index(last.stage) + 1]


def _headline(stages: tuple[StagePart, ...], kept: RunOutcome | None, order: list[Stage]) -> tuple[Tone, str]:
    bad = next((part for part in stages if part.tone == "bad"), None)
    if bad:
        return "bad", f"{bad.stage} {bad.outcome}"
    if kept and kept.incomplete:
        return "bad", "evidence is incomplete"
    still = next((part for part in stages if part.tone == "open"), None)
    if still:
        return "open", f"{still.stage}: {still.outcome}"
    if not stages:
        return "open", "no stage has started"
    done = [part.stage for part in stages]
    return "good", "succeeded" if done == order else f"{', '.join(done)} succeeded"


def _curves(history: list[Epoch], results: EvalResults | None) -> tuple[Curve, ...]:
    if not history:
        return ()
    epochs = [float(each.epoch) for each in history]
    test = (results.test_acc, f"test {results.test_acc:.4f}") if results else None
    drawn = [
        curve("Training loss", epochs, [each.loss for each in history], x_label="epoch"),
        curve("Accuracy", epochs, [each.accuracy for each in history], x_label="epoch", mark=test),
    ]
    validated = [each.val_accuracy for each in history if each.val_accuracy is not None]
    if len(validated) == len(history):
        drawn.append(curve("Validation accuracy", epochs, validated, x_label="epoch", mark=test))
    return tuple(drawn)


def _config(folder: Path) -> str:
    try:
        with open_regular(folder / "config.yaml") as file:
            return file.read(_MOST_CONFIG).decode("utf-8", "replace")
    except OSError:
        return ""


def _notes(
    folder: Path,
    stages: tuple[StagePart, ...],
    outcomes: dict[Stage, StageOutcome],
    records: dict[Stage, Record | None],
) -> Iterator[Note]:
    """Signs of trouble in the logs of the stages that succeeded."""
    for part in stages:
        if part.tone != "good":
            continue
        record, outcome = records[part.stage], outcomes.get(part.stage)
        log = record.log.file if record and record.log else f"{LOGS}/{part.stage}-{part.pod}.log"
        found = signs_in(folder / log, folder) or (outcome.notes if outcome else ())
        yield from (Note(part.stage, text.removeprefix("succeeded, but ")) for text in found[:_MOST_NOTES])


def _files(folder: Path, records: dict[Stage, Record | None]) -> list[FileRow]:
    rows = []
    for stage, record in records.items():
        digests = dict(record.outputs) if record else {}
        if record and record.log:
            digests[record.log.file] = record.log
        for name, digest in list(digests.items())[:_MOST_FILES]:
            state = compared(folder, name, digest)
            is_changed = record is not None and name in record.changed
            rows.append(FileRow(stage, name[:_LONGEST_NAME], digest.bytes, digest.sha256, state, is_changed))
    return rows


def _logs(folder: Path, stages: tuple[Stage, ...], failed: set[Stage]) -> tuple[Log, ...]:
    """The end of every log, in the order of the stages; the page opens those of failed stages."""
    found = []
    for stage in stages:
        for path in logs_of(folder, stage):
            lines, size = files.tail(path, _LOG_LINES, _LOG_BYTES, folder)
            cut = size > _LOG_BYTES or len(lines) == _LOG_LINES
            found.append(Log(path.name, lines, cut, stage in failed))
    return tuple(found[:_MOST_LOGS])
