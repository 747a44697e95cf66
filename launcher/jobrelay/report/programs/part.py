"""The part of a run's page about the programs that it ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobrelay.report.programs.charts import Histories, histories
from jobrelay.report.programs.documents import Documents, documents
from jobrelay.report.programs.facts import Facts, Metrics, Source, facts_of, metrics_of, source_of
from jobrelay.report.programs.images import Gallery, gallery_of
from jobrelay.report.programs.written import is_program, written_files
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.record import Record

#: How the local executor calls its place.
_LOCAL = "this machine"


@dataclass(frozen=True)
class ProgramsPart:
    facts: tuple[Facts, ...]
    source: Source
    metrics: Metrics
    histories: Histories
    gallery: Gallery
    documents: Documents


def programs_part(folder: Path, records: Mapping[Stage, Record | None], place: str) -> ProgramsPart | None:
    """What to show of the stages of a run that ran programs; None if there are none.

    records: in the order of the stages, of those that the run reached.
    """
    own = {stage: record for stage, record in records.items() if record and is_program(record)}
    if not own:
        return None
    written = written_files(folder, own)
    is_local = place.startswith(_LOCAL)
    return ProgramsPart(
        facts=tuple(facts_of(stage, record, is_local=is_local) for stage, record in own.items()),
        source=source_of(own),
        metrics=metrics_of(own),
        histories=histories(folder, written),
        gallery=gallery_of(folder, written),
        documents=documents(folder, written),
    )
