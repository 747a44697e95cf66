"""Names that are taken: by another content, by somebody else, by what is being deleted."""

from __future__ import annotations

import time

import pytest

from tests.support import PATIENCE, QUICK, Object, Place, changed, programs
from tests.support.kubectl import Kubectl

FINALIZER = "example.org/hold"


def job(name: str, program: str, **metadata: object) -> Object:
    container = {"name": "c", "image": "jobrelay:0.1.0", "command": ["python", "-c", program]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"template": template, "backoffLimit": 0}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, **metadata}, "spec": spec}


@pytest.mark.parametrize(
    "program", ["print('yesterday')", "import time; time.sleep(60)"], ids=["old", "at-work"]
)
def test_row_12_a_job_of_that_name_that_is_not_ours(place: Place, kubectl: Kubectl, program: str) -> None:
    kubectl.make_namespace()
    kubectl.apply(job("a-train", program))
    if "sleep" not in program:
        assert kubectl.wait_until(lambda: kubectl.complete("a-train"))
    before = kubectl.get("job", "a-train")["metadata"]["uid"]
    result = place.run("run-all", "--run", "a", *QUICK, expect=6)
    assert "was not created by this launcher" in result.err
    assert kubectl.get("job", "a-train")["metadata"]["uid"] == before
    assert not kubectl.exists("job", "a-eval")


def test_row_13_a_name_that_is_still_being_deleted(place: Place, kubectl: Kubectl) -> None:
    kubectl.make_namespace()
    kubectl.apply(job("a-train", "pass", finalizers=[FINALIZER]))
    kubectl("delete", "job", "a-train", "--wait=false")
    process = place.start("run-all", "-k", str(programs(place.folder / "m")), "--run", "a", "--no-fetch")
    time.sleep(4)
    assert process.poll() is None
    kubectl("patch", "job", "a-train", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err


def test_row_13_a_name_that_is_never_free(place: Place, kubectl: Kubectl) -> None:
    kubectl.make_namespace()
    kubectl.apply(job("a-train", "pass", finalizers=[FINALIZER]))
    kubectl("delete", "job", "a-train", "--wait=false")
    result = place.run("run-all", "--run", "a", *QUICK, expect=6)
    assert FINALIZER in result.err
    assert "is being deleted" in result.err
    kubectl("patch", "job", "a-train", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')


def test_row_14_a_field_that_somebody_else_manages(place: Place, kubectl: Kubectl) -> None:
    kubectl.make_namespace()
    claim = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: jobrelay }
spec:
  accessModes: [ReadWriteOnce]
  resources: { requests: { storage: 3Gi } }
"""
    kubectl("apply", "--server-side", "--field-manager=the-platform-team", "-f", "-", stdin=claim)
    result = place.run("run-all", "--run", "a", *QUICK, expect=6)
    assert "the-platform-team" in result.err
    assert "PersistentVolumeClaim jobrelay" in result.err
    assert not kubectl.items("jobs")
    assert kubectl.get("pvc", "jobrelay")["spec"]["resources"]["requests"]["storage"] == "3Gi"


def test_row_11_another_image_under_one_name(place: Place, kubectl: Kubectl) -> None:
    folder = changed(place.folder / "m", lambda pod, job: None)
    place.run("run-all", "-k", str(folder), "--run", "a", "--no-fetch")
    image = "docker.io/library/jobrelay:0.1.0"
    result = place.run("run-all", "-k", str(folder), "--run", "a", "--no-fetch", "--image", image, expect=6)
    assert f"{image} wanted" in result.err
    assert "image: jobrelay:0.1.0 there" in result.err
