"""`import jobrelay`: runs from a program, for real, as processes of this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import jobrelay
from tests.support import PATIENCE, REPOSITORY, programs

SMALL = {"model.name": "perceptron", "train.epochs": 1}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place for what nobody places, and an empty folder to work in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


def test_a_run_in_a_few_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    relay = jobrelay.Relay(on=jobrelay.Local())

    run = relay.run("a", set=SMALL)

    run.raise_for_verdict()
    assert run.exit_code == 0
    assert list(run) == ["train", "eval", "infer"]
    results = json.loads((run.folder / "eval_results.json").read_text())
    assert run["eval"].metrics["test_acc"] == pytest.approx(results["test_acc"])
    assert 0.5 < results["test_acc"] <= 1
    assert (run.folder / "logs").is_dir()
    assert [state.state for state in relay.status("a")] == ["succeeded"] * 3
    assert "saved model.pt" in relay.logs("a", "train")
    assert relay.logs("a", "train", tail=1).count("\n") == 1
    assert all(check.good for check in relay.verify("a"))
    # nobody was disturbed
    assert capfd.readouterr() == ("", "")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not list((tmp_path / "work").iterdir())
    assert (tmp_path / "home" / "jobrelay") in run.folder.parents

    fetched = relay.fetch("a", "here")
    assert fetched.problems == ()
    assert (tmp_path / "work" / "here" / "model.pt").read_bytes() == (run.folder / "model.pt").read_bytes()

    assert relay.run("a", set=SMALL)["train"].how == "complete"
    assert "runs/a on the volume" in relay.delete("a", data=True)
    with pytest.raises(jobrelay.UnknownRun):
        relay.status("a")


def test_events_tell_what_happens(tmp_path: Path) -> None:
    folder = programs(tmp_path / "m", train="print('one', flush=True); print('two')")
    started = jobrelay.Relay(folder, on=jobrelay.Local(tmp_path / "v"), folder="results").start("a")
    assert {thread.name for thread in threading.enumerate()} >= {"jobrelay"}

    events = list(started)

    of_train = [event for event in events if event.stage == "train"]
    assert of_train[0] == jobrelay.Submitted("train", "a-train", "created")
    assert [event.text for event in of_train if isinstance(event, jobrelay.LogLine)] == ["one", "two"]
    assert isinstance(of_train[-1], jobrelay.Ended)
    assert [event.stage for event in events if isinstance(event, jobrelay.Ended)] == [
        "train",
        "eval",
        "infer",
    ]
    assert list(started) == []
    assert started.result().folder == Path("results/a")


def test_a_stage_that_fails_is_a_verdict_unless_asked_for(tmp_path: Path) -> None:
    folder = programs(tmp_path / "m", eval="raise SystemExit(3)")

    run = jobrelay.Relay(folder, on=jobrelay.Local(tmp_path / "v")).run("a")

    assert run.exit_code == jobrelay.Exit.FAILED
    assert list(run) == ["train", "eval"]
    assert run["eval"].verdict.exit_code == 1
    with pytest.raises(
        jobrelay.StageEnded, match=r"eval failed: Job a-eval, Pod a-eval-.*exit code 3"
    ) as raised:
        run.raise_for_verdict()
    assert raised.value.exit_code == 1
    with pytest.raises(KeyError, match="run a did not come to infer"):
        run["infer"]
    assert "<td>eval</td><td>failed</td>" in run._repr_html_()
    assert "<p>eval failed: Job a-eval" in run._repr_html_()


def test_bad_input_is_an_error_before_anything_is_there(tmp_path: Path) -> None:
    relay = jobrelay.Relay(on=jobrelay.Local(tmp_path / "v"))
    for ask in (
        lambda: relay.run("a", set={"train.epoch": 1}),
        lambda: relay.start("a", set={"train.epochs": "many"}),
        lambda: relay.run("No-Name"),
        lambda: relay.run("a", config="nowhere.yaml"),
        lambda: relay.put("nowhere", "b"),
        lambda: jobrelay.Relay("nowhere", on=jobrelay.Local(tmp_path / "v")).run("a"),
    ):
        with pytest.raises(jobrelay.BadInput):
            ask()
    with pytest.raises(jobrelay.BadInput):
        list(jobrelay.Relay("nowhere", on=jobrelay.Local(tmp_path / "v")).start("a"))
    assert not (tmp_path / "v").exists()


def test_a_program_that_is_interrupted_leaves_the_jobs_running(tmp_path: Path) -> None:
    folder = programs(tmp_path / "m", train="import time; print('at work', flush=True); time.sleep(8)")
    program = (
        "import jobrelay\n"
        f"relay = jobrelay.Relay({str(folder)!r}, on=jobrelay.Local({str(tmp_path / 'v')!r}))\n"
        "try: relay.run('a')\n"
        "except KeyboardInterrupt: print('interrupted')\n"
        "print([state.state for state in relay.status('a')])\n"
        "print(relay.run('a', fetch=False).exit_code == 0)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("home/jobrelay/runs/*/a/logs/*")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert out == "interrupted\n['running']\nTrue\n"


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    (example,) = re.findall(
        r"```python\n(import jobrelay\n.*?)```", (REPOSITORY / "README.md").read_text(), re.S
    )
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, timeout=PATIENCE, check=False,
        env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    accuracy, folder, code = done.stdout.splitlines()[0].split()
    assert (float(accuracy) > 0.6, code) == (True, "0")
    assert f"{tmp_path}/home/jobrelay/runs/" in folder
    kinds = {line.partition("(")[0] for line in done.stdout.splitlines()[1:]}
    assert kinds >= {"Submitted", "LogLine", "Ended"}
    assert (tmp_path / "work" / "here" / "model.pt").is_file()
