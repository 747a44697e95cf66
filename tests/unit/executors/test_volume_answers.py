"""What the Pod that reads the volume may answer: anything, its image is not ours to trust."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrelay.cli import main as cli
from jobrelay.errors import EvidenceIncomplete, Exit, JobRelayError
from jobrelay.executors.cluster.volume import VolumePod, answers
from jobrelay.executors.cluster.volume.starting import StartReporter
from jobrelay.manifests import Reader
from jobrelay.runs import results
from jobrelay.runs.target import Target
from jobrelay.verdicts import Deadline, JobView, Verdict, Waiting
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.records import list_runs
from jobrelay_runner.volume.verify import check_run
from jobrelay_train.config.schema import STAGES
from tests.support import PATIENCE, eventually
from tests.support import objects as o

GOOD = [{"what": what, "good": True, "found": "yes"} for what in (*STAGES, "checkpoint")]


def lines(*trees: Any) -> bytes:
    return b"".join(json.dumps(tree).encode() + b"\n" for tree in trees)


class Execution:
    def __init__(self, chunks: Sequence[bytes], code: int, stderr: bytes) -> None:
        self.chunks, self.code, self.stderr = chunks, code, stderr

    def stdout(self) -> Iterator[bytes]:
        yield from self.chunks

    def finish(self) -> int:
        return self.code


class Api:
    """Every command but `exists` ends so."""

    def __init__(
        self, chunks: Sequence[bytes] = (), code: int = 0, stderr: bytes = b"", there: int = 0
    ) -> None:
        self.chunks, self.code, self.stderr, self.there = chunks, code, stderr, there

    def execute(self, path: str, command: list[str], stdin: object = None) -> Execution:
        if "exists" in command:
            return Execution([], self.there, self.stderr)
        return Execution(self.chunks, self.code, self.stderr)


def pod(*chunks: bytes, **ends: Any) -> VolumePod:
    return VolumePod(Api(chunks, **ends), "ns", "claim", Reader("image"), lambda objects: None)  # type: ignore[arg-type]


class Executor:
    def __init__(self, volume: VolumePod) -> None:
        self._volume = volume

    def place(self) -> str:
        return "here"

    def jobs(self, run: str | None = None) -> Any:
        return [(o.job(stage), []) for stage in STAGES]

    def volume(self, run: str | None = None) -> Any:
        return contextlib.nullcontext(self._volume)


def verify(monkeypatch: pytest.MonkeyPatch, *chunks: bytes) -> int:
    monkeypatch.setattr(Target, "executor", lambda self: Executor(pod(*chunks)))
    return cli.main(["verify", "a"])


def test_a_run_without_a_record_is_one_bad_check(tmp_path: Path) -> None:
    (found,) = check_run(RunFolder(tmp_path, "a"))
    assert (found.what, found.good, found.found) == ("stages", False, "no record: no stage has run")


def test_a_whole_answer_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify(monkeypatch, lines(*GOOD)) == Exit.SUCCEEDED


@pytest.mark.parametrize(
    "answer",
    [b"", b"\n", b"nonsense\n", b"[]\n", b"{}\n", b"[" * 100_000, lines(*GOOD)[:-10], b"\xff\xfe\n"],
    ids=["nothing", "an-empty-line", "words", "a-list", "a-tree", "deep", "torn", "bytes"],
)
def test_row_55_an_answer_that_says_nothing_verifies_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: bytes
) -> None:
    assert verify(monkeypatch, answer) == Exit.INCOMPLETE
    assert "the Pod that reads the volume was asked for the check of a run" in capsys.readouterr().err


def test_row_55_what_was_not_answered_is_not_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify(monkeypatch, lines(*GOOD[:2])) == Exit.INCOMPLETE
    checks = results.check(Executor(pod(lines(*GOOD[:2]))), "a")  # type: ignore[arg-type]
    assert [(check.what, check.found) for check in checks if not check.good] == [("infer", "no answer")]


def test_row_57_an_answer_without_an_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_BYTES", 2**20)
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 65536
            yield b"x" * 65536

    volume = pod()
    volume._api.chunks = endless()  # type: ignore[attr-defined]
    with pytest.raises(EvidenceIncomplete, match="answered more than 1 MiB"):
        volume.runs()
    assert taken <= 2**20 + 2 * 65536


@pytest.mark.parametrize(
    "run",
    [{"run": "a"}, {"run": 5, "records": {}}, {"run": "a", "records": {"eval": {"status": "succeeded"}}},
     {"run": "", "records": {}}, {"run": "a", "records": []}, {"run": "a", "records": {"train": 7}}],
)  # fmt: skip
def test_a_list_of_runs_that_is_none(run: Any) -> None:
    with pytest.raises(EvidenceIncomplete, match="was asked for what is on the volume and answered"):
        pod(lines(run)).runs()


def test_a_list_of_runs_comes_as_it_was_sent(tmp_path: Path) -> None:
    (tmp_path / "runs/a/logs").mkdir(parents=True)
    (tmp_path / "runs/a/logs/train-p.log").touch()
    (tmp_path / "runs/a/train.json").write_text("nonsense")
    (tmp_path / "runs/b").mkdir()
    sent = list_runs(tmp_path)
    (known, other) = pod(lines(*sent)).runs()
    assert known["records"]["train"]["status"] == "failed"
    assert "not a readable record" in known["records"]["train"]["error"]
    assert other == sent[1]
    assert (other["run"], other["records"]) == ("b", {})


@settings(max_examples=200)
@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["run", "records", "train", "status", "error", "what", "good", "found"]),
        inner, max_size=4,
    ),
).map(lines))  # fmt: skip
def test_whatever_is_answered_is_read_or_refused(answer: bytes) -> None:
    for ask in (lambda: pod(answer).runs(), lambda: pod(answer).check("a")):
        with contextlib.suppress(EvidenceIncomplete):
            ask()


@pytest.mark.parametrize(
    ("code", "stderr"), [(127, b"python: not found"), (2, b""), (1, b"exists: Input/output error")]
)
def test_what_cannot_be_looked_for_is_not_taken_for_absent(code: int, stderr: bytes) -> None:
    with pytest.raises(EvidenceIncomplete, match="cannot find out whether data/x is on the volume"):
        pod(there=code, stderr=stderr).exists("data/x")
    assert pod(there=0).exists("data/x")
    assert not pod(there=1).exists("data/x")


def test_row_51_data_that_is_not_there_after_all_was_not_put(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(EvidenceIncomplete, match="could not be put on the volume: data/x is not there"):
        pod(there=1).receive({"file": tmp_path / "file"}, "data/x")


def test_a_program_that_is_not_in_the_image_is_no_failure_of_a_stage() -> None:
    class NotThere(Execution):
        def finish(self) -> int:
            raise JobRelayError('the command could not be run: exec: "python": executable file not found')

    volume = pod()
    volume._api.execute = lambda *_: NotThere([], 0, b"")  # type: ignore[method-assign, context, return-value]
    for ask in (volume.runs, lambda: volume.exists("runs/a"), lambda: volume.check("a")):
        with pytest.raises(EvidenceIncomplete, match="executable file not found") as error:
            ask()
        assert "--image" in str(error.value.hint)


def test_many_words_of_a_command_are_cut() -> None:
    with pytest.raises(EvidenceIncomplete) as error:
        pod(code=1, stderr=b"x" * 60_000 + b" the end").runs()
    assert len(error.value.what) < 1200
    assert error.value.what.endswith(" the end")


# --- while it does not start ---------------------------------------------------------------------


def test_row_35_what_the_pod_waits_for_is_reported_once_and_until_when() -> None:
    said: list[str] = []
    limit = Deadline("schedule", 300, Verdict(Exit.COULD_NOT_START, "could not start", "Unschedulable", "no"))
    waiting = Waiting("scheduling", "0/2 nodes are available", "p", (limit,))
    with StartReporter(said.append, "jobrelay-volume-1") as reporter:
        reporter.notice(JobView(None), Waiting("starting"))
        reporter.notice(JobView(None), waiting)
        reporter.notice(JobView(None), waiting)
        later = replace(waiting, detail="0/2 nodes are available: one is new")
        reporter.notice(JobView(None), later)
    line, other = said
    assert line[:25] == other[:25]  # another cause is no other limit
    told = r"  waiting until \d\d:\d\d:\d\d for Pod jobrelay-volume-1, which reads the volume: 0/2 nodes .*"
    assert re.fullmatch(told, line)


def test_row_35_a_pod_that_does_not_start_and_says_nothing_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobrelay.executors.cluster.limits.SILENCE_SECONDS", 0.0)
    said: list[str] = []
    with StartReporter(said.append, "p"), eventually(PATIENCE) as until:
        until(lambda: bool(said))
    assert said[0].endswith("for Pod p, which reads the volume: it has not started yet")
