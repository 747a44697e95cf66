"""Everything that is sent or applied is what Kubernetes knows, and what a hardened namespace lets in."""

from __future__ import annotations

import copy
import functools
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import kubernetes_validate.utils
import pytest
import yaml

from jobrelay import manifests
from jobrelay.cli import main as cli
from jobrelay_train.config.loading import resolve
from tests.support import REPOSITORY
from tests.support import objects as o

Object = dict[str, Any]

OLDEST, NEWEST = (kubernetes_validate.utils.all_versions()[end].rpartition(".")[0] for end in (0, -1))
FOLDERS = sorted(path.parent for path in (REPOSITORY / "k8s").rglob("kustomization.yaml"))


@functools.cache
def by_kubectl(folder: str) -> list[Object]:
    if not shutil.which("kubectl"):
        pytest.skip("an overlay is rendered by kubectl, which is not on the PATH")
    command = ["kubectl", "kustomize", str(REPOSITORY / "k8s" / folder)]
    return list(yaml.safe_load_all(subprocess.run(command, capture_output=True, check=True).stdout))


def pods(items: list[Object]) -> Iterator[Object]:
    """Every Pod, and the Pod that every Job would make."""
    for item in items:
        if item["kind"] == "Pod":
            yield item["spec"]
        elif item["kind"] == "Job":
            yield item["spec"]["template"]["spec"]


def rendered(*overrides: str) -> list[Object]:
    asked = ["train.cpu=2", "train.memory=3Gi", "eval.backoff_limit=0", *overrides]
    plan = manifests.render(
        o.base(), resolve(o.base().config, asked), "a",
        image="registry.example/jobrelay:2", timeout_seconds=60,
    )  # fmt: skip
    return plan.objects()


def sent(minor: int, *overrides: str) -> list[Object]:
    items = rendered(*overrides)
    return [manifests.for_server(item, minor) if item["kind"] == "Job" else item for item in items]


def readers() -> list[Object]:
    return [manifests.Reader("jobrelay:0.1.0").pod("ns", "claim", node) for node in (None, "node-1")]


def insecurities(pod: Object) -> list[str]:
    """Where a Pod breaks the profile "restricted" of the Pod Security Standards."""
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    volumes = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
    }
    volumes |= {"secret", "name"}
    found += [f"volume {volume['name']}" for volume in pod.get("volumes", ()) if set(volume) - volumes]
    whole = pod.get("securityContext", {})
    found += ["sysctls"] if whole.get("sysctls") else []
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        own = container.get("securityContext", {})
        both = {**whole, **own}
        capabilities = own.get("capabilities", {})
        checks = {
            "privileged": own.get("privileged") in (None, False),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities.drop": "ALL" in capabilities.get("drop", ()),
            "capabilities.add": set(capabilities.get("add", ())) <= {"NET_BIND_SERVICE"},
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser") != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "procMount": own.get("procMount", "Default") == "Default",
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", ())),
        }
        found += [f"{container['name']}: {name}" for name, good in checks.items() if not good]
    return found


def hardening_left_out(pod: Object) -> list[str]:
    """What the project asks of its Pods beyond that profile."""
    found = []
    if pod.get("automountServiceAccountToken") is not False:
        found.append("automountServiceAccountToken")
    if not {"runAsUser", "fsGroup"} <= pod["securityContext"].keys():
        found.append("numeric user and group")
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        resources = container.get("resources", {})
        checks = {
            "readOnlyRootFilesystem": container["securityContext"].get("readOnlyRootFilesystem") is True,
            "requests": {"cpu", "memory"} <= resources.get("requests", {}).keys(),
            "memory limit": "memory" in resources.get("limits", {}),
            "no CPU limit": "cpu" not in resources.get("limits", {}),
            "tag": ":" in container["image"] and not container["image"].endswith(":latest"),
            "/tmp": any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"]),
        }
        found += [f"{container['name']}: {name}" for name, good in checks.items() if not good]
    return found


def validate(items: list[Object], version: str) -> None:
    assert items
    for item in items:
        assert kubernetes_validate.validate(item, version, strict=True) == version


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("folder", [str(folder.relative_to(REPOSITORY / "k8s")) for folder in FOLDERS])
def test_what_kubectl_applies(folder: str, version: str) -> None:
    items = by_kubectl(folder)
    validate(items, version)
    assert len(list(pods(items))) == 3
    assert [insecurities(pod) + hardening_left_out(pod) for pod in pods(items)] == [[], [], []]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_what_render_prints(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render", "--run", "a", "--set", "train.cpu=2", "--set", "train.memory=3Gi"]) == 0
    items = list(yaml.safe_load_all(capsys.readouterr().out))
    validate(items, version)
    assert [insecurities(pod) + hardening_left_out(pod) for pod in pods(items)] == [[], [], []]


@pytest.mark.parametrize(
    # the schemas before 1.29 wrongly ask for onPodConditions in every rule; servers never have
    ("version", "minor"),
    [(OLDEST, 20), (OLDEST, 25), ("1.29", 28), ("1.29", 29), (NEWEST, 37)],
    ids=str,
)
def test_what_a_server_is_sent(version: str, minor: int) -> None:
    validate(sent(minor), version)


@pytest.mark.parametrize(("version", "minor"), [(OLDEST, 24), ("1.29", 29), (NEWEST, 37)], ids=str)
def test_what_a_server_is_sent_for_several_nodes(version: str, minor: int) -> None:
    items = sent(minor, "train.strategy=ddp", "train.nodes=3")
    validate(items, version)
    assert [item["metadata"]["name"] for item in items if item["kind"] == "Service"] == ["train-a"]
    assert [insecurities(pod) + hardening_left_out(pod) for pod in pods(items)] == [[], [], []]


def test_an_older_server_would_not_know_what_a_newer_one_is_sent() -> None:
    job = next(item for item in sent(29) if item["kind"] == "Job")
    del job["spec"]["podFailurePolicy"]
    with pytest.raises(kubernetes_validate.ValidationError, match="podReplacementPolicy"):
        validate([job], "1.27")


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_pod_that_reads_the_volume(version: str) -> None:
    validate(readers(), version)
    assert [insecurities(pod) + hardening_left_out(pod) for pod in pods(readers())] == [[], []]


def test_the_checks_find_what_they_look_for() -> None:
    pod = next(pods(readers()))
    spoilt: dict[str, Any] = {
        "allowPrivilegeEscalation": True,
        "capabilities": {"drop": ["NET_RAW"], "add": ["SYS_ADMIN"]},
        "runAsNonRoot": False,
        "runAsUser": 0,
        "seccompProfile": {"type": "Unconfined"},
        "privileged": True,
        "procMount": "Unmasked",
    }
    for key, value in spoilt.items():
        bad = copy.deepcopy(pod)
        bad["containers"][0]["securityContext"][key] = value
        assert any(key in found for found in insecurities(bad)), key
    for key, value in {"hostNetwork": True, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}.items():
        assert insecurities({**pod, key: value})


def test_every_object_is_labelled() -> None:
    for item in rendered():
        assert item["metadata"]["labels"]["app.kubernetes.io/part-of"] == "jobrelay"
