"""The examples on a real cluster: those whose images its nodes have."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from jobrelay.manifests import INDEXED_SINCE
from tests.support import PATIENCE, REPOSITORY, Place
from tests.support.kubectl import Kubectl

#: In place of the image of examples/jobs, for a cluster that cannot pull it.
BUSYBOX = os.environ.get("JOBRELAY_TEST_BUSYBOX", "busybox:1.36")
#: Little is asked for, so that a test waits for no room that another's ending Pods still hold.
LITTLE = ("--set", "train.cpu=50m", "--set", "train.env={OMP_NUM_THREADS: 1}")


def at(place: Place, name: str) -> Path:
    """A copy of an example, where the launcher starts."""
    place.folder = Path(shutil.copytree(REPOSITORY / "examples" / name, place.folder / name))
    return place.folder


def needs_image(kubectl: Kubectl, image: str) -> None:
    """Skip the test if no node has the image: many test clusters cannot pull."""
    names = kubectl("get", "nodes", "-o", "jsonpath={..images[*].names}")
    if f'/{image}"' not in names:
        kubectl.lacks(f"image {image} on a node")


def test_a_script(place: Place) -> None:
    folder = at(place, "script")
    result = place.run("run", "--run", "a", "--", "python", "main.py", "--epochs", "2")
    assert " main │ epoch 2/2" in result.err
    assert json.loads((folder / "runs/a/workspace/line.json").read_text())["slope"] > 0.5


def test_a_killed_pipeline_resumes(place: Place, kubectl: Kubectl) -> None:
    folder = at(place, "pipeline")
    process = place.start("run-all", "--run", "a", "--set", "epochs=40", *LITTLE)
    place.wait_for(process, "epoch 5/40")
    kill = "import os; [os.kill(int(p), 9) for p in os.listdir('/proc') if p.isdigit() and p != '1' and"
    kill += " open(f'/proc/{p}/cmdline').read().startswith('python\\0train.py\\0')]"
    kubectl("exec", kubectl.pods_alive("a-train-")[0], "--", "python", "-c", kill)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "train │ resumes after epoch " in err
    assert json.loads((folder / "runs/a/workspace/model/eval.json").read_text())["accuracy"] > 0.9
    assert (folder / "runs/a/workspace/pictures/spirals.png").read_bytes().startswith(b"\x89PNG")


def test_several_nodes(place: Place, kubectl: Kubectl) -> None:
    kubectl.needs(INDEXED_SINCE, "Indexed Jobs")
    folder = at(place, "torchrun")
    result = place.run("run-all", "--run", "a", "--set", "epochs=2", *LITTLE)
    assert "process 1 of 2 is there" in result.err
    assert json.loads((folder / "runs/a/workspace/result.json").read_text())["processes"] == 2


def test_jobs_without_python_in_the_order_of_their_annotations(place: Place, kubectl: Kubectl) -> None:
    needs_image(kubectl, BUSYBOX)
    for path in at(place, "jobs").glob("*.yaml"):
        path.write_text(path.read_text().replace("busybox:1.36", BUSYBOX))
    kubectl.make_namespace()
    result = place.run("run-all", "--run", "a", "-k", ".", "-o", "json")
    assert [stage["stage"] for stage in result.json()["stages"]] == ["write-text", "count"]
    assert "count │ 15" in result.err


def test_scikit_learn(place: Place, kubectl: Kubectl) -> None:
    needs_image(kubectl, "python:3.12-slim")
    at(place, "sklearn")
    place.run("run-all", "--run", "a")


@pytest.mark.skip(reason="examples/compose builds an image, which needs an engine and a way to the nodes")
def test_a_compose_file() -> None: ...
