"""The command line as its users type it: exit code, what is printed, and what is touched."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from jobrelay.cli import main as cli
from jobrelay.errors import Exit
from jobrelay.executors.cluster.parallel import in_parallel
from jobrelay.executors.local import LocalExecutor, layout
from jobrelay.manifests import render
from jobrelay.runs.target import Target
from tests.support import BASE, PATIENCE, REPOSITORY
from tests.support.apiserver import kubeconfig


@dataclass
class CommandLine:
    folder: Path
    capture: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    def run(self, *arguments: str) -> int:
        code = cli.main(arguments, program=("python", "launcher"))
        self.out, self.err = self.capture.readouterr()
        return code

    def touched(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]


@pytest.fixture
def line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return CommandLine(tmp_path / "here", capsys)


def write(folder: Path, content: str) -> str:
    path = folder.parent / "config.yaml"
    path.write_text(content)
    return str(path)


# --- what is refused -----------------------------------------------------------------------------

REFUSED: dict[str, tuple[Sequence[str], str]] = {
    "unknown-command": (["runall"], "No such command 'runall'"),
    "unknown-option": (["run-all", "--runs", "a"], "No such option"),
    "unknown-stage": (["run", "serve", "--dry-run"], "there is no stage serve"),
    "no-stage": (["run"], "Missing argument"),
    "timeout-zero": (["run-all", "--timeout", "0"], "0 is not in the range x>=1"),
    "timeout-text": (["run-all", "--timeout", "1h"], "'1h' is not a valid integer"),
    "output": (["run-all", "-o", "yaml"], "'yaml' is not one of 'table', 'json'"),
    "run-id": (["run-all", "--dry-run", "--run", "Not_A_Label"], "run id 'Not_A_Label': must be lower-case"),
    "run-id-empty-rest": (["render", "--run", "a-"], "run id 'a-'"),
    "run-id-of-logs": (["logs", "../x", "--local"], "run id '../x'"),
    "run-id-of-status": (["status", "a,b=c"], "run id 'a,b=c'"),
    "run-id-of-fetch": (["fetch", "../etc"], "run id '../etc'"),
    "run-id-of-cancel": (["cancel", "A"], "run id 'A'"),
    "run-id-of-delete": (["delete", "a/b", "--data"], "run id 'a/b'"),
    "data-set-name": (["put", ".", "a/b"], "data set name 'a/b'"),
    "namespace": (["render", "-n", "Team"], "namespace 'Team'"),
    "image": (["render", "--image", "no image"], "image 'no image' cannot be an image's name"),
    "image-of-status": (["status", "a", "--image", "no image"], "image 'no image' cannot be"),
    "folder": (["render", "-k", "nowhere"], "nowhere is not a directory"),
    "config-file": (["render", "--config", "nowhere.yaml"], "nowhere.yaml"),
    "set-unknown": (
        ["render", "--set", "train.epoch=2"],
        "train.epoch: unknown key; did you mean train.epochs?",
    ),
    "set-unknown-section": (["render", "--set", "training.epochs=2"], "training: unknown key"),
    "set-type": (["render", "--set", "train.epochs=many"], "train.epochs: "),
    "set-range": (["render", "--set", "train.epochs=0"], "train.epochs: "),
    "set-no-value": (["render", "--set", "train.epochs"], "expected key=value"),
    "set-no-key": (["render", "--set", "=5"], "expected key=value"),
    "set-into-a-value": (["render", "--set", "seed.a=5"], "seed"),
    "set-a-section": (["render", "--set", "train=5"], "train"),
    "set-not-yaml": (["render", "--set", "seed=[1"], "seed"),
    "set-memory": (["render", "--set", "train.memory=lots"], "train.memory"),
    "set-nan": (["render", "--set", "train.learning_rate=nan"], "train.learning_rate"),
    "sweep-unknown-key": (["sweep", "--grid", "train.epoch=1,2"], "did you mean train.epochs?"),
    "sweep-unknown-key-around-a-base": (
        ["sweep", "--one-at-a-time", "--grid", "train.epoch=1,2"],
        "--grid train.epoch: unknown key",
    ),
    "sweep-value": (["sweep", "--grid", "train.epochs=1,many"], "train.epochs: "),
    "sweep-twice": (["sweep", "--grid", "seed=1,2"], "--seeds N"),
    "sweep-two-ways": (
        ["sweep", "--one-at-a-time", "--random", "2", "--grid", "train.epochs=1,2"],
        "exclude",
    ),
    "sweep-name": (["sweep", "--name", "A", "--grid", "train.epochs=1,2"], "--name 'A'"),
    "sweep-long-name": (["sweep", "--name", "a" * 34, "--grid", "train.epochs=1,2"], "33 characters"),
    "sweep-run": (["sweep", "--run", "a", "--grid", "train.epochs=1,2"], "a run of its own"),
    "sweep-stop": (["sweep", "--stop-when", "soon", "--grid", "train.epochs=1,2"], "--stop-when soon"),
    "put-no-folder": (["put", "nowhere", "a", "--local"], "nowhere is not a directory"),
    "sweep-dry-stop": (
        ["sweep", "--dry-run", "--stop-when", "soon", "--grid", "train.epochs=1,2"],
        "--stop-when soon",
    ),
    "sweep-dry-held-out": (
        ["sweep", "--dry-run", "--grid", "train.validation_split=0.2,0"],
        "holds out no training images, so the best trial",
    ),
    "sweep-dry-value": (["sweep", "--dry-run", "--grid", "train.epochs=1,0"], "train.epochs: "),
    "sweep-dry-image": (
        ["sweep", "--dry-run", "--image", "no image", "--grid", "train.epochs=1,2"],
        "image 'no image' cannot be",
    ),
    "sweep-dry-data": (
        ["sweep", "--dry-run", "--local", "--set", "data.name=imagefolder", "--grid", "data.folder=data/x"],
        "data/x is not on the volume",
    ),
    "local-image": (["run-all", "--local", "--image", "a:1"], "--image cannot be used with it"),
    "local-context": (["list", "--local", "--context", "x"], "--context cannot be used with it"),
    "local-namespace": (["status", "a", "--local", "-n", "x"], "--namespace cannot be used with it"),
    "volume-without-local": (["list", "--volume", "x"], "add --local"),
    "put-no-files": (["put", ".", "a", "--local"], "holds no files"),
    "data-remove-name": (["data", "remove", "../x", "--local"], "data set name '../x'"),
    "data-remove-of-nothing": (["data", "remove", "a", "--local"], "data/a is not on the volume"),
    "status-of-nothing": (["status", "--local"], "there is no run on this machine"),
    "status-of-no-run": (["status", "a", "--local"], "there is no run a"),
    "logs-of-nothing": (["logs", "--local"], "there is no run on this machine"),
    "logs-of-no-run": (["logs", "a", "--local"], "there is no run a"),
    "logs-of-no-stage": (["logs", "a", "serve", "--local"], "there is no run a"),
    "fetch-of-nothing": (["fetch", "--local"], "there is no run on this machine"),
    "delete-of-no-run": (["delete", "a", "--local"], "there is no run a"),
}


@pytest.mark.parametrize(("arguments", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_told_and_touches_nothing(
    line: CommandLine, arguments: Sequence[str], said: str
) -> None:
    assert line.run(*arguments) == Exit.BAD_INPUT
    assert said in line.err
    assert line.out == ""
    assert line.touched() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("train: {epochs: many}", "train.epochs"),
        ("- a\n- b\n", "a mapping of keys is expected, not a list"),
        ("a: 1\n---\nb: 2\n", "holds 2 YAML documents"),
        ("train: {epochs: 1, epochs: 2}", "the key 'epochs' appears twice"),
        ("a: &a [1]\nb: *a\n", "aliases"),
        ("seed: [", "config.yaml"),
        ("5: 6\n", "5: keys should be strings"),
        ("train: {epochs: 0}\neval: {batch_size: x}\nnothing: 1\n", "eval.batch_size"),
    ],
    ids=["type", "list", "documents", "twice", "alias", "no-yaml", "number", "several"],
)
def test_a_configuration_that_cannot_be_used(line: CommandLine, content: str, said: str) -> None:
    assert line.run("run-all", "--local", "--config", write(line.folder, content)) == Exit.BAD_INPUT
    assert said in line.err
    assert line.touched() == []


def test_every_problem_of_a_configuration_has_a_line(line: CommandLine) -> None:
    line.run("render", "--set", "train.epochs=0", "--set", "eval.batch_size=x", "--set", "nothing=1")
    listed = re.findall(r"^    ([\w.]+): ", line.err, re.MULTILINE)
    assert listed == ["train.epochs", "eval.batch_size", "nothing"]
    assert "try: compare" in line.err


def test_a_key_that_was_typed_as_an_option_is_shown_as_a_setting(line: CommandLine) -> None:
    meant = "  try: python launcher run-all --local --set train.epochs=3 -q\n"
    assert line.run("run-all", "--local", "--epochs", "3", "-q") == Exit.BAD_INPUT
    assert line.err.endswith(meant)
    assert line.run("run-all", "--local", "--epochs=3", "-q") == Exit.BAD_INPUT
    assert line.err.endswith(meant)
    assert line.run("run-all", "--batch-size", "3") == Exit.BAD_INPUT
    assert "  try: --set train.batch_size=3, or --set eval.batch_size=3, or " in line.err
    assert line.run("list", "--epochs", "3") == Exit.BAD_INPUT
    assert "try: " not in line.err


def test_nothing_is_nothing(line: CommandLine) -> None:
    assert line.run("list", "--local", "-o", "json") == 0
    assert (line.out, line.err) == ("[]\n", "")
    assert line.run("list", "--local", "-o", "name") == 0
    assert line.out == ""
    assert line.touched() == []


def test_verbose_shows_where_it_came_from_and_keeps_the_exit_code(line: CommandLine) -> None:
    assert line.run("status", "a", "--local", "-v") == Exit.BAD_INPUT
    assert "Traceback" in line.err
    assert "there is no run a" in line.err
    line.run("status", "a", "--local")
    assert "Traceback" not in line.err


# --- what is printed -----------------------------------------------------------------------------


def test_version_and_help(line: CommandLine) -> None:
    assert line.run("--version") == 0
    assert re.fullmatch(r"jobrelay, version \d+\.\d+\.\d+\n", line.out)
    assert line.run("-h") == 0
    for command in (
        "run-all",
        "run",
        "render",
        "status",
        "list",
        "logs",
        "fetch",
        "put",
        "data list",
        "data remove",
        "cancel",
        "delete",
        "doctor",
    ):
        assert f"\n  {command.split()[0]} " in line.out
        assert line.run(*command.split(), "--help") == 0
        assert "--local" in line.out
        line.run("-h")


def test_without_a_command_it_explains_itself(line: CommandLine) -> None:
    assert line.run() == Exit.BAD_INPUT
    assert "Usage: python launcher" in line.err + line.out


@pytest.mark.parametrize(
    ("where", "said"),
    [([], "not compared with the cluster: no cluster: "), (["--local"], "run a on this machine, volume ")],
    ids=["cluster", "local"],
)
def test_a_dry_run_prints_what_would_be_sent_and_touches_nothing(
    line: CommandLine, where: list[str], said: str
) -> None:
    assert line.run("run-all", "--dry-run", "--run", "a", "--set", "train.epochs=9", *where) == 0
    items = list(yaml.safe_load_all(line.out))
    assert [item["kind"] for item in items[-4:]] == ["ConfigMap", "Job", "Job", "Job"]
    assert [item["metadata"]["name"] for item in items[-3:]] == ["a-train", "a-eval", "a-infer"]
    assert '"epochs": 9' in items[-4]["data"]["config.yaml"]
    assert not any("initContainers" in item["spec"]["template"]["spec"] for item in items[-3:])
    assert (len(items) == 4) is bool(where)  # what only a cluster has is for a cluster
    assert line.err.startswith(said)
    assert line.err.count("\n") == 1
    assert line.touched() == []


def put_jobs(folder: Path, run: str, **state: str) -> None:
    """Jobs of that run on the local volume, as the default configuration has them; state: conditions."""
    executor = LocalExecutor(folder / "jobrelay-data")
    plan = render(Target().manifests, Target().config(None, []), run)
    for stage, kind in state.items():
        place = layout.job_folder(executor.root, f"{run}-{stage}")
        place.mkdir(parents=True)
        job = copy.deepcopy(plan.jobs[stage])  # type: ignore[index]
        job["metadata"] |= {"uid": stage, "creationTimestamp": "2026-11-21T14:22:33Z"}
        job["status"] = {"conditions": [{"type": kind, "status": "True"}]}
        (place / layout.STATE).write_text(json.dumps({"job": job, "pods": []}))


def test_a_dry_run_shows_the_run_that_would_be_taken_up(line: CommandLine) -> None:
    put_jobs(line.folder, "known", train="Complete", eval="Failed")
    assert line.run("run-all", "--dry-run", "--local") == 0
    names = [item["metadata"]["name"] for item in yaml.safe_load_all(line.out)]
    assert names[1:] == ["known-eval", "known-infer"]
    assert "train: Job known-train is complete already" in line.err
    assert "eval: Job known-eval has failed and would run again" in line.err

    assert line.run("run-all", "--dry-run", "--local", "--new") == 0
    assert "known" not in line.out + line.err
    assert line.run("run-all", "--dry-run", "--local", "--run", "known", "--set", "seed=7") == Exit.CONFLICT
    assert "seed: 0 there, 7 wanted" in line.err


def test_a_device_that_is_asked_for_by_name_is_part_of_a_run(line: CommandLine) -> None:
    put_jobs(line.folder, "known", train="Complete", eval="Complete", infer="Complete")
    assert line.run("run-all", "--dry-run", "--local") == 0
    assert "known-train is complete already" in line.err
    assert line.run("run-all", "--dry-run", "--local", "--set", "device=cuda") == 0
    assert "known" not in line.out + line.err
    arguments = ("run-all", "--dry-run", "--local", "--run", "known", "--set", "device=cuda")
    assert line.run(*arguments) == Exit.CONFLICT
    assert "device: auto there, cuda wanted" in line.err


def test_a_grid_is_judged_by_its_trials(line: CommandLine) -> None:
    grid = ("--grid", "data.folder=data/x,data/y")
    assert line.run("sweep", "--dry-run", "--set", "data.name=imagefolder", *grid) == 0
    assert line.out.count("sweep-") == 2
    assert line.run("sweep", "--dry-run", "--one-at-a-time", "--set", "data.name=imagefolder", *grid) == 2


def test_the_environment_says_where(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBRELAY_IMAGE", "r.io/j:3")
    monkeypatch.setenv("JOBRELAY_NAMESPACE", "theirs")
    assert line.run("render", "--run", "a") == 0
    assert "image: r.io/j:3" in line.out
    assert "namespace: theirs" in line.out
    assert line.run("render", "--run", "a", "--image", "r.io/j:4") == 0
    assert "image: r.io/j:4" in line.out
    path = kubeconfig(line.folder.parent / "kubeconfig", "http://127.0.0.1:1")
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("JOBRELAY_CONTEXT", "nowhere")
    assert line.run("list") == Exit.BAD_INPUT
    assert "nowhere" in line.err


def test_the_environment_of_a_cluster_does_not_concern_this_machine(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_jobs(line.folder, "known", train="Complete", eval="Complete", infer="Complete")
    for name, value in {"IMAGE": "r.io/j:3", "NAMESPACE": "theirs", "CONTEXT": "nowhere"}.items():
        monkeypatch.setenv(f"JOBRELAY_{name}", value)
    assert line.run("run-all", "--dry-run", "--local") == 0
    assert "known-train is complete already" in line.err


def test_a_dry_run_of_one_stage(line: CommandLine) -> None:
    assert line.run("run", "eval", "--dry-run", "--run", "a") == 0
    jobs = [item for item in yaml.safe_load_all(line.out) if item["kind"] == "Job"]
    assert [job["metadata"]["name"] for job in jobs] == ["a-eval"]


def test_the_same_dry_run_prints_the_same(line: CommandLine) -> None:
    arguments = ("run-all", "--dry-run", "--run", "a", "--timeout", "60")
    line.run(*arguments)
    first = line.out
    line.run(*arguments)
    assert line.out == first


def test_without_a_name_a_run_gets_one(line: CommandLine) -> None:
    names = set()
    for _ in range(2):
        line.run("run-all", "--dry-run")
        names |= {item["metadata"]["name"] for item in yaml.safe_load_all(line.out) if item["kind"] == "Job"}
    assert len(names) == 6
    assert all(re.fullmatch(r"\d{8}-\d{6}-[a-z0-9]{4}-(train|eval|infer)", name) for name in names)


def test_render_is_for_kubectl_alone_and_has_the_gate(line: CommandLine) -> None:
    assert (
        line.run("render", "--run", "b", "-n", "team-x", "--image", "r.io/j:2", "--set", "infer.samples=7")
        == 0
    )
    jobs = [item for item in yaml.safe_load_all(line.out) if item["kind"] == "Job"]
    gates = [[c["args"] for c in j["spec"]["template"]["spec"].get("initContainers", ())] for j in jobs]
    assert gates == [[], [["wait", "train"]], [["wait", "eval"]]]
    assert {job["metadata"]["namespace"] for job in jobs} == {"team-x"}
    assert "jobrelay:0.1.0" not in line.out
    assert '"samples": 7' in line.out


def test_render_of_a_configuration_file(line: CommandLine) -> None:
    path = write(line.folder, "train: {epochs: 3, memory: 5Gi}\n")
    assert line.run("render", "--run", "b", "--config", path, "--set", "train.batch_size=7") == 0
    items = list(yaml.safe_load_all(line.out))
    config = next(item for item in items if item["kind"] == "ConfigMap")["data"]["config.yaml"]
    assert yaml.safe_load(config)["train"] == {
        "epochs": 3, "batch_size": 7, "learning_rate": 0.005, "optimizer": "adamw",
        "schedule": "one-cycle", "gamma": 0.7, "weight_decay": 0.05,
        "label_smoothing": 0.1, "freeze": "none", "augment": True, "horizontal_flip": "auto",
        "precision": "auto", "strategy": "single", "processes": "auto", "nodes": 1, "validation_split": 0.0,
        "loss": None,
    }  # fmt: skip
    train = next(item for item in items if item["metadata"]["name"] == "b-train")
    assert train["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "5Gi"


def test_what_is_printed_can_be_read_again(line: CommandLine, tmp_path: Path) -> None:
    line.run("render", "--run", "b")
    (tmp_path / "again").mkdir()
    config = (BASE / "config.yaml").read_text()
    (tmp_path / "again/all.yaml").write_text(line.out)
    (tmp_path / "again/config.yaml").write_text(config)
    (tmp_path / "again/kustomization.yaml").write_text("resources: [all.yaml]\n")
    assert line.run("render", "--run", "c", "-k", str(tmp_path / "again")) == 0
    assert "name: c-train" in line.out


# --- how it ends ---------------------------------------------------------------------------------


def test_ctrl_c_ends_with_130(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobrelay.manifests.render", interrupt)
    assert line.run("render") == Exit.INTERRUPTED


def test_a_reader_that_closes_stdout_is_no_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "launcher"), "render"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, text=True,
    )  # fmt: skip
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=PATIENCE), err) == (Exit.INCOMPLETE, "")


def test_row_47_ctrl_c_does_not_wait_for_a_server_that_is_silent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{silent.getsockname()[1]}")
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "launcher"), "run-all"],
            stderr=subprocess.PIPE, cwd=tmp_path, text=True, env={**os.environ, "KUBECONFIG": str(config)},
        )  # fmt: skip
        with silent.accept()[0]:  # it asks, and gets no answer
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
    assert process.returncode == Exit.INTERRUPTED
    assert "Traceback" not in err


def test_row_47_ctrl_c_does_not_wait_for_several_calls() -> None:
    answer = threading.Event()

    def call(item: int) -> int:
        if item == 0:
            raise KeyboardInterrupt
        answer.wait(30)
        return item

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        in_parallel(call, range(20))
    answer.set()
    assert time.monotonic() - begun < 5
