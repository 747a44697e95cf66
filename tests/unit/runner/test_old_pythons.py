"""The runner works in other people's images: with Python 3.8 and newer, and its standard library alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobrelay_runner.volume.paths import RunFolder
from tests.support import REPOSITORY
from tests.support.pages import write_run

IMPORT_ALL = """
import importlib, pkgutil, sys
import jobrelay_runner
for module in pkgutil.walk_packages(jobrelay_runner.__path__, "jobrelay_runner."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*sys.version_info[:2], sep=".")
"""


def found(version: str) -> str | None:
    """That Python, if it is here and starts."""
    try:
        done = subprocess.run(
            [f"python{version}", "-c", "import sys; print(sys.executable)"],
            env={**os.environ, "PYENV_VERSION": version}, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@pytest.fixture(params=["3.8", "3.9", "3.10", "3.13"])
def python(request: pytest.FixtureRequest) -> str:
    """Each of them, by itself: no packages beside its own."""
    interpreter = found(request.param)
    if not interpreter:
        pytest.skip(f"needs python{request.param}, not here")
    return interpreter


def run(python: str, *arguments: str, given: bytes = b"") -> bytes:
    done = subprocess.run(
        [python, "-S", *arguments], cwd=REPOSITORY / "jobs", input=given, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_every_module_is_imported(python: str) -> None:
    assert run(python, "-W", "error", "-c", IMPORT_ALL)


def test_the_volume_is_served_as_by_this_python(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path, "a")
    write_run(folder.path)
    monkeypatch.setenv("JOBRELAY_VOLUME", str(tmp_path))
    for verb in (["list"], ["check", "a"], ["changed", "a"], ["data"]):
        served = ["-m", "jobrelay_runner", "volume", *verb]
        assert run(python, *served) == run(sys.executable, *served), verb


def test_an_archive_goes_both_ways(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(RunFolder(tmp_path, "a").path)
    monkeypatch.setenv("JOBRELAY_VOLUME", str(tmp_path))
    volume = ("-m", "jobrelay_runner", "volume")
    run(sys.executable, *volume, "receive", "runs/b", given=run(python, *volume, "send", "runs/a", "--all"))
    run(python, *volume, "receive", "runs/c", given=run(sys.executable, *volume, "send", "runs/b", "--all"))
    first, last = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "runs" / "a", tmp_path / "runs" / "c")
    )
    assert first == last
