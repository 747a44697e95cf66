from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from faultproxy import FaultProxy
from tests.conftest import IMAGE
from tests.support import Place
from tests.support.kubectl import Kubectl


@pytest.fixture
def kubectl(cluster_context: str, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """A namespace of the test's own. A test that failed leaves its events behind, in the report."""
    kubectl = Kubectl(cluster_context, f"jobrelay-test-{secrets.token_hex(3)}")
    try:
        yield kubectl
    finally:
        report = getattr(request.node, "report_call", None)
        if report is not None and report.failed:
            request.node.add_report_section("call", "events", kubectl("get", "events", check=False))
            request.node.add_report_section("call", "pods", kubectl("get", "pods", "-o", "wide", check=False))
        kubectl.delete_namespace()


@pytest.fixture
def place(kubectl: Kubectl, tmp_path: Path) -> Place:
    """A cluster, in that namespace."""
    (tmp_path / "work").mkdir()
    image = ["--image", IMAGE] if "JOBRELAY_TEST_IMAGE" in os.environ else []
    return Place(["--context", kubectl.context, "-n", kubectl.namespace, *image], tmp_path / "work")


@pytest.fixture
def proxy(kubectl: Kubectl, place: Place) -> Iterator[FaultProxy]:
    """Between the launcher of `place` and the cluster; kubectl goes straight."""
    with FaultProxy(kubectl.context) as proxy:
        path = proxy.write_kubeconfig(place.folder.parent / "kubeconfig")
        place.environment["KUBECONFIG"] = str(path)
        yield proxy


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    setattr(item, f"report_{report.when}", report)
    return report
