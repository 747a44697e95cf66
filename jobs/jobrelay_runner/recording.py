"""The record of a stage: what an earlier attempt left, and what this one writes."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from jobrelay_runner import __version__
from jobrelay_runner.context import StageContext
from jobrelay_runner.stages import Stage
from jobrelay_runner.termination import LastWords
from jobrelay_runner.usage.clock import now
from jobrelay_runner.volume.inputs import as_lines, changed, listings
from jobrelay_runner.volume.record import FileDigest, Record, RecordError, read_record, verified
from jobrelay_runner.volume.records import files_of, read_records, redone_since

#: Names in a record, which is always read as a whole (jobrelay_runner.volume.safe_read.RECORD_BYTES).
_MOST_INPUTS: Final = 10_000


@dataclass(frozen=True)
class Recorder:
    """Reads and makes the records of one stage of one run."""

    context: StageContext[Any]
    last_words: LastWords

    def previous(self) -> Record | None:
        try:
            folder = self.context.folder
            return read_record(folder.record(self.context.stage), root=folder.root)
        except RecordError as error:
            self.last_words.say(f"{error}; the stage runs as if there were no record")
            return None

    def is_done(self, record: Record) -> bool:
        """Whether exactly this work is done and all its files exist. Raises OSError if it cannot tell now."""
        if record.status != "succeeded" or record.config_hash != self.context.config_hash:
            return False
        folder = self.context.folder.path
        found = read_records(folder, root=self.context.folder.root)
        digests = {**record.inputs, **files_of({**found, record.stage: record}, record.stage)}
        others = [name for name, digest in digests.items() if not verified(folder / name, digest)]
        others = others or [f"stage {stage}" for stage in redone_since(record, found)]
        others = others or changed(self.context.folder, record, hash_all=False)
        if others:
            self.last_words.say(f"done before, but {', '.join(others)} changed since; the stage runs again")
        return not others

    def begin(self, previous: Record | None) -> Record:
        """Make the record of a running stage; an attempt after an unfinished or failed one is counted on."""
        config_hash = self.context.config_hash
        attempt = 1
        if previous is not None and previous.config_hash == config_hash and previous.status != "succeeded":
            attempt = previous.attempt + 1
            self.last_words.say(f"attempt {attempt}")
        order = list(self.context.program.pipeline)
        earlier = self._earlier_records(order[: order.index(self.context.stage)] if order else [])
        return Record(
            run=self.context.folder.run,
            stage=self.context.stage,
            status="running",
            pod=self.context.pod,
            attempt=attempt,
            config_hash=config_hash,
            started=now(),
            pipeline=order,
            after={stage: record.attempt_id for stage, record in earlier.items()},
            means=dict(self.context.program.means),
            listings=listings(self.context.folder.root, self.context.program.folders),
        )

    def _earlier_records(self, stages: list[Stage]) -> dict[Stage, Record]:
        found = {}
        for stage in stages:
            with contextlib.suppress(RecordError):
                if record := read_record(self.context.folder.record(stage), root=self.context.folder.root):
                    found[stage] = record
        return found

    def ended(self, running: Record, code: int, error: str | None, report: Mapping[str, Any]) -> Record:
        """Make the record of a stage that has ended from the report of its process."""
        inputs, lists = self._kept_inputs(_digests(report.get("inputs", {})))
        return replace(
            running,
            status="succeeded" if code == 0 else "failed",
            finished=now(),
            exit_code=code,
            log=self.last_words.tee.digest(),
            error=error,
            inputs=inputs,
            outputs={**_digests(report.get("outputs", {})), **lists},
            metrics=_finite(report.get("metrics", {})),
            means={**running.means, **report.get("means", {})},
            removed=report.get("removed", []),
            skipped=dict(islice(report.get("skipped", {}).items(), _MOST_INPUTS)),
            cost=self.last_words.meter.cost(),
            moments=report.get("moments", {}),
            versions={
                "jobrelay": __version__,
                "python": ".".join(map(str, sys.version_info[:3])),
                **report.get("versions", {}),
            },
        )

    def write(self, record: Record) -> None:
        path = self.context.folder.record(self.context.stage)
        self.context.fence.write(path, record.to_json(indent=2) + "\n")

    def _kept_inputs(
        self, inputs: dict[str, FileDigest]
    ) -> tuple[dict[str, FileDigest], dict[str, FileDigest]]:
        """Return the inputs for the record, and the file that lists the data's if there are too many."""
        context = self.context
        if len(inputs) <= _MOST_INPUTS:
            return inputs, {}
        data = {name: digest for name, digest in inputs.items() if name.startswith("../")}
        others = {name: digest for name, digest in inputs.items() if name not in data}
        path = context.folder.inputs(context.stage)
        context.fence.write(path, as_lines(data))
        return others, context.digests(path)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leave out NaN and infinity, which JSON does not have."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _digests(reported: Mapping[str, Any]) -> dict[str, FileDigest]:
    return {name: FileDigest.from_dict(digest) for name, digest in reported.items()}
