"""The libraries of a requirements file, installed once for each content, Python and image."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Final, List, Mapping

from jobrelay_runner.errors import BadInput, Failed
from jobrelay_runner.volume.files import one_at_a_time

#: Where the environments are; else in envs/ on the volume.
ENV_ENVIRONMENTS: Final = "JOBRELAY_ENVIRONMENTS"
_COMPLETE: Final = ".complete"
_LIBRARIES: Final = "import sysconfig; print(sysconfig.get_path('purelib'))"


def environment_with(
    requirements: Path, image: str, folder: Path, given: Mapping[str, str]
) -> Dict[str, str]:
    """Return the variables with which `python` finds the libraries; install them first if they are not there.

    folder: of all environments. given: the variables so far. The first stage that needs an environment makes
    it, and others wait. Raises BadInput with pip's own words.
    """
    python = shutil.which("python", path=given.get("PATH")) or shutil.which("python3", path=given.get("PATH"))
    if python is None:
        raise BadInput(f"{requirements.name} cannot be installed: python is not on the PATH")
    version = _output([python, "-c", "import sys; print(sys.version)"])
    key = "\0".join((requirements.read_text(encoding="utf-8"), version, platform.machine(), image))
    path = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not (path / _COMPLETE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(path.with_name(f".{path.name}.lock")):
            if not (path / _COMPLETE).is_file():
                _install(python, requirements, path)
    return _activated(path, given)


def _install(python: str, requirements: Path, path: Path) -> None:
    """Make an environment over the image's own libraries; without the venv module, a folder of libraries."""
    print(f"installing {requirements.name} into {path}", flush=True)
    shutil.rmtree(path, ignore_errors=True)
    made = subprocess.run(
        [python, "-m", "venv", "--system-site-packages", str(path)], capture_output=True, check=False
    )
    pip: List[str] = [str(path / "bin" / "python"), "-m", "pip", "install"]
    for folder in path.glob("lib/python*/site-packages"):  # of a virtual environment, too
        (folder / "_parent.pth").write_text(_output([python, "-c", _LIBRARIES]) + "\n", encoding="utf-8")
    if made.returncode:  # Debian's python3 without python3-venv
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        pip = [python, "-m", "pip", "install", "--target", str(path / "target")]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", "--no-input", "--quiet", "-r", str(requirements)],
        stdout=sys.stdout, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
            done.stderr.strip()
        ]
        raise BadInput(f"{requirements.name} cannot be installed: {' '.join(words)[:1000]}")
    (path / _COMPLETE).touch()


def _activated(path: Path, given: Mapping[str, str]) -> Dict[str, str]:
    target = path / "target"
    if target.is_dir():
        paths = [str(target), *filter(None, [given.get("PYTHONPATH")])]
        return {
            **given,
            "PYTHONPATH": os.pathsep.join(paths),
            "PATH": f"{target / 'bin'}{os.pathsep}{given.get('PATH', os.defpath)}",
        }
    return {
        **given,
        "VIRTUAL_ENV": str(path),
        "PATH": f"{path / 'bin'}{os.pathsep}{given.get('PATH', os.defpath)}",
    }


def _output(command: List[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise Failed(f"{command[0]} does not run: {error}") from error
