"""The commit of a folder of code, for the record."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

_SECONDS: Final = 5


def git_state(folder: Path | None) -> dict[str, str]:
    """{"git": commit, "git_dirty": true or false}; nothing for a folder that is in no repository."""
    git = shutil.which("git")
    if (
        folder is None
        or git is None
        or not any((each / ".git").exists() for each in (folder, *folder.parents))
    ):
        return {}
    try:
        commit = _output(git, folder, "rev-parse", "HEAD")
        dirty = _output(git, folder, "status", "--porcelain", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git": commit.strip(), "git_dirty": "true" if dirty.strip() else "false"}


def _output(git: str, folder: Path, *words: str) -> str:
    command = [git, "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    return done.stdout
