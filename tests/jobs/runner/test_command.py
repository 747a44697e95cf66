"""Any command as a stage: what the runner observes from outside, and how it reports the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrelay_runner.volume.verify import check_run
from tests.support import eventually
from tests.support.commands import ANY_PYTHON, Pipeline, archive_of, as_user, is_root, outputs
from tests.support.volume import every_process, finish, is_running, read_until
from tests.unit.runner.test_old_pythons import found


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """Stages a, b and c, of which none has run."""
    return Pipeline(tmp_path)


@pytest.fixture
def open_to_all() -> Iterator[Pipeline]:
    """The same, on a volume to which every user may write."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are for one user
        pipeline = Pipeline(Path(folder), python=[ANY_PYTHON])
        pipeline.describe()
        pipeline.here.chmod(0o777)
        (pipeline.folder.root / "runs").chmod(0o777)
        yield pipeline


needs_another_user = pytest.mark.skipif(
    not is_root() or not shutil.which("setpriv"), reason="only root can become another user, with setpriv"
)


# --- what a command leaves ---


def test_files_are_found_by_comparison(pipeline: Pipeline) -> None:
    pipeline.sh("a", "mkdir -p out __pycache__; echo 1 > out/x; echo 2 > kept; touch gone __pycache__/y")
    assert outputs(pipeline.record("a")) == {"out/x", "kept", "gone"}

    pipeline.sh("b", "echo more >> out/x; rm gone; echo 3 > new; cat kept >/dev/null; ln -s new link")
    record = pipeline.record("b")
    assert outputs(record) == {"out/x", "new"}
    assert record.removed == ["workspace/gone"]
    assert record.pipeline == ["a", "b", "c"]
    assert [check.good for check in check_run(pipeline.folder)] == [True, True, False]


def test_a_file_of_the_same_size_is_new_if_it_was_written(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo 1 > x")
    pipeline.sh("b", "echo 2 > x")
    assert outputs(pipeline.record("b")) == {"x"}


def test_names_of_any_bytes(pipeline: Pipeline) -> None:
    names = [b"a b", b"a\nb", "ü".encode(), b"\xff", b"-x", b"*"]
    program = f"import os\nfor name in {names!r}: open(name, 'w').write('x')"
    pipeline.do("a", sys.executable, "-c", program)
    assert {os.fsencode(name) for name in outputs(pipeline.record("a"))} == set(names)
    assert next(check.good for check in check_run(pipeline.folder))


def test_a_command_that_writes_nothing_is_noted(pipeline: Pipeline) -> None:
    ended = pipeline.do("a", "true")
    assert "a: succeeded, but wrote nothing" in ended.out
    assert pipeline.record("a").status == "succeeded"


@needs_another_user
def test_what_nobody_may_read_is_left_out_with_a_note(open_to_all: Pipeline) -> None:
    ended = open_to_all.sh(
        "a", "mkdir dark; touch dark/x good secret; chmod 0 dark secret", prefix=as_user(1234)
    )
    assert outputs(open_to_all.record("a")) == {"good"}
    assert "1 more files changed" in ended.out


@pytest.mark.parametrize(
    ("content", "metrics", "note"),
    [
        ('{"acc": 0.5, "n": 3, "test": {"f1": 1}, "name": "x", "ok": true}',
         {"acc": 0.5, "n": 3.0, "test.f1": 1.0}, ""),
        ('{"a": NaN, "b": 1e999, "c": 2}', {"c": 2.0}, ""),
        (f'{{"big": 1{"0" * 400}, "c": 2}}', {"c": 2.0}, ""),
        ("[1]", {}, "no metrics from m.json: a JSON object is expected"),
        ("{", {}, "no metrics from m.json"),
        ("[" * 100_000, {}, "no metrics from m.json"),
    ],
    ids=["numbers", "not-finite", "huge", "list", "torn", "deep"],
)  # fmt: skip
def test_metrics(pipeline: Pipeline, content: str, metrics: dict[str, float], note: str) -> None:
    pipeline.stages = {"a": {"metrics": "m.json"}}
    (pipeline.here / "m.json").write_text(content)
    ended = pipeline.do("a", "cp", str(pipeline.here / "m.json"), ".")
    assert note in ended.out
    assert pipeline.record("a").metrics == metrics
    assert pipeline.closing()["metrics"] == metrics


def test_metrics_that_are_not_there(pipeline: Pipeline) -> None:
    pipeline.stages = {"a": {"metrics": "m.json"}}
    ended = pipeline.sh("a", "touch x")
    assert "no metrics from m.json" in ended.out
    assert pipeline.record("a").status == "succeeded"


def test_many_metrics_fit_into_the_termination_message(pipeline: Pipeline) -> None:
    pipeline.stages = {"a": {"metrics": "m.json"}}
    (pipeline.here / "m.json").write_text(json.dumps({f"{'x' * 100}{n}": n / 7 for n in range(100)}))
    pipeline.do("a", "cp", str(pipeline.here / "m.json"), ".")
    assert 5 < len(pipeline.closing()["metrics"]) < 40
    assert (pipeline.here / "termination").stat().st_size <= 4096


# --- how it ends ---


@pytest.mark.parametrize("code", [1, 2, 42, 127])
def test_an_exit_code_is_passed_on(pipeline: Pipeline, code: int) -> None:
    pipeline.sh("a", f"exit {code}", expect=code)
    record = pipeline.record("a")
    assert (record.status, record.exit_code, record.error) == ("failed", code, f"ended with exit code {code}")


@pytest.mark.parametrize("code", [65, 69, 75, 76, 78])
def test_exit_codes_of_the_runner_are_its_own(pipeline: Pipeline, code: int) -> None:
    pipeline.sh("a", f"echo why; exit {code}", expect=1)
    record = pipeline.record("a")
    assert (record.exit_code, record.error) == (1, f"ended with exit code {code}: why")
    assert pipeline.closing()["exit_code"] == 1


def test_the_last_line_of_a_traceback_is_the_error(pipeline: Pipeline) -> None:
    pipeline.do("a", sys.executable, "-c", "1 / 0", expect=1)
    assert pipeline.record("a").error == "ended with exit code 1: ZeroDivisionError: division by zero"


def test_a_password_does_not_reach_the_record(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo cannot reach https://me:hunter22@host/x; exit 1", expect=1)
    assert pipeline.record("a").error == "ended with exit code 1: cannot reach https://***@host/x"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_the_end_by_a_signal(pipeline: Pipeline, number: signal.Signals) -> None:
    pipeline.sh("a", f"echo said; kill -{number.value} $$", expect=128 + number)
    record = pipeline.record("a")
    assert record.exit_code == 128 + number
    assert f"killed by signal {number.value}" in str(record.error)


def test_sigterm_reaches_the_program(pipeline: Pipeline) -> None:
    process = pipeline.start(
        "a", "sh", "-c", "trap 'echo saved > x; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    )
    read_until(process, b"up")
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 3
    assert outputs(pipeline.record("a")) == {"x"}


def test_sigterm_reaches_the_programs_of_a_shell_and_they_may_save(pipeline: Pipeline) -> None:
    inner = "trap 'sleep 3; echo saved > x; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    process = pipeline.start("a", "sh", "-c", 'sh -c "$0"; echo after', inner)
    read_until(process, b"up")
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 143
    assert outputs(pipeline.record("a")) == {"x"}


def test_sigterm_ends_a_program_that_does_not_handle_it(pipeline: Pipeline) -> None:
    process = pipeline.start("a", "sh", "-c", "echo up; exec sleep 1000")
    read_until(process, b"up")
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 143
    assert "killed by signal 15" in str(pipeline.record("a").error)


@pytest.mark.parametrize("heeds", [True, False])
def test_the_end_of_its_time_can_be_a_success(pipeline: Pipeline, heeds: bool) -> None:
    own = {"on_timeout": "succeed", "timeout_seconds": 1}
    pipeline.stages = {"a": own, "b": {**own, "timeout_seconds": 600}}
    trap = "" if heeds else "trap '' TERM; "
    ended = pipeline.sh("a", f"{trap}echo 1 > x; for i in $(seq 600); do sleep 0.1; done; echo 2 > x")
    assert "a: its time is over; it ends here, as on_timeout says" in ended.out
    record = pipeline.record("a")
    assert (record.status, record.error, outputs(record)) == ("succeeded", None, {"x"})
    assert (pipeline.work / "x").read_text() == "1\n"
    pipeline.sh("b", "exit 3", expect=3)


def test_a_follower_waits_for_the_code_and_ends_as_its_command_did(pipeline: Pipeline) -> None:
    """Pod 1 of a stage of two starts first."""
    pipeline.describe(code=archive_of(("main.sh", b"echo it is here", 0o755)))
    pipeline.environment = {"JOB_COMPLETION_INDEX": "1"}
    follower = pipeline.start("a", "sh", "main.sh")
    time.sleep(1)
    pipeline.environment = {}
    assert follower.poll() is None
    pipeline.do("a", "sh", "main.sh")
    ended = finish(follower)
    assert (ended.code, ended.out) == (0, "it is here\n")
    pipeline.environment = {"JOB_COMPLETION_INDEX": "1"}
    ended = pipeline.do("b", "sh", "-c", "echo no; exit 76", expect=1)
    assert pipeline.closing()["error"] == "ended with exit code 76: no"


def test_a_program_that_leaves_a_process_behind(pipeline: Pipeline) -> None:
    begun = time.monotonic()
    pipeline.sh("a", "sleep 1000 & echo $! > pid; echo done > x")
    assert time.monotonic() - begun < 30
    assert not is_running(int((pipeline.work / "pid").read_text()))
    assert outputs(pipeline.record("a")) == {"pid", "x"}


def test_a_command_that_is_not_there(pipeline: Pipeline) -> None:
    pipeline.do("a", "no-such-command", "x", expect=78)
    error = str(pipeline.record("a").error)
    assert error.startswith(
        "the command no-such-command cannot be executed: No such file or directory; PATH is"
    )
    assert "Traceback" not in pipeline.folder.log("a", "local").read_text()


def test_a_script_whose_interpreter_is_not_there(pipeline: Pipeline) -> None:
    script = pipeline.here / "run.sh"
    script.write_bytes(b"#!/bin/sh\r\necho\r\n")
    script.chmod(0o755)
    pipeline.do("a", str(script), expect=78)
    assert "the interpreter in its first line is not" in str(pipeline.record("a").error)


def test_the_log_is_complete(pipeline: Pipeline) -> None:
    ended = pipeline.do("a", sys.executable, "-c", "import sys; sys.stdout.write('x' * 3_000_000)")
    log = pipeline.record("a").log
    assert log is not None
    assert log.bytes == len(ended.raw) == (pipeline.folder.path / log.file).stat().st_size


# --- again, and again ---


def test_a_second_start_has_nothing_to_do(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo 1 > x")
    ended = pipeline.sh("a", "echo 2 > x")
    assert "nothing to do" in ended.out
    assert pipeline.closing()["skipped"]
    assert (pipeline.work / "x").read_text() == "1\n"


def test_a_changed_stage_runs_again(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo 1 > x")
    pipeline.describe(a="changed")
    pipeline.sh("a", "echo 2 > x")
    assert (pipeline.work / "x").read_text() == "2\n"


def test_when_an_earlier_stage_ran_again_a_later_one_does(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo 1 > x")
    pipeline.sh("b", "cp x y")
    pipeline.describe(a="changed")
    pipeline.sh("a", "echo 2 > x")
    ended = pipeline.sh("b", "cp x y")
    assert "done before, but stage a changed since; the stage runs again" in ended.out
    assert (pipeline.work / "y").read_text() == "2\n"
    assert "nothing to do" in pipeline.sh("b", "cp x y").out


def test_the_order_does_not_depend_on_clocks(pipeline: Pipeline) -> None:
    """The stages ran on two nodes, and the clock of the first is an hour ahead."""
    pipeline.sh("a", "echo 1 > x")
    path = pipeline.folder.record("a")
    tree = json.loads(path.read_text())
    path.write_text(
        json.dumps({**tree, "started": "2099-01-01T00:00:00Z", "finished": "2099-01-01T00:01:00Z"})
    )
    pipeline.sh("b", "echo 2 >> x")
    assert "nothing to do" in pipeline.sh("b", "false").out
    assert [check.good for check in check_run(pipeline.folder)][:2] == [True, True]


def test_a_changed_file_of_an_earlier_stage_is_named(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo 1 > x; echo 2 > y")
    (pipeline.work / "x").write_text("other")
    pipeline.sh("b", "cat x", expect=65)
    error = str(pipeline.record("b").error)
    assert "workspace/x: changed since a ended" in error
    assert "workspace/y" not in error


def test_a_removed_file_of_an_earlier_stage_is_named(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo 1 > x")
    (pipeline.work / "x").unlink()
    pipeline.sh("b", "true", expect=65)
    assert "workspace/x" in str(pipeline.record("b").error)


def test_a_file_that_two_stages_append_to(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo 1 >> log")
    pipeline.sh("b", "echo 2 >> log")
    pipeline.sh("c", "true")
    assert all(check.good for check in check_run(pipeline.folder))
    for stage in "abc":
        assert "nothing to do" in pipeline.sh(stage, "false").out


def test_a_changed_stage_that_appends_to_a_file_of_another(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo 1 >> log; echo 1 > other")
    pipeline.sh("b", "echo 2 >> log; rm other")
    pipeline.describe(b="changed")
    pipeline.sh("b", "cat log > y")  # neither appends nor removes now: what is there is its own all the same
    record = pipeline.record("b")
    assert outputs(record) == {"log", "y"}
    assert record.removed == ["workspace/other"]
    assert [check.good for check in check_run(pipeline.folder)][:2] == [True, True]


def test_a_failed_attempt_may_have_changed_files_of_another(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo 1 >> log")
    pipeline.sh("b", "echo 2 >> log; echo half > y; exit 1", expect=1)
    assert outputs(pipeline.record("b")) == {"log", "y"}
    ended = pipeline.sh("b", "echo 3 > z")
    assert "attempt 2" in ended.out
    assert outputs(pipeline.record("b")) == {"log", "y", "z"}
    assert [check.good for check in check_run(pipeline.folder)][:2] == [True, True]


def test_after_the_supervisor_was_killed_the_next_attempt_records_everything(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo 1 >> log")
    process = pipeline.start("b", "sh", "-c", "echo 2 >> log; echo 1 > epoch-1; echo up; exec sleep 1000")
    read_until(process, b"up")
    children = every_process(process)
    process.kill()
    finish(process)
    with eventually() as until:
        until(lambda: not any(is_running(pid) for pid in children))
    assert pipeline.record("b").status == "running"

    pipeline.sh("b", "echo 2 > epoch-2")
    record = pipeline.record("b")
    assert record.attempt == 2
    assert outputs(record) == {"log", "epoch-1", "epoch-2"}
    assert [check.good for check in check_run(pipeline.folder)][:2] == [True, True]


def test_what_is_changed_while_no_stage_runs_is_no_ones(pipeline: Pipeline) -> None:
    pipeline.sh("a", "echo 1 > x")
    pipeline.sh("b", "exit 1", expect=1)
    pipeline.describe(a="changed")
    pipeline.sh("a", "echo 2 > x")
    pipeline.sh("b", "echo 3 > y")
    assert outputs(pipeline.record("b")) == {"y"}


# --- what the program finds ---


def test_the_working_directory(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.stages = {"a": {}, "b": {"workdir": "new/inner"}, "c": {"workdir": str(tmp_path)}}
    assert pipeline.do("a", "pwd").out.splitlines()[0] == str(pipeline.work)
    assert pipeline.do("b", "pwd").out.splitlines()[0] == str(pipeline.work / "new" / "inner")
    assert pipeline.do("c", "pwd").out.splitlines()[0] == str(tmp_path)


def test_a_working_directory_that_is_not_there(pipeline: Pipeline) -> None:
    pipeline.stages = {"a": {"workdir": "/no/such/folder"}}
    pipeline.do("a", "true", expect=78)
    error = "the working directory /no/such/folder cannot be used: No such file or directory"
    assert pipeline.record("a").error == error


def test_a_pattern_takes_the_newest(pipeline: Pipeline) -> None:
    pipeline.sh(
        "a", "mkdir -p saved/1 saved/2 saved/3; for n in 3 1 2; do touch saved/$n/m.pth; sleep 0.02; done"
    )
    assert _said(pipeline, "b", "echo", "saved/*/m.pth", "none*", "[x]") == "saved/2/m.pth none* [x]"
    (pipeline.work / "saved/9").symlink_to("nowhere")
    os.utime(pipeline.work / "saved/1", (2e9, 2e9))
    assert _said(pipeline, "c", "echo", "saved/*", str(pipeline.work / "saved/[2-9]*")) == (
        f"saved/1 {pipeline.work}/saved/9"
    )


def _said(pipeline: Pipeline, stage: str, *command: str) -> str:
    return pipeline.do(stage, *command).out.splitlines()[0]


def test_the_program_reads_nothing_from_standard_input(pipeline: Pipeline) -> None:
    assert pipeline.do("a", "cat").code == 0


def test_variables_of_the_runner_are_not_passed_on(pipeline: Pipeline) -> None:
    names = {line.split("=")[0] for line in pipeline.do("a", "env").out.splitlines()}
    assert not {"JOBRELAY_CONFIG", "JOBRELAY_TERMINATION_MESSAGE", "JOBRELAY_BINDS"} & names
    assert {"JOBRELAY_RUN", "JOBRELAY_VOLUME", "PATH"} <= names


@needs_another_user
def test_a_user_whom_nobody_knows_without_a_home(open_to_all: Pipeline) -> None:
    (open_to_all.here / "tmp").mkdir()
    (open_to_all.here / "tmp").chmod(0o777)
    open_to_all.environment = {"HOME": "/root", "TMPDIR": str(open_to_all.here / "tmp")}
    program = "import getpass, pathlib; (pathlib.Path.home() / 'x').touch(); print(getpass.getuser())"
    without_names = ["env", "-u", "USER", "-u", "LOGNAME"]
    ended = open_to_all.do("a", ANY_PYTHON, "-c", program, prefix=[*as_user(1234), *without_names])
    assert ended.out.splitlines()[0] == "uid1234"


@needs_another_user
def test_a_home_that_cannot_be_written_without_any_other_place(open_to_all: Pipeline) -> None:
    open_to_all.environment = {"HOME": "/root"}
    assert open_to_all.do("a", "sh", "-c", "echo $HOME", prefix=as_user(1234)).out.splitlines()[0] != "/root"


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.13"])
def test_other_pythons(pipeline: Pipeline, version: str) -> None:
    python = found(version)
    if not python:
        pytest.skip(f"needs python{version}, not here")
    pipeline.python = [python, "-I", "-S", "-W", "error", "-c", _MAIN]
    pipeline.stages = {"a": {"metrics": "m.json"}, "b": {}}
    pipeline.sh("a", """echo '{"acc": 0.5}' > m.json""")
    pipeline.sh("b", "echo 2 >> m.json; exit 75", expect=1)
    assert pipeline.record("a").metrics == {"acc": 0.5}
    assert pipeline.record("a").versions["python"].startswith(f"{version}.")
    assert "nothing to do" in pipeline.sh("a", "false").out


#: The runner as `python -m` would start it, without reading PYTHONPATH.
_MAIN = """
import os, sys
sys.path.insert(0, os.environ["PYTHONPATH"])
from jobrelay_runner.__main__ import main
sys.exit(main(sys.argv[sys.argv.index("stage"):]))
"""
