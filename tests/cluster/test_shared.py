"""What all runs share, as `kubectl apply -k` takes it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.support import Place, programs
from tests.support.kubectl import Kubectl

#: In the core group only, and of Kubernetes 1.20 as of today's.
ADDED = """\
apiVersion: v1
kind: LimitRange
metadata: { name: limits }
spec: { limits: [{ type: Container, defaultRequest: { cpu: 10m } }] }
---
apiVersion: v1
kind: Endpoints
metadata: { name: proxy }
---
apiVersion: v1
kind: PodTemplate
metadata: { name: template }
template: { spec: { containers: [{ name: c, image: x }] } }
"""


def test_shared_objects_of_any_kind_without_a_namespace(place: Place, kubectl: Kubectl) -> None:
    kubectl.make_namespace()
    folder = programs(place.folder / "m")
    (folder / "added.yaml").write_text(ADDED)
    _edit(folder, add="added.yaml")
    place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch")
    kinds = ("limitrange/limits", "endpoints/proxy", "podtemplate/template", "pvc/jobrelay")
    assert len(kubectl("get", *kinds, "-o", "name").split()) == len(kinds)


def test_a_generated_config_map_is_there_with_all_its_keys(place: Place, kubectl: Kubectl) -> None:
    kubectl.make_namespace()
    folder = programs(place.folder / "m")
    _edit(folder, extra={"name": "extra", "literals": ["a=1", "b=two"]})
    place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch")
    items = json.loads(kubectl("get", "configmaps", "-o", "json"))["items"]
    (extra,) = [item for item in items if item["metadata"]["name"].startswith("extra-")]
    assert extra["data"] == {"a": "1", "b": "two"}


def test_a_kind_that_the_cluster_does_not_have_is_named_before_anything_runs(
    place: Place, kubectl: Kubectl
) -> None:
    kubectl.make_namespace()
    folder = programs(place.folder / "m")
    (folder / "added.yaml").write_text("apiVersion: farm.test/v1\nkind: Goose\nmetadata: { name: gus }\n")
    _edit(folder, add="added.yaml")
    result = place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch", expect=2)
    assert "Goose gus: this cluster has no Goose in farm.test/v1" in result.err
    assert not kubectl("get", "jobs", "-o", "name")


def _edit(folder: Path, add: str | None = None, extra: object = None) -> None:
    path = folder / "kustomization.yaml"
    tree = yaml.safe_load(path.read_text())
    del tree["namespace"]
    tree["resources"].remove("namespace.yaml")  # it stays what it is called, as with kubectl
    tree["resources"] += [add] if add else []
    tree["configMapGenerator"] += [extra] if extra else []
    path.write_text(yaml.safe_dump(tree))
    for file in folder.glob("*.yaml"):
        file.write_text(file.read_text().replace("  namespace: jobrelay\n", ""))
