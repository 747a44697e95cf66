"""What `doctor` and the first call find, before anything is made."""

from __future__ import annotations

import json

import pytest

from tests.support import Object, Place, pod_spec, write_manifests
from tests.support.kubectl import Kubectl


def test_doctor_names_what_is_missing(place: Place, kubectl: Kubectl) -> None:
    found = {f["check"]: f for f in place.run("doctor", "-o", "json", expect=None).json()}
    assert {"cluster", "rights", "namespace", "storage", "image", "room", "clock"} == found.keys()
    room = found.pop("room")  # depends on what else is there just now
    assert room["found"].startswith("requested: 1 CPU, 1.0 GiB; most free:")
    assert all(f["state"] == "ok" for f in found.values()), json.dumps(found, indent=1)
    missing = place.run("doctor", "--image", "nothing:1", expect=2).out
    assert "nothing:1 is on no node" in missing


def test_doctor_tells_when_no_node_has_room(place: Place) -> None:
    def greedy(stage: str, job: Object) -> None:
        pod_spec(job)["containers"][0]["resources"]["requests"]["cpu"] = "999"

    folder = write_manifests(place.folder / "m", greedy)
    result = place.run("doctor", "-k", str(folder), "-o", "json", expect=2)
    assert {f["check"] for f in result.json() if f["state"] == "fail"} == {"room"}


@pytest.mark.parametrize(
    ("environment", "arguments", "said"),
    [
        ({"KUBECONFIG": "/nowhere"}, (), "--local"),
        ({}, ("--context", "not-there"), "no context 'not-there'"),
    ],
    ids=["no-cluster", "no-context"],
)
def test_a_cluster_that_is_not_there(
    place: Place, environment: dict[str, str], arguments: tuple[str, ...], said: str
) -> None:
    place.environment.update(environment)
    place.options = ["-n", "somewhere"]
    result = place.run("run-all", *arguments, expect=2)
    assert said in result.err
