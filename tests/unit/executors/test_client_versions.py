"""The client libraries change between versions; what the launcher uses of them is tested with two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY

#: Beside the pinned ones, with which all else is tested: the oldest that pyproject.toml takes.
OTHER = {"urllib3": "2.2.0", "websocket-client": "1.8.0"}
CONTRACT = (
    "test_api.py",
    "login/test_credentials.py",
    "login/test_proxies.py",
    "login/test_tls.py",
    "test_watch.py",
)


@pytest.fixture(scope="session")
def other_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the other versions."""
    folder = tmp_path_factory.mktemp("client")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-compile", "-q"]
    pins = [f"{name}=={version}" for name, version in OTHER.items()]
    wanted = ["--target", str(folder), *pins]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs {pins} from a package index, not here")
    return folder


@pytest.mark.timeout(300)
def test_row_10_the_contract_holds_with_other_versions_of_the_libraries(other_client: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(other_client)}
    program = "import urllib3, websocket; print(urllib3.__version__, websocket.__version__)"
    versions = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert versions.stdout.split() == list(OTHER.values())

    tests = [str(REPOSITORY / "tests" / "unit" / "executors" / name) for name in CONTRACT]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_row_10_the_libraries_are_pinned() -> None:
    pins = (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert {pin.partition("==")[0] for pin in pins} >= set(OTHER)
