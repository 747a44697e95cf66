"""The Kubernetes client changes between versions, in what we do not use; what we use is tested with two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY

#: Beside the pinned one, with which everything else is tested: the one before, of another generator.
OTHER = "kubernetes==36.0.3"
CONTRACT = ("test_api.py", "test_watching.py")


@pytest.fixture(scope="session")
def other_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the other version, and what only it needs."""
    folder = tmp_path_factory.mktemp("client")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-compile", "-q"]
    wanted = ["--target", str(folder), OTHER]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs {OTHER} from a package index, not here")
    return folder


@pytest.mark.timeout(300)
def test_row_10_the_contract_holds_with_another_version_of_the_client(other_client: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(other_client)}
    program = "import kubernetes; print(kubernetes.__version__)"
    version = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert f"kubernetes=={version.stdout.strip()}" == OTHER

    tests = [str(REPOSITORY / "tests" / "unit" / name) for name in CONTRACT]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_row_10_the_client_is_pinned() -> None:
    pins = (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert [pin for pin in pins if pin.startswith("kubernetes==")]
