"""What only a cluster can do wrong. The numbers are those of the catalogue of faults."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest
import yaml

from tests.cluster.kubectl import Kubectl
from tests.support import QUICK, REPOSITORY, Object, Place, pod_spec, programs, set_command, write_manifests

NEVER_FETCH = ("--run", "a", "--no-fetch")


def changed(place: Place, change: Any) -> list[str]:
    """Arguments of a run whose train Job was changed by `change(pod_spec, job)`."""

    def of_train(stage: str, job: Object) -> None:
        set_command(job, ["python", "-c", f"print('{stage}')"])
        job["spec"]["backoffLimit"] = 0
        if stage == "train":
            change(pod_spec(job), job)

    return ["run-all", "-k", str(write_manifests(place.folder / "m", of_train)), *NEVER_FETCH]


def test_row_19_an_image_that_is_not_there(place: Place, kubectl: Kubectl) -> None:
    begun = time.monotonic()
    result = place.run("run-all", "--image", "registry.invalid/nobody/nothing:1", *NEVER_FETCH, expect=3)

    assert "nobody/nothing:1" in result.err
    assert "ImagePull" in result.err
    assert time.monotonic() - begun < 100  # not the whole start timeout
    with_verdict = kubectl.get("job", "a-train")
    assert "ImagePull" in with_verdict["metadata"]["annotations"]["jobrelay.dev/verdict"]
    assert kubectl.wait_until(lambda: not kubectl.pods_alive())


def test_row_20_an_image_that_may_not_be_pulled(place: Place) -> None:
    def never(pod: Object, job: Object) -> None:
        pod["containers"][0].update(image="nothing:1", imagePullPolicy="Never")

    result = place.run(*changed(place, never), expect=3)
    assert "ErrImageNeverPull" in result.err


def test_row_21_a_secret_that_is_not_there(place: Place) -> None:
    def secret(pod: Object, job: Object) -> None:
        source = {"secretKeyRef": {"name": "no-such-secret", "key": "k"}}
        pod["containers"][0]["env"].append({"name": "TOKEN", "valueFrom": source})

    result = place.run(*changed(place, secret), expect=3)
    assert "CreateContainerConfigError" in result.err
    assert "no-such-secret" in result.err


def test_row_16_a_service_account_that_is_not_there(place: Place) -> None:
    result = place.run(*changed(place, lambda pod, job: pod.update(serviceAccountName="nobody")), expect=3)
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


def test_row_23_no_node_has_room(place: Place) -> None:
    result = place.run("run-all", *NEVER_FETCH, "--set", "train.cpu=999", "--schedule-timeout", "5", expect=3)
    assert "Unschedulable" in result.err
    assert "Insufficient cpu" in result.err
    assert "--set train.cpu=" in result.err


def test_row_24_a_claim_that_is_not_there(place: Place) -> None:
    def other_claim(pod: Object, job: Object) -> None:
        pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = "elsewhere"

    result = place.run(*changed(place, other_claim), "--schedule-timeout", "5", expect=3)
    assert '"elsewhere" not found' in result.err


def test_row_25_a_volume_that_cannot_be_mounted(place: Place) -> None:
    def absent(pod: Object, job: Object) -> None:
        pod["volumes"].append({"name": "x", "configMap": {"name": "no-such-map"}})
        pod["containers"][0]["volumeMounts"].append({"name": "x", "mountPath": "/x"})

    result = place.run(*changed(place, absent), "--start-timeout", "8", expect=3)
    assert "FailedMount" in result.err
    assert "no-such-map" in result.err


def test_row_31_out_of_memory(place: Place) -> None:
    program = "x = bytearray(400 * 2**20); print('survived', flush=True)"
    folder = programs(place.folder / "m", train=program)
    result = place.run("run-all", "-k", str(folder), *NEVER_FETCH, "--set", "train.memory=128Mi", expect=1)
    assert "out of memory (limit 128Mi" in result.err
    assert "--set train.memory=" in result.err
    assert "survived" not in result.err


def test_row_38_a_job_that_is_deleted(place: Place, kubectl: Kubectl) -> None:
    folder = programs(place.folder / "m", train="import time; print('on', flush=True); time.sleep(60)")
    process = place.start("run-all", "-k", str(folder), *NEVER_FETCH)
    assert process.stderr
    for line in process.stderr:
        if "train │ on" in line:
            kubectl("delete", "job", "a-train", "--wait=false")
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 8
    assert "deleted" in err


def test_row_9_a_right_that_is_missing(place: Place, kubectl: Kubectl) -> None:
    kubectl.make_namespace()
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods", "events", "configmaps", "pods/exec"], "verbs": ["*"]},
    ]
    context = kubectl.restricted_context(rules, place.folder.parent / "kubeconfig")
    place.environment["KUBECONFIG"] = str(context)
    result = place.run("run-all", "--run", "a", expect=2)
    assert "get pods/log" in result.err
    assert not kubectl.items("jobs")


def test_the_volume_pod_is_always_removed(place: Place, kubectl: Kubectl) -> None:
    place.run("run", "train", "--run", "a", *QUICK)
    place.run("fetch", "a")
    place.run("fetch", "b", expect=7)
    assert kubectl.wait_until(lambda: len(kubectl.items("pods")) == 1)


def test_an_interrupted_put_leaves_nothing(place: Place, kubectl: Kubectl) -> None:
    place.run("run", "train", "--run", "a", *QUICK)
    big = place.folder.parent / "big"
    big.mkdir()
    (big / "file").write_bytes(b"0123456789abcdef" * (64 * 2**20))
    process = place.start("put", str(big), "big")
    assert kubectl.wait_until(lambda: bool(kubectl.running_volume_pods()))
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130

    (big / "file").write_bytes(b"small")
    place.run("put", str(big), "big")  # the name is free


def test_pods_run_with_no_token_and_a_read_only_root(place: Place) -> None:
    program = """
        import os, pathlib
        print("uid", os.getuid())
        print("token", pathlib.Path("/var/run/secrets/kubernetes.io").exists())
        try:
            pathlib.Path("/here").touch()
        except OSError as error:
            print("root", error.strerror)
    """
    result = place.run("run-all", "-k", str(programs(place.folder / "m", train=program)), *NEVER_FETCH)
    assert "uid 10001" in result.err
    assert "token False" in result.err
    assert "root Read-only file system" in result.err


def test_kubectl_alone_runs_the_stages_in_order(place: Place, kubectl: Kubectl) -> None:
    rendered = place.run("render", "--run", "alone", *QUICK).out
    kubectl.apply_text(rendered)
    assert kubectl.wait_until(lambda: kubectl.complete("alone-infer"), seconds=100)
    ends = [
        kubectl.get("job", f"alone-{stage}")["status"]["completionTime"]
        for stage in ("train", "eval", "infer")
    ]
    assert ends == sorted(ends)
    place.run("fetch", "alone")
    assert (place.folder / "runs/alone/eval_results.json").exists()


def test_kubectl_alone_ends_when_a_stage_fails(place: Place, kubectl: Kubectl) -> None:
    rendered = place.run(
        "render", "--run", "alone", "--set", "data.name=mnist", "--set", "data.mirror=http://127.0.0.1:9/"
    ).out
    kubectl.apply_text(rendered)
    assert kubectl.wait_until(lambda: kubectl.failed("alone-eval"), seconds=100)
    assert not kubectl.complete("alone-infer")


def test_doctor_names_what_is_missing(place: Place, kubectl: Kubectl) -> None:
    found = {f["check"]: f for f in place.run("doctor", "-o", "json", expect=None).json()}
    assert {"cluster", "rights", "namespace", "storage", "image", "room", "clock"} == found.keys()
    room = found.pop("room")  # depends on what else is there just now
    assert room["found"].startswith("asked: 1 CPU, 1.0 GiB; most free:")
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


@pytest.mark.parametrize("overlay", ["base", "overlays/kind", "overlays/gpu"])
def test_the_api_server_takes_every_overlay(kubectl: Kubectl, overlay: str) -> None:
    kubectl.make_namespace()
    objects = list(yaml.safe_load_all(kubectl("kustomize", str(REPOSITORY / "k8s" / overlay))))
    for item in objects:
        if item["kind"] == "Namespace":
            item["metadata"]["name"] = kubectl.namespace
        else:
            item["metadata"]["namespace"] = kubectl.namespace
    answer = kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(objects))
    assert answer.count("server dry run") == len(objects) == 10
