"""Nodes that go away: a worker of a kind cluster is paused, cut off, started anew."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support import LONG, PATIENCE, Place
from tests.support.kubectl import Kubectl

#: A node counts as lost after 40 s to a minute without a word of its kubelet; its training stands still then.
pytestmark = pytest.mark.timeout(400)


@dataclass
class Worker:
    """A node that is a container; away from it whatever it is that a test does to it."""

    name: str

    def docker(self, *arguments: str) -> None:
        subprocess.run(["docker", *arguments, self.name], check=True, capture_output=True)


@pytest.fixture
def worker(kubectl: Kubectl) -> Iterator[Worker]:
    """The one node of a kind cluster that may be lost: all Pods of tests run there."""
    needs = "a kind cluster with one worker, and docker"
    if not kubectl.context.startswith("kind-") or not shutil.which("docker"):
        kubectl.lacks(needs)
    workers = [
        node["metadata"]["name"]
        for node in kubectl.items("nodes")
        if not any(taint["effect"] == "NoSchedule" for taint in node["spec"].get("taints") or ())
    ]
    if len(workers) != 1 or workers[0].endswith("control-plane"):
        kubectl.lacks(needs)
    worker = Worker(workers[0])
    try:
        yield worker
    finally:
        subprocess.run(["docker", "unpause", worker.name], check=False, capture_output=True)
        worker.docker("start")
        kubectl("wait", "--for=condition=Ready", f"node/{worker.name}", "--timeout=120s")


def test_row_35_a_node_that_does_not_answer_is_waited_for(place: Place, worker: Worker) -> None:
    process = place.start("run", "train", "--run", "a", *LONG)
    place.wait_for(process, "train │ epoch 2/")
    worker.docker("pause")
    place.wait_for(process, "does not answer since")
    worker.docker("unpause")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    history = (place.folder / "runs/a/history.jsonl").read_text().splitlines()
    assert len(history) == 12


def test_row_35_a_pod_that_is_gone_with_its_node(place: Place, kubectl: Kubectl, worker: Worker) -> None:
    process = place.start("run", "train", "--run", "a", *LONG)
    place.wait_for(process, "train │ epoch 2/")
    worker.docker("pause")
    place.wait_for(process, "does not answer since")
    kubectl("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")
    worker.docker("unpause")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "resuming from epoch" in err


def test_row_36_a_node_that_is_started_anew(place: Place, worker: Worker) -> None:
    process = place.start("run", "train", "--run", "a", *LONG)
    place.wait_for(process, "train │ epoch 2/")
    worker.docker("restart", "-t", "1")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "resuming from epoch" in err
