"""Stages of several Pods, on a real cluster: names, network, and what keeps one of them from starting."""

from __future__ import annotations

import pytest

from jobrelay.manifests import INDEXED_SINCE
from tests.suites.several_pods import NODES, SeveralPods, stage
from tests.support import PATIENCE, Object, Place, changed, pod_spec
from tests.support.kubectl import Kubectl

_BY_NAME = """
import socket
address = os.environ["JOBRELAY_ADDRESS"]
with rendezvous(context) as meeting:
    leader = socket.gethostbyname(os.environ["JOBRELAY_LEADER"])
    print("index", index, leader == meeting.address, (index == 0) == (address == leader), flush=True)
"""

_STAYS = """
with rendezvous(context) as meeting:
    print("index", index, "met", flush=True)
    if meeting.lost(seconds=0 if (volume / "again").exists() else 60) is not None:
        (volume / "again").touch()
        raise RuntimeError("Connection closed by peer")
"""


@pytest.fixture
def kubectl(kubectl: Kubectl, request: pytest.FixtureRequest) -> Kubectl:
    if "older" not in request.node.name:
        kubectl.needs(INDEXED_SINCE, "Indexed Jobs")
    return kubectl


class TestSeveralPodsCluster(SeveralPods):
    pass


def test_they_find_index_0_by_its_name(place: Place, kubectl: Kubectl) -> None:
    folder = stage(place.folder / "m", _BY_NAME)
    result = place.run("run", "train", "--run", "2026-a", "-k", str(folder), *NODES)
    for index in range(3):
        assert f"train.{index} │ index {index} True True" in result.err
    assert kubectl.exists("service", "train-2026-a")
    assert "Service train-2026-a deleted" in place.run("delete", "2026-a").out
    assert not kubectl.exists("service", "train-2026-a")


def test_row_33_one_of_them_is_deleted(place: Place, kubectl: Kubectl) -> None:
    folder = stage(place.folder / "m", _STAYS)
    process = place.start("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", *NODES)
    place.wait_for(process, "train.2 │ index 2 met")
    kubectl("delete", "pod", kubectl.pods_alive("a-train-1-")[0], "--wait=false")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "index 1 of this stage is lost" in err


def test_row_23_one_of_them_finds_no_room(place: Place) -> None:
    def crowded(spec: Object, job: Object) -> None:
        node = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {
            "app.kubernetes.io/component": "train"}}}  # fmt: skip
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [node]}}
        spec["containers"][0]["command"] = ["sleep", "60"]

    folder = changed(place.folder / "m", crowded)
    result = place.run(
        "run", "train", "--run", "a", "-k", str(folder), "--no-fetch", *NODES,
        "--set", "train.schedule_timeout_seconds=6", expect=3,
    )  # fmt: skip
    assert "Unschedulable" in result.err
    assert "anti-affinity" in result.err


def test_row_59_nobody_else_speaks_to_them(place: Place, kubectl: Kubectl) -> None:
    folder = stage(place.folder / "m", _STAYS)
    process = place.start("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", *NODES)
    place.wait_for(process, "train.0 │ index 0 met")
    leader = kubectl.get("pod", kubectl.pods_alive("a-train-0-")[0])
    spec = pod_spec(kubectl.get("job", "a-train"))
    program = f"""
import socket
try:
    socket.create_connection(("{leader["status"]["podIP"]}", 29400), timeout=5)
    print("it answers")
except ConnectionRefusedError:
    print("it answers")
except OSError as error:
    print("nobody answers")
"""
    labels = {
        k: v for k, v in leader["metadata"]["labels"].items() if k.startswith("app.") and "job" not in k
    }
    probe: Object = {
        "restartPolicy": "Never", "securityContext": spec["securityContext"],
        "containers": [{"name": "probe", "image": spec["containers"][0]["image"],
                        "command": ["python", "-c", program],
                        "securityContext": spec["containers"][0]["securityContext"]}],
    }  # fmt: skip
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "labels": labels}, "spec": probe}
    )
    assert kubectl.wait_until(lambda: kubectl.get("pod", "probe")["status"]["phase"] == "Succeeded", 60)
    said = kubectl("logs", "probe")
    process.terminate()
    process.communicate(timeout=PATIENCE)
    if "it answers" in said:
        kubectl.lacks("a network plugin that enforces NetworkPolicies")
    assert "nobody answers" in said


def test_row_9_an_older_server_is_refused_before_anything_is_made(place: Place, kubectl: Kubectl) -> None:
    if kubectl.minor >= INDEXED_SINCE:
        kubectl.lacks(f"a Kubernetes older than 1.{INDEXED_SINCE}")
    result = place.run("run-all", "--run", "a", *NODES, expect=2)
    assert f"needs Indexed Jobs, and so Kubernetes 1.{INDEXED_SINCE} or newer" in result.err
    assert f"this server has 1.{kubectl.minor}" in result.err
    assert not kubectl.exists("namespace", kubectl.namespace)
