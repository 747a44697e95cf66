"""The examples, as a user runs them on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import PATIENCE, REPOSITORY, Object, Place

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def place(place: Place, tmp_path: Path) -> Place:
    """`python` is the one of the tests, which has PyTorch; libraries are installed for the test alone."""
    folders = (str(Path(sys.executable).parent), os.environ["PATH"])
    place.environment |= {
        "PATH": os.pathsep.join(folders), "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    return place


def at(place: Place, name: str) -> Path:
    """A copy of an example, where the launcher starts."""
    place.folder = Path(shutil.copytree(EXAMPLES / name, place.folder / name))
    return place.folder


def outcome(place: Place, *arguments: str) -> Object:
    """What a run of all stages printed as JSON."""
    outcome: Object = place.run("run-all", "--run", "a", "-o", "json", *arguments).json()
    return outcome


def metrics(outcome: Object) -> dict[str, Any]:
    return {stage["stage"]: stage["metrics"] for stage in outcome["stages"]}


def test_scripts_are_short() -> None:
    scripts = list(EXAMPLES.glob("*/*.py"))
    assert len(scripts) > 8
    lengths = {str(path.relative_to(EXAMPLES)): len(path.read_text().splitlines()) for path in scripts}
    assert {name: lines for name, lines in lengths.items() if lines >= 60} == {}


def test_a_script(place: Place) -> None:
    folder = at(place, "script")
    result = place.run("run", "--run", "a", "--", "python", "main.py", "--epochs", "2")
    assert " main │ epoch 2/2" in result.err
    assert json.loads((folder / "runs/a/workspace/line.json").read_text())["slope"] > 0.5
    assert not (folder / "line.json").exists()


def test_a_pipeline(place: Place) -> None:
    folder = at(place, "pipeline")
    found = metrics(outcome(place, "--set", "epochs=12"))
    assert found["train"]["epochs"] == 12
    assert found["evaluate"]["accuracy"] > 0.9
    assert (folder / "runs/a/workspace/pictures/spirals.png").read_bytes().startswith(b"\x89PNG")


def processes(*words: str) -> list[int]:
    """The processes whose command line has these words, next to one another."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    lines = [line.strip().partition(" ") for line in listed.stdout.splitlines()]
    return [int(pid) for pid, _, command in lines if command.strip().startswith(" ".join(words))]


def test_a_killed_pipeline_resumes_with_the_same_result(place: Place, tmp_path: Path) -> None:
    at(place, "pipeline")
    noise = f"0.15{os.getpid():07}"  # tells this test's process from others
    settings = ("--set", "epochs=40", "--set", f"noise={noise}")
    process = place.start("run", "train", "--run", "a", *settings)
    place.wait_for(process, "epoch 5/40")
    killed = processes("python", "train.py", "--epochs", "40", "--lr", "0.02", "--noise", noise)
    os.kill(killed[0], signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "attempt 1 of 3 failed" in err
    assert "train │ resumes after epoch " in err
    weights = tmp_path / "volume/runs/a/workspace/model/train.json"
    place.run("run", "train", "--run", "b", *settings)
    assert weights.read_text() == (tmp_path / "volume/runs/b/workspace/model/train.json").read_text()


def test_a_compose_file(place: Place) -> None:
    folder = at(place, "compose")
    result = place.run("run-all", "--run", "a", "-f", "docker-compose.yml", expect=None)
    if "which only Linux can provide" in result.err or "this system refuses them" in result.err:
        pytest.skip("this machine allows no mount namespaces")
    assert result.code == 0, result.err
    assert "order: train, evaluate, infer" in result.err
    assert json.loads((folder / "runs/a/workspace/results/eval.json").read_text())["rmse"] < 0.5
    assert not (folder / "results").exists()
    assert not Path("/results").exists()


def test_the_services_of_a_compose_file_can_be_chosen(place: Place) -> None:
    at(place, "compose")
    place.options = []
    chosen = ("run-all", "--local", "--dry-run", "-f", "docker-compose.yml", "train", "infer")
    assert "order: train, infer" in place.run(*chosen).err
    assert "there is no service nobody" in place.run(*chosen, "nobody", expect=2).err
    assert "there is no stage nobody" in place.run("run-all", "--local", "nobody", expect=2).err


def test_several_nodes(place: Place) -> None:
    at(place, "torchrun")
    found = metrics(outcome(place, "--set", "epochs=2"))
    assert found["train"]["processes"] == 2
    assert found["train"]["loss"] < 1


def test_jobs_with_a_path_in_the_text_of_a_shell(place: Place) -> None:
    at(place, "jobs")
    result = place.run("run-all", "-k", ".", expect=2)
    assert "has the mount path /words in it, which would be the machine's own folder here" in result.err
    place.options = []
    assert "jobrelay.dev/stages: write-text,count" in place.run("render", "-k", ".").out


def test_scikit_learn(place: Place) -> None:
    at(place, "sklearn")
    result = place.run("run-all", "--run", "a", "-o", "json", expect=None)
    if "requirements.txt cannot be installed" in result.err:
        pytest.skip("pip finds no scikit-learn here")
    assert metrics(result.json())["evaluate"]["accuracy"] > 0.95
    again = place.run("run-all", "--run", "b")
    assert "installing requirements.txt" in result.err
    assert "installing requirements.txt" not in again.err
