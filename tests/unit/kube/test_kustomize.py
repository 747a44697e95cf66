"""Folders as `kubectl apply -k` takes them: nothing is left out in silence, nothing lands elsewhere."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobrelay import manifests
from jobrelay.errors import BadInput
from jobrelay.manifests import Manifests
from jobrelay.runs.target import Target
from jobrelay_train.config.schema import RunConfig
from tests.support import BASE
from tests.support import objects as o
from tests.support.apiserver import kubeconfig

Object = dict[str, Any]

needs_kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="kustomize's own business")

GOOSE = """\
apiVersion: farm.test/v1
kind: Goose
metadata: { name: gus }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(BASE, tmp_path / "m")
    return tmp_path / "m"


def change(folder: Path, **keys: Any) -> None:
    path = folder / "kustomization.yaml"
    tree = yaml.safe_load(path.read_text()) | keys
    path.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not None}))


def add(folder: Path, text: str) -> None:
    (folder / "added.yaml").write_text(text)
    path = folder / "kustomization.yaml"
    change(folder, resources=[*yaml.safe_load(path.read_text())["resources"], "added.yaml"])


def without_namespaces(folder: Path) -> None:
    """As people write them who name the namespace to kubectl."""
    change(folder, namespace=None)
    for path in folder.glob("*.yaml"):
        path.write_text(path.read_text().replace("  namespace: jobrelay\n", ""))


def shared(loaded: Manifests, namespace: str | None = None) -> dict[str, Object]:
    plan = manifests.render(loaded, RunConfig(), "a", namespace=namespace)
    return {f"{item['kind']} {item['metadata']['name']}": item for item in plan.shared}


# --- where shared objects are sent ---------------------------------------------------------------


def test_shared_objects_without_a_namespace_go_where_the_jobs_go(folder: Path) -> None:
    without_namespaces(folder)
    loaded = manifests.load(folder)
    plan = manifests.render(loaded, RunConfig(), "a", namespace="team-x")
    placed = {item["metadata"].get("namespace") for item in plan.objects() if item["kind"] != "Namespace"}
    assert placed == {"team-x"}


def test_objects_in_other_namespaces_and_in_none_stay_there(folder: Path) -> None:
    change(folder, namespace=None)
    add(
        folder,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: proxy, namespace: monitoring }\n---\n"
        "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: { name: low }\n---\n" + GOOSE,
    )
    found = shared(manifests.load(folder), "team-x")
    assert found["ConfigMap proxy"]["metadata"]["namespace"] == "monitoring"
    assert "namespace" not in found["PriorityClass low"]["metadata"]
    assert found["Goose gus"]["metadata"]["namespace"] == "team-x"
    assert found["PersistentVolumeClaim jobrelay"]["metadata"]["namespace"] == "team-x"
    assert "Namespace team-x" in found


def test_what_names_no_namespace_is_for_that_of_the_context(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_namespaces(folder)
    path = str(kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1"))
    monkeypatch.setenv("KUBECONFIG", path)
    assert Target(kustomization=folder).manifests.namespace == "mine"
    assert Target(kustomization=folder, local=True).manifests.namespace == "default"
    assert Target().manifests.namespace == "jobrelay"
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert Target(kustomization=folder).manifests.namespace == "default"


# --- what is read here, and what kustomize reads -------------------------------------------------


@pytest.mark.parametrize(
    "files", [["settings.yaml"], ["config.yaml=settings.yaml"]], ids=["file", "key=file"]
)
def test_the_configuration_may_be_a_file_of_another_name(folder: Path, files: list[str]) -> None:
    (folder / "settings.yaml").write_text("train: { epochs: 9 }\n")
    change(folder, configMapGenerator=[{"name": "jobrelay-config", "files": files}])
    expected = {"train": {"epochs": 9}} if "=" in files[0] else {}
    assert manifests.load(folder).config == expected


@needs_kubectl
@pytest.mark.parametrize(
    ("generator", "data"),
    [
        ({"literals": ["a=1", "b=two"]}, {"a": "1", "b": "two"}),
        ({"files": ["key=namespace.yaml"]}, {"key": (BASE / "namespace.yaml").read_text()}),
        ({"envs": ["my.env"]}, {"X": "y"}),
    ],
    ids=["literals", "key=file", "envs"],
)
def test_a_generator_makes_all_that_it_says(folder: Path, generator: Object, data: dict[str, str]) -> None:
    (folder / "my.env").write_text("X=y\n")
    own = {"name": "jobrelay-config", "files": ["config.yaml"]}
    change(folder, configMapGenerator=[own, {"name": "extra", **generator}])
    loaded = manifests.load(folder)
    (found,) = [item for item in loaded.shared if item["kind"] == "ConfigMap"]
    assert found["data"] == data
    assert found["metadata"]["name"].startswith("extra-")
    assert loaded.config == o.base().config


@needs_kubectl
def test_literals_of_the_configuration_are_not_left_out(folder: Path) -> None:
    generator = {"name": "jobrelay-config", "literals": ["config.yaml=train: { epochs: 9 }"]}
    change(folder, configMapGenerator=[generator])
    assert manifests.load(folder).config == {"train": {"epochs": 9}}


def test_a_config_map_that_is_only_called_alike_is_sent(folder: Path) -> None:
    add(
        folder,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: jobrelay-config-of-mine }\ndata: { a: b }\n",
    )
    loaded = manifests.load(folder)
    assert loaded.config == o.base().config
    assert "ConfigMap jobrelay-config-of-mine" in shared(loaded)


@needs_kubectl
def test_a_list_and_what_kustomize_keeps_to_itself(folder: Path) -> None:
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
    local = {"name": "two", "annotations": {"config.kubernetes.io/local-config": "true"}}
    items = [one, {**one, "metadata": local}]
    add(folder, yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}, sort_keys=False))
    found = shared(manifests.load(folder))
    assert "ConfigMap one" in found
    assert "ConfigMap two" not in found


@pytest.mark.parametrize("name", ["kustomization.yml", "Kustomization"])
def test_a_kustomization_may_have_three_names(folder: Path, name: str) -> None:
    (folder / "kustomization.yaml").rename(folder / name)
    assert list(manifests.load(folder).jobs) == ["train", "eval", "infer"]


def tool(folder: Path, name: str, script: str) -> None:
    """A program of that name; whatever else is on the PATH, it alone is found."""
    folder.mkdir()
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(("name", "verb"), [("kubectl", "kustomize"), ("kustomize", "build")])
def test_either_tool_renders(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, verb: str
) -> None:
    (tmp_path / "made.yaml").write_text(manifests.to_yaml([*o.plan().shared, *o.plan().jobs.values()]))
    tool(tmp_path / "bin", name, f'[ "$1" = {verb} ] && exec /bin/cat {tmp_path}/made.yaml')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    change(folder, namePrefix="x-")
    assert list(manifests.load(folder).jobs) == ["train", "eval", "infer"]


@pytest.mark.parametrize(
    "base",
    ["https://example.invalid/org/repo//k8s?ref=v1", "github.com/org/repo/k8s", "git@example.invalid:o/r"],
)
def test_a_remote_base_is_for_kustomize(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    tool(tmp_path / "bin", "kubectl", "echo no way to $2 >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    change(folder, resources=[base])
    with pytest.raises(BadInput, match=f"`kubectl kustomize {folder}` failed: no way to"):
        manifests.load(folder)


def test_without_a_tool_it_is_said_what_is_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    change(folder, configMapGenerator=[{"name": "jobrelay-config", "literals": ["a=b"]}])
    with pytest.raises(BadInput, match="neither kubectl nor kustomize is on the PATH"):
        manifests.load(folder)


def test_a_tool_that_never_ends(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrelay.manifests.kustomize._SECONDS", 0.2)
    tool(tmp_path / "bin", "kubectl", "exec /bin/sleep 100")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    change(folder, resources=["https://example.invalid/repo"])
    with pytest.raises(BadInput, match="did not end within"):
        manifests.load(folder)
