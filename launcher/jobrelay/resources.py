"""Files that ship with JobRelay: manifests, Dockerfiles and the build context of the images.

In a checkout they are in k8s/ and images/; an installed package contains copies.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import jobrelay_runner

_PACKAGE: Final = Path(__file__).resolve().parent
_COPIES: Final = _PACKAGE / "_files"
_FILES: Final = _COPIES if _COPIES.is_dir() else _PACKAGE.parents[1]
#: The parent folder of the packages that run in containers.
PROGRAMS: Final = Path(jobrelay_runner.__file__).resolve().parents[1]
K8S: Final = _FILES / "k8s"

#: Libraries that only the built-in stage programs import (the extra `train`).
_TRAIN: Final = ("torch", "torchvision", "numpy", "PIL")


def missing_for_training() -> list[str]:
    """The libraries of the built-in stage programs that this Python lacks."""
    return [name for name in _TRAIN if importlib.util.find_spec(name) is None]


def install_command(extra: str) -> str:
    """The command that installs the libraries of an extra (pyproject.toml)."""
    if _FILES != _COPIES:
        return shlex.join(["make", "-C", str(_FILES), "install"])
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "install"]
    elif shutil.which("uv"):
        pip = ["uv", "pip", "install", "-p", sys.executable]
    else:  # pipx makes environments without pip
        pip = [os.path.realpath(sys.executable), "-m", "pip", "--python", sys.executable, "install"]
    return shlex.join([*pip, f"jobrelay[{extra}]"])


def manifests_folder(folder: Path) -> Path:
    """The folder if it exists, else the one that ships with JobRelay: k8s/overlays/gpu, overlays/gpu."""
    parts = folder.parts[1:] if folder.parts[:1] == ("k8s",) else folder.parts
    ours = K8S.joinpath(*parts)
    there = folder.exists() or folder.is_absolute() or ".." in parts
    return ours if not there and ours.is_dir() else folder


def data_home() -> Path:
    """Folder for files that you give no path for: $XDG_DATA_HOME/jobrelay, or the platform's default."""
    if given := os.environ.get("XDG_DATA_HOME"):
        return Path(given) / "jobrelay"
    user = Path("~/Library/Application Support" if sys.platform == "darwin" else "~/.local/share")
    return user.expanduser() / "jobrelay"


@contextmanager
def build_context() -> Iterator[Path]:
    """Yield the build context of the Dockerfiles in its images/. Raises OSError."""
    if _FILES != _COPIES:
        yield _FILES
        return
    with tempfile.TemporaryDirectory(prefix="jobrelay-build-") as name:
        folder = shutil.copytree(_COPIES, Path(name) / "context")
        for package in ("jobrelay_runner", "jobrelay_train"):
            shutil.copytree(
                PROGRAMS / package, folder / "jobs" / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        yield folder
