"""A container as a process of this machine: every path where it belongs, or the Job is refused."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

from jobrelay.errors import BadInput
from jobrelay.executors.local import LocalExecutor, configs
from jobrelay.executors.local.pod.process import Process, process_of
from tests.support import objects as o
from tests.support import pod_spec

Object = dict[str, Any]
VOLUMES = [
    {"name": "results", "persistentVolumeClaim": {"claimName": "jobrelay"}},
    {"name": "scratch", "emptyDir": {}},
    {"name": "program", "configMap": {"name": "program"}},
]
MOUNTS = [{"name": "results", "mountPath": "/results"}, {"name": "scratch", "mountPath": "/tmp"}]
MAPS = {"program": {"run.sh": b"echo hello", "LEVEL": b"3"}}


def process(root: Path, config_maps: configs.ConfigMaps = MAPS, **fields: Any) -> Process:
    scratch = root.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    container = {"name": "train", "command": ["sh", "-c"], "volumeMounts": MOUNTS, **fields}
    pod = {"metadata": {"name": "a-train-x"}, "spec": {"volumes": VOLUMES, "containers": [container]}}
    return process_of(container, pod, root, scratch, config_maps)


@pytest.mark.parametrize(
    ("argument", "here"),
    [
        ("/results", "{root}"),
        ("/results/out.txt", "{root}/out.txt"),
        ("--out=/results/x", "--out={root}/x"),
        ("of=/results/x", "of={root}/x"),
        ("/resultsets", "/resultsets"),
        ("/data/results", "/data/results"),
        ("--out=$(OUT)/x", "--out={root}/here/x"),
        (
            "echo $OUT > $OUT/x; cat ./results ${OUT}/results",
            "echo $OUT > $OUT/x; cat ./results ${OUT}/results",
        ),
        ("echo > /tmp/log", "echo > /tmp/log"),
        ("see http://results/x", "see http://results/x"),
        ("$$(OUT) $$HOME", "$(OUT) $HOME"),
    ],
)
def test_a_path_is_where_it_belongs(tmp_path: Path, argument: str, here: str) -> None:
    root = tmp_path / "volume"
    env = [{"name": "OUT", "value": "/results/here"}]
    assert process(root, args=[argument], env=env).arguments == [
        "sh",
        "-c",
        here.replace("{root}", str(root)),
    ]


@pytest.mark.parametrize(
    "program",
    [
        "echo a >> /results/out.txt",
        "cd /results && ls",
        "cat '/results/x'",
        "/results/run.sh > /results/log",
        "f(){ echo;}; f>/results",
        "OUT=/results; echo > $OUT/x",
        "import os; open('/results/x', 'w')",
        "--a=/x --b=/results",
        "file:///results/x",
    ],
)
def test_a_mount_path_in_a_program_is_refused(tmp_path: Path, program: str) -> None:
    """It would be the machine's own /results."""
    with pytest.raises(BadInput, match=r"container train: .* has the mount path /results in it") as refused:
        process(tmp_path / "volume", args=[program])
    assert "env: OUT, value: /results" in str(refused.value.hint)


def test_a_program_in_a_config_map_is_looked_at(tmp_path: Path) -> None:
    mounts = [*MOUNTS, {"name": "program", "mountPath": "/program"}]
    maps = {"program": {"run.sh": b"echo a > /results/out.txt"}}
    with pytest.raises(BadInput, match=r"run\.sh of ConfigMap program has the mount path /results in it"):
        process(tmp_path / "volume", maps, args=["/program/run.sh"], volumeMounts=mounts)


def test_a_path_with_a_space_is_not_put_into_a_program(tmp_path: Path) -> None:
    env = [{"name": "OUT", "value": "/results"}]
    with pytest.raises(BadInput, match=r"would put .*my volume' into a program"):
        process(tmp_path / "my volume", args=["echo > $(OUT)/x"], env=env)
    with pytest.raises(BadInput, match="would have a space or the like in its path"):
        process(tmp_path / "my volume", args=["/results/run.sh --now"])
    assert process(tmp_path / "my volume", args=["$(OUT)"], env=env).arguments[2] == str(
        tmp_path / "my volume"
    )


def test_variables_are_expanded_and_lists_rewritten(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    env = [
        {"name": "A", "value": "/results/a"},
        {"name": "B", "value": "$(A)/b"},
        {"name": "PATHS", "value": "/usr/bin:/results/bin"},
    ]
    environment = process(root, env=env).environment
    assert environment["B"] == f"{root}/a/b"
    assert environment["PATHS"] == f"/usr/bin:{root}/bin"


def test_of_mounts_within_mounts_the_inner_one_counts(tmp_path: Path) -> None:
    mounts = [
        {"name": "results", "mountPath": "/w"},
        {"name": "results", "mountPath": "/w/in", "subPath": "sub"},
    ]
    found = process(tmp_path / "volume", args=["/w/in/x"], volumeMounts=mounts)
    assert found.arguments[2] == f"{tmp_path}/volume/sub/x"
    assert tmp_path / "volume/sub" in found.made


def test_working_directories(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    below = process(root, workingDir="/results/new")
    assert (below.folder, root / "new" in below.made) == (f"{root}/new", True)
    assert process(root, workingDir="/usr").folder == "/usr"
    assert (Path(process(root, workingDir="/app").folder) / "jobrelay_train").is_dir()  # the image's
    with pytest.raises(BadInput, match="its workingDir /opt/nowhere is not on this machine"):
        process(root, workingDir="/opt/nowhere")


def test_variables_of_a_config_map(tmp_path: Path) -> None:
    found = process(
        tmp_path / "volume",
        envFrom=[{"configMapRef": {"name": "program"}, "prefix": "P_"}],
        env=[{"name": "L", "valueFrom": {"configMapKeyRef": {"name": "program", "key": "LEVEL"}}}],
    )
    assert (found.environment["P_LEVEL"], found.environment["L"]) == ("3", "3")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"envFrom": [{"secretRef": {"name": "tokens"}}]}, "takes variables from secretRef tokens"),
        ({"envFrom": [{"configMapRef": {"name": "none"}}]}, "ConfigMap none, which is not in the manifests"),
        ({"lifecycle": {"postStart": {}}}, "has lifecycle"),
        ({"volumeDevices": [{}]}, "has volumeDevices"),
        (
            {"volumeMounts": [{"name": "no", "mountPath": "/x"}]},
            "mounts volume no, which its Pod does not have",
        ),
        ({"volumeMounts": [{**MOUNTS[0], "subPath": "../x"}]}, "leads out of volume results"),
        ({"volumeMounts": [{**MOUNTS[0], "subPathExpr": "$(X)"}]}, "subPathExpr"),
        (
            {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "program", "key": "no"}}}]},
            "the manifests have no no in ConfigMap program",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_processes_cannot_do_is_refused(tmp_path: Path, fields: Object, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        process(tmp_path / "volume", **fields)


def test_a_sub_path_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    root.mkdir()
    (root / "sub").symlink_to(tmp_path)
    with pytest.raises(BadInput, match="subPath sub is a link that leads out of volume results"):
        process(root, volumeMounts=[{**MOUNTS[0], "subPath": "sub"}])


def test_an_environment_is_in_utf_8_as_an_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    environment = process(tmp_path / "volume").environment
    assert environment["PYTHONUTF8"] == "1"
    assert not {"PYTHONIOENCODING", "PYTHONSAFEPATH"} & set(environment)


def test_the_plan_is_refused_before_anything_is_created(tmp_path: Path) -> None:
    plan = copy.deepcopy(o.plan())
    container = pod_spec(plan.jobs["infer"])["containers"][0]
    container["command"] = [sys.executable, "-c", "print('/mnt/jobrelay/x')"]
    with pytest.raises(BadInput, match=r"container infer: .* has the mount path /mnt/jobrelay in it"):
        LocalExecutor(tmp_path / "volume").check(plan)
    assert not (tmp_path / "volume").exists()


def test_config_maps_of_the_manifests_are_kept_for_the_runners(tmp_path: Path) -> None:
    shared = {"kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "ä"}, "binaryData": {"b": "AAE="}}
    LocalExecutor(tmp_path).share([shared])
    assert configs.kept(tmp_path, ["m", "none"]) == {"m": {"a": "ä".encode(), "b": b"\x00\x01"}}
    shared["data"] = {"../x": ""}
    with pytest.raises(BadInput, match=r"'\.\./x' cannot be a name"):
        LocalExecutor(tmp_path).share([shared])


def test_the_config_maps_that_a_pod_refers_to() -> None:
    container = {
        "envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "no"}}],
        "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "b", "key": "k"}}}, {"name": "Y"}],
    }
    pod = {"volumes": [{"configMap": {"name": "c"}}, {"emptyDir": {}}], "containers": [container]}
    assert configs.named_in(pod) == {"a", "b", "c"}
