"""Pods that are lost in the middle of the real training, and what comes after them."""

from __future__ import annotations

import copy
import json

import pytest

from tests.support import LONG, PATIENCE, Object, Place, pod_spec, write_manifests
from tests.support.kubectl import Kubectl


def test_row_32_an_evicted_pod_is_replaced_and_resumes(place: Place, kubectl: Kubectl) -> None:
    process = place.start("run-all", "--run", "a", "-o", "json", *LONG)
    place.wait_for(process, "train │ epoch 2/")
    kubectl.evict(kubectl.pods_alive("a-train")[0])
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "resuming from epoch" in err
    report = json.loads(out)
    assert report["stages"][0]["log_complete"]
    logs = list((place.folder / "runs/a/logs").glob("train-*.log"))
    assert len(logs) == 2  # each attempt keeps its own
    history = (place.folder / "runs/a/history.jsonl").read_text()
    epochs = [json.loads(line)["epoch"] for line in history.splitlines()]
    assert epochs == list(range(1, 13))


def test_row_32_the_budget_of_disruptions_is_spent(place: Place, kubectl: Kubectl) -> None:
    process = place.start("run-all", "--run", "a", "--set", "train.disruption_limit=0", *LONG)
    place.wait_for(process, "train │ epoch 1/")
    kubectl.evict(kubectl.pods_alive("a-train")[0])
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 8, err
    assert "DisruptionLimitExceeded" in err
    assert "train resumes from its last checkpoint" in err
    assert kubectl.wait_until(lambda: not kubectl.pods_alive(), seconds=60)


@pytest.fixture(scope="module")
def expected() -> dict[str, bytes]:
    """Filled by the first test that needs it: a training takes half a minute."""
    return {}


@pytest.fixture
def undisturbed(place: Place, expected: dict[str, bytes]) -> bytes:
    """The model of a training that nobody disturbs, on this very machine's CPU."""
    if not expected:
        place.run("run", "train", "--run", "undisturbed", *LONG)
        expected["model"] = (place.folder / "runs/undisturbed/model.pt").read_bytes()
    return expected["model"]


def test_row_33_a_pod_that_is_deleted_and_does_not_go(
    place: Place, kubectl: Kubectl, undisturbed: bytes
) -> None:
    def deaf(stage: str, job: Object) -> None:
        if stage == "train":  # the shell is PID 1, and does not pass SIGTERM on
            container = pod_spec(job)["containers"][0]
            container["command"] = [
                "sh",
                "-c",
                'trap "" TERM; python -m jobrelay_train train & wait $!; exit $?',
            ]
            container.pop("args")

    folder = write_manifests(place.folder / "m", deaf)
    process = place.start("run", "train", "--run", "a", "-k", str(folder), *LONG)
    place.wait_for(process, "train │ epoch 2/")
    kubectl("delete", "pod", kubectl.pods_alive("a-")[0], "--grace-period=25", "--wait=false")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert (place.folder / "runs/a/model.pt").read_bytes() == undisturbed
    if kubectl.minor < 29:  # later ones wait until the first Pod has ended
        assert "has taken over" in err


def test_row_34_two_pods_of_one_stage(place: Place, kubectl: Kubectl, undisturbed: bytes) -> None:
    process = place.start("run", "train", "--run", "a", *LONG)
    place.wait_for(process, "train │ epoch 2/")
    first = kubectl.get("pod", kubectl.pods_alive("a-")[0])
    spec = copy.deepcopy(kubectl.get("job", "a-train")["spec"]["template"]["spec"])
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "second"}, "spec": spec})
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert (place.folder / "runs/a/model.pt").read_bytes() == undisturbed
    log = (place.folder / "runs/a/logs" / f"train-{first['metadata']['name']}.log").read_text()
    assert "has taken over" in log
