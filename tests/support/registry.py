"""A real registry on loopback: Debian's docker-registry, started and stopped by the test."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import serving

_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)


@dataclass(frozen=True)
class Registry:
    """address: 127.0.0.1:PORT, to which engines and nodes speak plain HTTP."""

    address: str

    def manifest(self, name: str, digest: str) -> Any:
        """The manifest with that digest, which is verified."""
        request = urllib.request.Request(
            f"http://{self.address}/v2/{name}/manifests/{digest}", headers={"Accept": ", ".join(_MANIFESTS)}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            content = answer.read()
        assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
        return json.loads(content)


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Run a registry that stores its content in `folder`. Skips the test if docker-registry is missing."""
    if not shutil.which("docker-registry"):
        pytest.skip("needs docker-registry (apt-get install docker-registry), not here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": address},
    }
    (folder / "registry.yml").write_text(json.dumps(settings))  # JSON is YAML
    command = ["docker-registry", "serve", str(folder / "registry.yml")]
    with serving(command, folder / "registry.log", lambda: _answers(address)):
        yield Registry(address)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/v2/", timeout=1):
            return True
    except OSError:
        return False
