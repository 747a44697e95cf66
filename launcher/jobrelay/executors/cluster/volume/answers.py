"""Validate the volume Pod's answers: neither its image nor the files it reads are trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from jobrelay.errors import EvidenceIncomplete
from jobrelay.kube.objects import Object
from jobrelay_runner.stages import Stage, check_stage
from jobrelay_runner.volume.datasets import DataSet
from jobrelay_runner.volume.record import Record
from jobrelay_runner.volume.verify import Check

T = TypeVar("T")

#: Limit for a list of runs; one run takes some ten kilobytes.
MOST_BYTES: Final = 64 * 2**20
OTHER_IMAGE: Final = "give it an image of this version of JobRelay with --image"
_LONGEST_NAME: Final = 255
_MOST_WORDS: Final = 1000


def bounded(chunks: Iterable[bytes], what: str) -> bytes:
    """Read a whole answer. Raises EvidenceIncomplete beyond MOST_BYTES, before keeping it."""
    answer = bytearray()
    for chunk in chunks:
        answer += chunk
        if len(answer) > MOST_BYTES:
            raise _unusable(what, f"more than {MOST_BYTES // 2**20} MiB")
    return bytes(answer)


def runs_in(answer: bytes) -> list[Object]:
    """The runs of `volume list`: {"run": …, "records": {stage: …}}. Raises EvidenceIncomplete."""
    return [_read(line, _run, "what is on the volume") for line in answer.splitlines()]


def checks_in(answer: bytes) -> list[Check]:
    """The checks of `volume check`, at least one. Raises EvidenceIncomplete."""
    checks = [_read(line, Check.from_json, "the check of a run") for line in answer.splitlines()]
    if not checks:
        raise _unusable("the check of a run", "nothing")
    return checks


def data_sets_in(answer: bytes) -> list[DataSet]:
    """The data sets of `volume data`. Raises EvidenceIncomplete."""
    return [_read(line, DataSet.from_json, "the data sets") for line in answer.splitlines()]


def names_in(answer: bytes) -> dict[Stage, list[str]]:
    """The names of `volume changed`, by stage. Raises EvidenceIncomplete."""
    return _read(answer, _names, "the data of a run")


def words(stderr: bytes) -> str:
    """A command's stderr as text, shortened to its last characters."""
    text = stderr.decode("utf-8", "replace").strip()
    return text if len(text) <= _MOST_WORDS else f"…{text[-_MOST_WORDS:]}"


def _run(line: bytes) -> Object:
    tree = json.loads(line)
    run, records = tree["run"], tree["records"]
    if not isinstance(run, str) or not 0 < len(run) <= _LONGEST_NAME or not isinstance(records, dict):
        raise ValueError("a run without name or records")
    known = {stage: _record(records[stage]) for stage in map(check_stage, records)}
    return {"run": run, "records": known, "changed": str(tree.get("changed", ""))[:_LONGEST_NAME]}


def _names(answer: bytes) -> dict[Stage, list[str]]:
    tree = json.loads(answer)
    return {stage: [str(name) for name in tree[stage]] for stage in map(check_stage, tree)}


def _record(tree: Object) -> Object:
    if tree.keys() == {"status", "error"}:  # a record that cannot be read
        return {"status": "failed", "error": str(tree["error"])[:_MOST_WORDS]}
    return Record.from_dict(tree).without_files()


def _read(line: bytes, parse: Callable[[bytes], T], what: str) -> T:
    try:
        return parse(line)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(what, repr(line[:60].decode("utf-8", "replace"))) from error


def _unusable(what: str, answer: str) -> EvidenceIncomplete:
    return EvidenceIncomplete(
        f"the Pod that reads the volume was asked for {what} and answered {answer}",
        OTHER_IMAGE,
    )
