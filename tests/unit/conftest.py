"""A machine without a cluster, and what a test puts in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobrelay_runner.text import redaction
from tests.support.tls import Pki, make_pki

_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def forgotten_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has called a secret is not taken out of another's texts."""
    monkeypatch.setattr(redaction, "_values", set())
    monkeypatch.setattr(redaction, "_by_value", None)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever cluster this machine has, a unit test does not see it."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path_factory.getbasetemp() / "no-kubeconfig"))


@pytest.fixture
def kubeconfig_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the kubeconfig is looked for; no proxy, no Pod, and a working folder of the test's own."""
    path = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(path))
    for name in ("KUBERNETES_SERVICE_HOST", *_VARIABLES, *map(str.lower, _VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    try:
        return make_pki(tmp_path_factory.mktemp("pki"))
    except FileNotFoundError:
        pytest.skip("needs openssl, not here")
