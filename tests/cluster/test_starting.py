"""Jobs that cannot start: why, told in the API's own words, and in time."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.support import LITTLE, PATIENCE, QUICK, Object, Place, changed
from tests.support.kubectl import Kubectl

NEVER_FETCH = ("--run", "a", "--no-fetch", *LITTLE)


def run_of(place: Place, change: Callable[[Object, Object], None]) -> list[str]:
    """Arguments of a run whose train Job was changed by `change(pod_spec, job)`."""
    return ["run-all", "-k", str(changed(place.folder / "m", change)), *NEVER_FETCH]


REGISTRY = """
import http.server, sys
status, code = int(sys.argv[1]), sys.argv[2]
class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"errors": [{"code": "%s", "message": "as the test wants it"}]}' % code.encode()
        if self.path == "/v2/":
            body = b"{}"
        self.send_response(200 if self.path == "/v2/" else status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
    do_HEAD = do_GET
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def registry(kubectl: Kubectl, status: int, code: str) -> str:
    """A registry on the node itself, to which a runtime speaks plain HTTP; it answers every pull so."""
    kubectl.make_namespace()
    container = {
        "name": "registry",
        "image": "jobrelay:0.1.0",
        "command": ["python", "-c", REGISTRY, str(status), code],
    }
    spec = {"hostNetwork": True, "restartPolicy": "Never", "containers": [container]}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "registry"}, "spec": spec})
    assert kubectl.wait_until(lambda: kubectl("logs", "registry", check=False).strip().isdigit())
    return "127.0.0.1:" + kubectl("logs", "registry").strip()


def test_row_19_an_image_that_is_not_there(place: Place, kubectl: Kubectl) -> None:
    image = f"{registry(kubectl, 404, 'MANIFEST_UNKNOWN')}/nobody/nothing:1"
    begun = time.monotonic()
    result = place.run("run-all", "--image", image, *NEVER_FETCH, expect=3)

    assert time.monotonic() - begun < 25  # not the whole start timeout; 5 s of them are patience
    assert "ImagePull" in result.err
    assert "nobody/nothing:1: not found" in result.err
    with_verdict = kubectl.get("job", "a-train")
    assert "ImagePull" in with_verdict["metadata"]["annotations"]["jobrelay.dev/verdict"]
    assert kubectl.wait_until(lambda: kubectl.pods_alive() == ["registry"])


def test_row_19_a_registry_that_is_out_of_order_is_waited_for(place: Place, kubectl: Kubectl) -> None:
    image = f"{registry(kubectl, 503, 'UNAVAILABLE')}/nobody/nothing:1"
    begun = time.monotonic()
    result = place.run("run-all", "--image", image, *NEVER_FETCH, "--start-timeout", "20", expect=3)

    assert time.monotonic() - begun > 20
    assert "503" in result.err


def test_row_19_a_registry_that_nobody_knows(place: Place) -> None:
    result = place.run("run-all", "--image", "registry.invalid/nobody/nothing:1", *NEVER_FETCH, expect=3)
    assert "ImagePull" in result.err
    assert "nobody/nothing:1" in result.err


def test_row_20_what_cannot_be_an_images_name_ends_before_anything_is_made(place: Place) -> None:
    result = place.run("run-all", "--image", "not an image", expect=2)
    assert "cannot be an image's name" in result.err
    assert place.run("list", "-o", "name").out == ""
    assert list(place.folder.iterdir()) == []


def test_row_20_an_image_that_may_not_be_pulled(place: Place) -> None:
    def never(pod: Object, job: Object) -> None:
        pod["containers"][0].update(image="nothing:1", imagePullPolicy="Never")

    result = place.run(*run_of(place, never), expect=3)
    assert "ErrImageNeverPull" in result.err


def test_row_21_a_secret_that_is_not_there(place: Place) -> None:
    def secret(pod: Object, job: Object) -> None:
        source = {"secretKeyRef": {"name": "no-such-secret", "key": "k"}}
        pod["containers"][0]["env"].append({"name": "TOKEN", "valueFrom": source})

    result = place.run(*run_of(place, secret), expect=3)
    assert "CreateContainerConfigError" in result.err
    assert "no-such-secret" in result.err


def test_row_15_pod_security_that_refuses_the_pod(place: Place, kubectl: Kubectl) -> None:
    kubectl.needs(23, "Pod Security admission")
    kubectl.make_namespace()
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")

    def privileged(pod: Object, job: Object) -> None:
        pod["containers"][0]["securityContext"] = {"privileged": True, "runAsUser": 0, "runAsNonRoot": False}

    begun = time.monotonic()
    result = place.run(*run_of(place, privileged), expect=3)
    assert time.monotonic() - begun < 45  # 30 s of them are patience
    assert "FailedCreate" in result.err
    assert 'violates PodSecurity "restricted' in result.err


def test_row_15_our_own_pods_are_restricted(place: Place, kubectl: Kubectl) -> None:
    kubectl.needs(23, "Pod Security admission")
    place.run("run-all", "--run", "a", *QUICK)
    namespace = kubectl.get("namespace", kubectl.namespace)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_row_16_a_service_account_that_is_not_there(place: Place) -> None:
    result = place.run(*run_of(place, lambda pod, job: pod.update(serviceAccountName="nobody")), expect=3)
    assert "FailedCreate" in result.err
    assert '"nobody" not found' in result.err


def test_row_17_a_quota_that_is_spent(place: Place, kubectl: Kubectl) -> None:
    kubectl.make_namespace()
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q"},
            "spec": {"hard": {"pods": "0"}},
        }
    )
    # a quota is in force once its controller has counted
    kubectl.wait_until(lambda: "hard" in kubectl.get("resourcequota", "q").get("status", {}))
    result = place.run("run-all", *NEVER_FETCH, "--start-timeout", "5", expect=3)
    assert "exceeded quota" in result.err


def test_row_18_a_suspended_job_is_queued(place: Place, kubectl: Kubectl) -> None:
    kubectl.needs(22, "suspended Jobs")
    arguments = run_of(place, lambda pod, job: job["spec"].update(suspend=True))
    result = place.run(*arguments, "--queue-timeout", "5", "--start-timeout", "1", expect=3)
    assert "queued" in result.err
    assert "Suspended" in result.err


def test_row_18_a_job_that_is_let_in_goes_on(place: Place, kubectl: Kubectl) -> None:
    kubectl.needs(22, "suspended Jobs")
    process = place.start(*run_of(place, lambda pod, job: job["spec"].update(suspend=True)))
    assert kubectl.wait_until(lambda: kubectl.exists("job", "a-train"))
    time.sleep(2)
    kubectl("patch", "job", "a-train", "--type=merge", "-p", '{"spec": {"suspend": false}}')
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err


def test_row_18_a_job_of_another_controller_is_queued(place: Place, kubectl: Kubectl) -> None:
    kubectl.needs(32, "Jobs of other controllers")
    arguments = run_of(place, lambda pod, job: job["spec"].update(managedBy="example.org/queue"))
    result = place.run(*arguments, "--queue-timeout", "5", expect=3)
    assert "example.org/queue" in result.err


def test_row_23_no_node_has_room(place: Place) -> None:
    result = place.run("run-all", *NEVER_FETCH, "--set", "train.cpu=999", "--schedule-timeout", "5", expect=3)
    assert "Unschedulable" in result.err
    assert "Insufficient cpu" in result.err
    assert "--set train.cpu=" in result.err


def test_row_24_a_claim_that_is_not_there(place: Place) -> None:
    def other_claim(pod: Object, job: Object) -> None:
        pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = "elsewhere"

    result = place.run(*run_of(place, other_claim), "--schedule-timeout", "5", expect=3)
    assert '"elsewhere" not found' in result.err


def test_row_24_a_claim_whose_class_is_not_there(place: Place, kubectl: Kubectl) -> None:
    kubectl.make_namespace()
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "no-such-class",
    }
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "elsewhere"}}
    kubectl.apply({**claim, "spec": spec})

    def other_claim(pod: Object, job: Object) -> None:
        pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = "elsewhere"

    result = place.run(*run_of(place, other_claim), "--schedule-timeout", "20", expect=3)
    assert "PersistentVolumeClaim elsewhere" in result.err
    assert "no-such-class" in result.err


def test_row_25_a_volume_that_cannot_be_mounted(place: Place) -> None:
    def absent(pod: Object, job: Object) -> None:
        pod["volumes"].append({"name": "x", "configMap": {"name": "no-such-map"}})
        pod["containers"][0]["volumeMounts"].append({"name": "x", "mountPath": "/x"})

    result = place.run(*run_of(place, absent), "--start-timeout", "8", expect=3)
    assert "FailedMount" in result.err
    assert "no-such-map" in result.err
