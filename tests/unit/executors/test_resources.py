"""Where objects live in the API: by discovery, and not by guessing how English makes its plurals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobrelay.errors import BadInput
from jobrelay.executors.cluster.api import Api
from jobrelay.executors.cluster.resources import Resources, path_of
from tests.support.apiserver import kubeconfig as write_kubeconfig
from tests.support.apiserver import ok, refusal, serving

Object = dict[str, Any]

FARM = ok(
    {
        "kind": "APIResourceList",
        "groupVersion": "farm.test/v1",
        "resources": [
            {"name": "geese", "singularName": "goose", "kind": "Goose", "namespaced": True},
            {"name": "geese/status", "kind": "Goose", "namespaced": True},
            {"name": "farms", "kind": "Farm", "namespaced": False},
        ],
    }
)


def item(kind: str, namespace: str | None = None, version: str = "farm.test/v1") -> Object:
    metadata = {"name": "a?b"} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def api(url: str) -> Api:
        path = str(write_kubeconfig(tmp_path / "kubeconfig", url))
        monkeypatch.setenv("KUBECONFIG", path)
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
        return Api(None)

    return api


def test_a_kind_is_found_by_discovery_once(use: Any) -> None:
    with serving(FARM) as server:
        resources = Resources(use(server.url))
        assert resources.path_of(item("Goose", "ns")) == "/apis/farm.test/v1/namespaces/ns/geese/a%3Fb"
        assert resources.path_of(item("Farm", "ns")) == "/apis/farm.test/v1/farms/a%3Fb"
        assert [request.path for request in server.requests] == ["/apis/farm.test/v1"]


def test_an_object_is_sent_where_its_kind_stands(use: Any) -> None:
    with serving(FARM) as server:
        resources = Resources(use(server.url))
        assert resources.placed(item("Goose"), "mine")["metadata"]["namespace"] == "mine"
        assert resources.placed(item("Goose", "other"), "mine")["metadata"]["namespace"] == "other"
        assert "namespace" not in resources.placed(item("Farm", "mine"), "mine")["metadata"]


@pytest.mark.parametrize("answer", [FARM, refusal(404, "NotFound", "page not found")])
def test_a_kind_that_the_cluster_does_not_have(use: Any, answer: Any) -> None:
    with serving(answer) as server, pytest.raises(BadInput, match=r"has no Duck in farm\.test/v1") as error:
        Resources(use(server.url)).path_of(item("Duck"))
    assert "CustomResourceDefinition" in str(error.value.hint)


@pytest.mark.parametrize(
    ("kind", "version", "path"),
    [
        ("Job", "batch/v1", "/apis/batch/v1/namespaces/ns/jobs/a%3Fb"),
        ("Namespace", "v1", "/api/v1/namespaces/a%3Fb"),
        ("NetworkPolicy", "networking.k8s.io/v1",
         "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/a%3Fb"),
        ("ConfigMap", "v1", "/api/v1/namespaces/ns/configmaps/a%3Fb"),
    ],
)  # fmt: skip
def test_what_the_launcher_makes_itself_is_known(kind: str, version: str, path: str) -> None:
    assert path_of(item(kind, "ns", version)) == path
