"""The supervisor over stages that do little, or harm: output, signals, endings, records."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jobrelay_runner.volume.inputs import changed
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import Record, parse_closing, read_record
from tests.support import PATIENCE, eventually
from tests.support.volume import REPOSITORY, Ended, finish, is_running, read_until

#: Supervises a stage of a few lines, in place of the one that would import torch.
PROGRAM = """
import os, signal, subprocess, sys, time
from pathlib import Path
from jobrelay_runner import supervisor
from jobrelay_runner.context import Program, StageResult
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.errors import BadInput

def stage(context, stop):
{body}
    return StageResult(metrics={{"loss": 0.5}})

program = Program(None, "0" * 64, (), lambda: stage)
termination = Path(sys.argv[1]).parent / "termination"
folder = RunFolder(Path(sys.argv[1]), "a")
{before}
index = int(sys.argv[3])
sys.exit(supervisor.supervise("train", program, folder, sys.argv[2], termination, index))
"""


class Supervised:
    def __init__(self, root: Path) -> None:
        self.folder = RunFolder(root, "a")
        self.termination = root.parent / "termination"

    def start(
        self, body: str, before: str = "", pod: str = "pod-1", index: int = 0
    ) -> subprocess.Popen[bytes]:
        program = PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), "    "), before=before)
        return subprocess.Popen(
            [sys.executable, "-c", program, str(self.folder.root), pod, str(index)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def do(self, body: str, before: str = "", pod: str = "pod-1", index: int = 0) -> Ended:
        return finish(self.start(body, before, pod, index))

    @property
    def record(self) -> Record:
        record = read_record(self.folder.record("train"))
        assert record is not None
        return record

    @property
    def log(self) -> bytes:
        assert self.record.log is not None
        return (self.folder.path / self.record.log.file).read_bytes()


@pytest.fixture
def supervised(tmp_path: Path) -> Supervised:
    return Supervised(tmp_path / "volume")


@pytest.mark.parametrize(
    ("body", "expected", "lines"),
    [
        ("print('one'); print('two', file=sys.stderr); print('three')", b"one\ntwo\nthree\n", 3),
        ("os.write(1, b'torn \\xc3'); os.write(2, b'\\xff\\x00\\n')", b"torn \xc3\xff\x00\n", 1),
        ("os.write(1, b'10%\\r20%\\r')", b"10%\r20%\r", 1),
        ("print('no end', end='')", b"no end", 1),
        ("print('\\udce4 …')", "\\udce4 …\n".encode(), 1),
        ("pass", b"", 0),
        ("os.write(1, b'x' * 1_000_000)", b"x" * 1_000_000, 1),
        ("subprocess.run(['sh', '-c', 'echo from a child'])", b"from a child\n", 1),
    ],
)
def test_rows_43_and_44_the_log_is_byte_for_byte_what_was_printed(
    supervised: Supervised, body: str, expected: bytes, lines: int
) -> None:
    ended = supervised.do(body)

    assert (ended.code, ended.raw, ended.err) == (0, expected, "")
    assert supervised.log == expected
    log = supervised.record.log
    assert log is not None
    assert (log.file, log.bytes, log.lines) == ("logs/train-pod-1.log", len(expected), lines)
    assert log.sha256 == hashlib.sha256(expected).hexdigest()


def test_the_record_tells_how_it_ended_and_the_termination_message_says_it_in_short(
    supervised: Supervised,
) -> None:
    supervised.do("print('hello')")

    record = supervised.record
    assert (record.status, record.exit_code, record.error, record.attempt) == ("succeeded", 0, None, 1)
    assert record.metrics == {"loss": 0.5}
    assert record.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record.cost is not None
    assert record.cost.peak_memory_bytes > 1024 * 1024
    closing = parse_closing(supervised.termination.read_text())
    assert closing is not None
    assert (closing.exit_code, closing.skipped, closing.metrics) == (0, False, {"loss": 0.5})
    assert closing.log == record.log


def test_row_54_sigterm_while_the_stages_end_is_collected(supervised: Supervised) -> None:
    wait = """
from jobrelay_runner import process

def waitpid(pid, options):
    ended = original(pid, options)
    if ended[0]:
        os.kill(os.getpid(), signal.SIGTERM)
    return ended

original, process.os.waitpid = os.waitpid, waitpid
"""
    ended = supervised.do("print('done')", before=wait)

    assert (ended.code, ended.out, ended.err) == (0, "done\n", "")
    assert supervised.record.status == "succeeded"


def test_nobody_looks_for_garbage_among_modules(supervised: Supervised) -> None:
    imports = (
        "import gc; load = lambda: (print('imports:', gc.isenabled()), stage)[1];"
        "program = Program(None, program.config_hash, (), load)"
    )

    supervised.do("print('works:', gc.isenabled(), gc.get_freeze_count() > 1_000)", before=imports)

    assert supervised.log == b"imports: False\nworks: True True\n"


def test_a_metric_that_is_no_number_is_left_out(supervised: Supervised) -> None:
    ended = supervised.do("return StageResult(metrics={'loss': float('nan'), 'acc': float('inf'), 'n': 2.0})")

    assert (ended.code, ended.err) == (0, "")
    assert supervised.record.metrics == {"n": 2.0}


def test_while_it_runs_the_record_says_so(supervised: Supervised) -> None:
    process = supervised.start("print('ready'); time.sleep(60)")
    read_until(process, b"ready")

    assert supervised.record.status == "running"
    process.send_signal(signal.SIGTERM)
    finish(process)


@pytest.mark.parametrize(
    ("body", "code", "error", "printed"),
    [
        (
            "raise BadInput('no such thing; do this')",
            78,
            "no such thing; do this",
            "train: no such thing; do this\n",
        ),
        ("raise OSError(28, 'No space left on device')", 1, "cannot write", "make room on the volume"),
        ("raise OSError(5, 'Input/output error', '/v/x')", 1, "cannot use /v/x: Input", "this may pass"),
        ("raise PermissionError(13, 'Permission denied', '/v/x')", 78, "cannot write /v/x as uid", "fsGroup"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero", "Traceback"),
        ("os._exit(7)", 7, "exit code 7 and gave no reason", "train: ended with exit code 7"),
        ("os._exit(0)", 1, "exit code 0 and gave no reason", "train: ended with exit code 0"),
        ("sys.exit(3)", 1, "exit code 1 and gave no reason", "SystemExit: 3"),
        ("os._exit(255)", 255, "exit code 255 and gave no reason", "train: ended with exit code 255"),
        ("os.kill(os.getpid(), 9)", 137, "killed by signal 9 (out of memory?)", "train: killed by signal 9"),
        ("os.kill(os.getpid(), 11)", 139, "killed by signal 11", "Segmentation fault"),
    ],
)
def test_row_26_every_ending_has_its_exit_code_and_its_record(
    supervised: Supervised, body: str, code: int, error: str, printed: str
) -> None:
    ended = supervised.do(body)

    assert ended.code == code
    assert printed in ended.out
    assert ended.raw == supervised.log
    assert (supervised.record.status, supervised.record.exit_code) == ("failed", code)
    assert error in (supervised.record.error or "")
    closing = parse_closing(supervised.termination.read_text())
    assert closing is not None
    assert (closing.exit_code, closing.error) == (code, supervised.record.error)


def test_an_expected_error_has_no_traceback(supervised: Supervised) -> None:
    assert "Traceback" not in supervised.do("raise BadInput('no')").out


def test_row_54_sigterm_that_comes_again_interrupts_neither_the_end_nor_is_it_ignored(
    supervised: Supervised,
) -> None:
    late = """
from jobrelay_runner.signals import StopRequest

def ignore(stop):
    os.kill(os.getpid(), signal.SIGTERM)
    original(stop)

original, StopRequest.ignore = StopRequest.ignore, ignore
"""
    ended = supervised.do(
        """
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            print("swallowed, as some library does")
        os.kill(os.getpid(), signal.SIGTERM)
        """,
        before=late,
    )

    assert (ended.code, supervised.record.error) == (143, "stopped by SIGTERM")
    assert "Traceback" not in ended.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_row_54_a_signal_reaches_the_stage_as_sigterm(supervised: Supervised, number: signal.Signals) -> None:
    process = supervised.start("print('ready'); time.sleep(60)")
    read_until(process, b"ready")
    process.send_signal(number)

    ended = finish(process)

    assert ended.code == 143
    assert ended.out == "train: stopped by SIGTERM\n"
    assert supervised.record.error == "stopped by SIGTERM"


def test_row_54_a_signal_before_the_stage_has_begun_is_not_lost(supervised: Supervised) -> None:
    before = "supervisor.hold_signals(); os.kill(os.getpid(), signal.SIGTERM)"

    ended = supervised.do("time.sleep(60)", before)

    assert ended.code == 143


def test_what_the_stage_left_running_does_not_keep_it_from_ending(supervised: Supervised) -> None:
    ended = supervised.do("print(subprocess.Popen(['sleep', '600']).pid)")

    assert ended.code == 0
    with eventually() as until:
        until(lambda: not is_running(int(ended.out)))


def test_a_process_that_has_left_the_group_is_told_of_and_left_alone(supervised: Supervised) -> None:
    ended = supervised.do("print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)")

    assert ended.code == 0
    pid, told = ended.out.splitlines()
    assert "outlived the stage" in told
    os.kill(int(pid), signal.SIGKILL)


def test_the_stage_goes_on_when_nobody_reads_its_output(supervised: Supervised) -> None:
    process = supervised.start("print('ready')\nfor i in range(100): print(i); time.sleep(0.001)")
    read_until(process, b"ready")
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=PATIENCE)
    assert process.stderr is not None
    process.stderr.close()

    assert process.returncode == 0
    assert supervised.log.endswith(b"98\n99\n")
    assert supervised.record.status == "succeeded"
    assert "standard output ends early: Broken pipe" in (supervised.record.error or "")


def test_row_53_a_log_that_cannot_be_written_does_not_stop_the_stage(supervised: Supervised) -> None:
    # /dev/full refuses every byte as a full disk does.
    before = """
from jobrelay_runner import log as tee

def full(folder, stage, pod):
    file = open("/dev/full", "wb", buffering=0)
    file.name = str(folder.log(stage, pod))
    return file

tee.StageLog._open = staticmethod(full)
"""

    ended = supervised.do("print('hello')", before)

    assert (ended.code, ended.out) == (0, "hello\n")
    assert "ends early: No space left on device" in (supervised.record.error or "")


def test_a_record_that_cannot_be_written_is_a_failure(supervised: Supervised) -> None:
    # The folder goes away under the stage, as a volume may.
    ended = supervised.do("import shutil; shutil.rmtree(context.folder.path)")

    assert ended.code == 1
    assert "cannot write the record" in ended.out
    closing = parse_closing(supervised.termination.read_text())
    assert closing is not None
    assert closing.exit_code == 1


def test_data_of_too_many_files_for_a_record_is_listed_beside_it(supervised: Supervised) -> None:
    folder = supervised.folder.root / "data" / "clothes"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}.png").write_text(str(number))
    few = "from jobrelay_runner import recording; recording._MOST_INPUTS = 3"
    work = """
        from jobrelay_runner.volume.record import FileDigest
        (context.folder.path / "model.pt").write_text("weights")
        data = [context.folder.root / "data/clothes" / f"{number}.png" for number in range(4)]
        print("at work")
        return StageResult(inputs=context.digests(context.folder.path / "model.pt", *data))
        """
    assert supervised.do(work, few).code == 0
    assert list(supervised.record.inputs) == ["model.pt"]
    assert list(supervised.record.outputs) == ["train-inputs.jsonl"]
    assert changed(supervised.folder, supervised.record) == []
    assert "at work" not in supervised.do(work, few).out

    (folder / "2.png").write_text("another one")
    assert changed(supervised.folder, supervised.record) == ["data/clothes/2.png"]
    assert "data/clothes/2.png changed since; the stage runs again" in supervised.do(work, few).out


def test_attempts_are_counted_and_keep_their_logs(supervised: Supervised) -> None:
    first = supervised.do("raise BadInput('once')")
    second = supervised.do("raise BadInput('twice')")
    third = supervised.do("print('done')")

    assert supervised.record.attempt == 3
    assert third.out == "train: attempt 3\ndone\n"
    logs = supervised.folder.logs
    assert (logs / "train-pod-1.log").read_bytes() == first.raw
    assert (logs / "train-pod-1-2.log").read_bytes() == second.raw
    assert (logs / "train-pod-1-3.log").read_bytes() == third.raw


def test_what_is_done_is_not_done_again(supervised: Supervised) -> None:
    supervised.do("print('done')")
    before = supervised.folder.record("train").read_bytes()

    ended = supervised.do("print('again')")

    assert ended.code == 0
    assert ended.out.startswith("train: nothing to do: done on ")
    assert supervised.folder.record("train").read_bytes() == before
    closing = parse_closing(supervised.termination.read_text())
    assert closing is not None
    assert (closing.skipped, closing.metrics) == (True, {"loss": 0.5})
    assert closing.log.sha256 == hashlib.sha256(ended.raw).hexdigest()


def test_what_is_done_is_not_done_again_while_the_volume_does_not_answer(supervised: Supervised) -> None:
    work = """
        from jobrelay_runner.volume.record import FileDigest
        file = context.folder.path / "file"
        file.write_text("content")
        print("at work")
        return StageResult(outputs={"file": FileDigest.of(file)})
        """
    silent = """
import errno
from jobrelay_runner.volume import record

def silent(path, **_):
    raise OSError(errno.ESTALE, "Stale file handle", str(path))

record.open_regular = silent
"""
    assert supervised.do(work).code == 0

    ended = supervised.do(work, before=silent)

    assert ended.code == 1
    assert "at work" not in ended.out
    assert "/file: Stale file handle; this may pass" in ended.out


def test_a_damaged_record_is_told_of_and_replaced(supervised: Supervised) -> None:
    supervised.do("pass")
    supervised.folder.record("train").write_text("{")

    ended = supervised.do("print('again')")

    assert ended.code == 0
    assert "is not a readable record" in ended.out
    assert ended.out.endswith("again\n")
    assert supervised.record.status == "succeeded"


def test_a_supervisor_that_is_killed_takes_the_stage_along(supervised: Supervised) -> None:
    process = supervised.start("print(os.getpid()); time.sleep(60)")
    pid = int(read_until(process, b"\n"))
    process.kill()

    finish(process)  # reads to the end of the output: nobody holds it any more

    assert supervised.record.status == "running"
    with eventually() as until:  # its files are closed a moment before it has ended
        until(lambda: not is_running(pid))


def test_a_volume_that_cannot_be_written_is_bad_input(supervised: Supervised) -> None:
    # As a user who may not write there; root may everywhere.
    folder = supervised.folder.root
    folder.mkdir(mode=0o555)
    before = "os.getuid() == 0 and os.setuid(65534)"

    ended = supervised.do("pass", before)

    assert ended.code == 78
    assert f"cannot write {folder}" in ended.err
    assert "as uid " in ended.err
    assert "fsGroup" in ended.err


def test_a_file_in_the_place_of_the_volume_is_bad_input(supervised: Supervised) -> None:
    supervised.folder.root.write_text("")

    ended = supervised.do("pass")

    assert ended.code == 78
    assert "is in the way" in ended.err
