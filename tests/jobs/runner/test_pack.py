"""Several runs in one container, one after the other."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobrelay_runner.command.pack import PACK_FILE, Pack, PackedRun, PackedStage
from jobrelay_runner.command.specification import Specification, StageSpecification
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import Record, read_record
from tests.support import REPOSITORY
from tests.support.volume import clean_environment, finish, read_until


class Packed:
    """A pack of runs r0, r1 … whose stage `a` runs these shell programs; stage `b` writes its run's name."""

    def __init__(self, here: Path, *programs: str, retries: int = 0) -> None:
        self.here = here
        runs = []
        for number, program in enumerate(programs):
            stages = {
                "a": PackedStage(["sh", "-c", program], {"NUMBER": str(number)}, retries),
                "b": PackedStage(["sh", "-c", "echo $JOBRELAY_RUN $NUMBER > b"]),
            }
            hashes = {
                name: StageSpecification(hashlib.sha256(f"{name} {program}".encode()).hexdigest())
                for name in stages
            }
            runs.append(PackedRun(f"r{number}", Specification(["a", "b"], hashes), stages))
        (here / PACK_FILE).write_bytes(Pack(runs).to_bytes())

    def start(self, stage: str) -> subprocess.Popen[bytes]:
        variables = {
            "JOBRELAY_CONFIG": str(self.here / "pipeline.json"),
            "JOBRELAY_VOLUME": str(self.here / "volume"),
            "PYTHONPATH": str(REPOSITORY / "jobs"),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "jobrelay_runner", "pack", stage],
            env={**clean_environment(), **variables},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def do(self, stage: str, expect: int = 0) -> str:
        ended = finish(self.start(stage))
        assert ended.code == expect, (ended.out, ended.err)
        return ended.out

    def folder(self, number: int) -> RunFolder:
        return RunFolder(self.here / "volume", f"r{number}")

    def record(self, number: int, stage: str) -> Record | None:
        folder = self.folder(number)
        return read_record(folder.record(stage), root=folder.root)


def test_each_run_has_its_own_workspace_record_log_and_variables(tmp_path: Path) -> None:
    pack = Packed(tmp_path, "echo one $NUMBER; pwd > here", "echo two $NUMBER; pwd > here")
    out = pack.do("a")
    assert [line for line in out.splitlines() if line] == [
        "--- a of r0", "one 0", "--- a of r1", "two 1",
    ]  # fmt: skip
    for number, word in enumerate(("one", "two")):
        record = pack.record(number, "a")
        assert record is not None
        assert (record.run, record.status, list(record.outputs)) == (
            f"r{number}",
            "succeeded",
            ["workspace/here"],
        )
        assert record.log is not None
        assert (pack.folder(number).path / record.log.file).read_text() == f"{word} {number}\n"
        assert (pack.folder(number).workspace / "here").read_text().strip().endswith(f"r{number}/workspace")


def test_a_run_that_fails_goes_no_further_and_the_others_do(tmp_path: Path) -> None:
    pack = Packed(tmp_path, "true", "echo no room >&2; exit 3", "kill -9 $$", "true")
    pack.do("a")
    pack.do("b")
    codes = [record.exit_code for number in range(4) if (record := pack.record(number, "a"))]
    assert codes == [0, 3, 137, 0]
    assert [pack.record(number, "b") is not None for number in range(4)] == [True, False, False, True]
    failed = pack.record(1, "a")
    assert failed is not None
    assert failed.error == "ended with exit code 3: no room"


def test_a_second_time_does_what_is_left(tmp_path: Path) -> None:
    pack = Packed(tmp_path, "echo x >> ../../x", "test -e ../../go")
    pack.do("a")
    (tmp_path / "volume/runs/go").touch()
    out = pack.do("a")
    assert "nothing to do" in out
    assert "attempt 2" in out
    assert (tmp_path / "volume/runs/x").read_text() == "x\n"
    second = pack.record(1, "a")
    assert second is not None
    assert second.status == "succeeded"


def test_retries_are_of_each_run(tmp_path: Path) -> None:
    pack = Packed(tmp_path, "echo x >> ../../x; exit 1", "true", retries=2)
    pack.do("a")
    assert (tmp_path / "volume/runs/x").read_text() == "x\n" * 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_run_that_works_and_no_other_starts(
    tmp_path: Path, number: signal.Signals
) -> None:
    pack = Packed(tmp_path, "trap 'echo saved; exit 0' TERM; echo works; sleep 60 & wait", "touch never")
    process = pack.start("a")
    read_until(process, b"works")
    process.send_signal(number)
    ended = finish(process)
    assert ended.code == 143
    assert "saved" in ended.out
    assert pack.record(1, "a") is None


def test_a_pack_that_cannot_be_read(tmp_path: Path) -> None:
    pack = Packed(tmp_path, "true")
    (tmp_path / PACK_FILE).write_bytes(b"no")
    assert not pack.do("a", expect=78)
    assert [path.name for path in tmp_path.iterdir()] == [PACK_FILE]
