"""Programs of any kind, on both executors: the fixture `place` selects which."""

from __future__ import annotations

import json
import os
import signal
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.support import Place, Result

TRAIN = """
import json, pathlib, sys
pathlib.Path("model").mkdir(exist_ok=True)
pathlib.Path("model/weights").write_text(sys.argv[1])
print("trained with", sys.argv[1])
"""
EVALUATE = """
import json, pathlib
weights = pathlib.Path("/opt/mount/model/weights").read_text()
pathlib.Path("model/eval.json").write_text(json.dumps({"acc": float(weights), "test": {"f1": 0.5}}))
print("evaluated", weights)
"""
PIPELINE = """
params: {lr: 0.25}
stages:
  train: {run: "python train.py {lr}", cpu: 50m}
  evaluate:
    run: python evaluate.py
    cpu: 50m
    mounts: {/opt/mount/model: model}
    metrics: model/eval.json
"""


def write(folder: Path, pipeline: str = PIPELINE, **scripts: str) -> None:
    """A folder with a jobrelay.yaml and scripts."""
    (folder / "jobrelay.yaml").write_text(textwrap.dedent(pipeline))
    for name, text in ({"train": TRAIN, "evaluate": EVALUATE} | scripts).items():
        (folder / f"{name}.py").write_text(text)


def command(place: Place, *words: str, options: Sequence[str] = ("--run", "a")) -> Result:
    """The outcome of `run OPTIONS -- WORDS`: the options of a place come before the command."""
    return replace(place, options=[]).run("run", *place.options, *options, "--", *words)


def verdicts(place: Place, *arguments: str, expect: int = 0) -> list[tuple[str, str, str]]:
    """Stage, how its Job came about, and outcome, of a run."""
    report = place.run("run-all", "-o", "json", *arguments, expect=expect).json()
    return [(stage["stage"], stage["how"], stage["verdict"]["outcome"]) for stage in report["stages"]]


class AnyPrograms:
    """The tests; each test folder has one class that inherits them."""

    def test_scripts_run_in_order_in_one_folder(self, place: Place) -> None:
        write(place.folder)
        report = place.run("run-all", "--run", "a", "-o", "json").json()

        assert [stage["verdict"]["outcome"] for stage in report["stages"]] == ["succeeded"] * 2
        assert all(stage["log_complete"] for stage in report["stages"])
        assert report["stages"][1]["metrics"] == {"acc": 0.25, "test.f1": 0.5}
        home = place.folder / "runs/a"
        assert (home / "workspace/model/weights").read_text() == "0.25"
        assert not (home / "workspace/train.py").exists()  # what the stages wrote, not the code
        record = json.loads((home / "train.json").read_text())
        assert list(record["outputs"]) == ["workspace/model/weights"]
        assert record["means"]["params.lr"] == "0.25"
        assert place.run("logs", "a", "evaluate").out == "evaluated 0.25\n"
        assert "train succeeded, evaluate succeeded" in place.run("list").out
        checks = place.run("verify", "a", "-o", "json").json()
        assert [check["what"] for check in checks if check["good"]] == ["train", "evaluate"]
        # the same command again
        assert [how for _, how, _ in verdicts(place)] == ["complete", "complete"]
        # other parameters are another run
        assert verdicts(place, "--set", "lr=0.5")[0][1] == "created"
        place.run("delete", "a", "--data")
        assert "a" not in place.run("list", "-o", "name").out.split()

    def test_a_later_stage_may_change_under_the_same_run(self, place: Place) -> None:
        write(place.folder)
        place.run("run-all", "--run", "a")
        write(place.folder, evaluate=EVALUATE.replace("0.5", "0.75"))
        said = place.run("run-all", "--new", "--dry-run")
        assert said.code == 0
        assert verdicts(place, "--run", "a") == [
            ("train", "complete", "succeeded"),
            ("evaluate", "replaced", "succeeded"),
        ]
        written = json.loads((place.folder / "runs/a/workspace/model/eval.json").read_text())
        assert written["test"]["f1"] == 0.75

    def test_a_first_stage_that_is_complete_changes_only_on_demand(self, place: Place) -> None:
        write(place.folder)
        place.run("run-all", "--run", "a")
        conflict = place.run("run-all", "--run", "a", "--set", "lr=0.5", expect=6)
        assert "0.25 there, 0.5 wanted" in conflict.err
        assert "--replace" in conflict.err
        assert "--new" in conflict.err
        assert verdicts(place, "--run", "a", "--set", "lr=0.5", "--replace") == [
            ("train", "replaced", "succeeded"),
            ("evaluate", "replaced", "succeeded"),
        ]
        assert (place.folder / "runs/a/workspace/model/weights").read_text() == "0.5"

    def test_exit_codes_are_the_programs_own(self, place: Place) -> None:
        write(place.folder, evaluate="import sys\nprint('so it is')\nsys.exit(75)")
        report = place.run("run-all", "--run", "a", "-o", "json", expect=1).json()
        verdict = report["stages"][1]["verdict"]
        assert verdict["outcome"] == "failed"
        assert "exit code 75: so it is" in verdict["message"]
        assert report["stages"][1]["pods"] == 1  # no retries unless asked for

    def test_a_failed_stage_runs_again_where_the_run_stopped(self, place: Place) -> None:
        write(place.folder, evaluate="import sys; sys.exit('no such model')")
        failed = place.run("run-all", "--run", "a", expect=1)
        assert "exit code 1: no such model" in failed.err
        write(place.folder)
        hows = [how for _, how, _ in verdicts(place, "--run", "a")]
        assert hows == ["complete", "replaced"]

    def test_a_command_is_a_run_of_one_stage(self, place: Place) -> None:
        (place.folder / "main.py").write_text("import sys; print(sys.argv[1:]); open('out', 'w').write('x')")
        command(place, "python", "main.py", "a b", "$HOME")
        assert place.run("logs", "a").out == "['a b', '$HOME']\n"
        assert (place.folder / "runs/a/workspace/out").read_text() == "x"

    def test_code_that_is_too_large_for_a_config_map(self, place: Place) -> None:
        (place.folder / "noise").write_bytes(os.urandom(2_000_000))
        command(place, "python", "-c", "print(len(open('noise', 'rb').read()))")
        assert place.run("logs", "a").out.startswith("2000000\n")

    def test_data_is_put_once_and_can_only_be_read(self, place: Place) -> None:
        (place.folder / "large").mkdir()
        (place.folder / "large/x").write_text("data")
        (place.folder / ".jobrelayignore").write_text("large\n")
        options = ("--data", "large:/opt/data", "--data", "large:../data", "--new")
        program = "print(open('/opt/data/x').read(), open('../data/x').read())"
        first = command(place, "python", "-c", program, options=options)
        assert "data data" in first.err
        assert "copying" in first.err
        assert "copying" not in command(place, "python", "-c", program, options=options).err

    def test_sigterm_reaches_the_program(self, place: Place) -> None:
        program = textwrap.dedent("""
            import signal, sys, time
            def stop(*_):
                open("stopped", "w").write("x")
                sys.exit(0)
            signal.signal(signal.SIGTERM, stop)
            print("waits", flush=True)
            time.sleep(100)
        """)
        (place.folder / "main.py").write_text(program)
        words = ("run", *place.options, "--run", "a", "--", "python", "main.py")
        replace(place, options=[]).interrupt_when("│ waits", signal.SIGINT, *words)
        place.run("cancel", "a")
        place.run("fetch", "a", "-o", "b", "--all")
        assert (place.folder / "b/workspace/stopped").exists()

    def test_a_run_without_a_launcher(self, place: Place) -> None:
        write(place.folder, train=f"import time\ntime.sleep(3)\n{TRAIN}")
        assert place.run("run-all", "--run", "a", "--detach").out == "a\n"
        attached = place.run("attach", "a", "-o", "json").json()
        assert [stage["verdict"]["outcome"] for stage in attached["stages"]] == ["succeeded"] * 2
        assert (place.folder / "runs/a/workspace/model/eval.json").exists()
        assert [how for _, how, _ in verdicts(place, "--run", "a")] == ["complete", "complete"]
