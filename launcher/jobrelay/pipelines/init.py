"""`init`: a jobrelay.yaml for what a folder holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

#: Scripts in the order in which they usually work, by what their names begin with.
_ORDER: Final = (
    r"download|fetch|get_data", r"prepare|prepro|preprocess|generate|make_data", r"train|fit|main|run",
    r"eval|valid|test", r"infer|predict|sample|generate_text|export",
)  # fmt: skip
#: Files that are not stages.
_OTHERS: Final = re.compile(r"(setup|conftest|__init__|__main__|config|model|models|utils?|test_.*)\.py")
COMPOSE_FILES: Final = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_HEAD: Final = """\
# The stages run in this order, one after the other, in a copy of this folder on one volume.
#   jobrelay run-all --local     as processes on this machine
#   jobrelay run-all             as Kubernetes Jobs
# All keys: docs/programs.md
"""


def written_for(folder: Path) -> str:
    """The text of a jobrelay.yaml for the scripts of a folder; an example if it has none."""
    scripts = _scripts(folder)
    lines = [_HEAD.rstrip()]
    image = _image(folder)
    example = "# image: python:3.12-slim     # default: JobRelay's own, with PyTorch"
    lines.append(f"image: {image}" if image else example)
    if (folder / "requirements.txt").is_file():
        lines.append("requirements: requirements.txt")
    if (folder / "data").is_dir():
        lines += ["data:", "  data: ./data               # put on the volume once"]
    lines += ["params:", "  epochs: 1                  # --set epochs=3; {epochs} in a command", "stages:"]
    for script in scripts or ["train.py", "evaluate.py"]:
        stage = re.sub(r"[^a-z0-9]+", "-", Path(script).stem.lower()).strip("-")[:22].rstrip("-")
        lines += [f"  {stage}:", f"    run: python {script}"]
        if (folder / "data").is_dir():
            lines += ["    mounts:", "      /data: data/data"]
    return "\n".join(lines) + "\n"


def _scripts(folder: Path) -> list[str]:
    """The scripts of a folder that look like stages, in the order in which they usually work."""
    names = [path.name for path in sorted(folder.glob("*.py")) if not _OTHERS.fullmatch(path.name)]
    ranked = sorted((rank, name) for name in names if (rank := _rank(name)) is not None)
    return [name for _, name in ranked] or names[:1]


def _rank(name: str) -> int | None:
    return next((rank for rank, words in enumerate(_ORDER) if re.match(words, name, re.IGNORECASE)), None)


def _image(folder: Path) -> str | None:
    """The base image of a Dockerfile, as a proposal; None if there is none."""
    path = folder / "Dockerfile"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    matches = [re.match(r"FROM\s+(?:--\S+\s+)*(\S+)", line, re.IGNORECASE) for line in lines]
    found = [match[1] for match in matches if match]
    return found[-1] if found and "$" not in found[-1] else None


def compose_file(folder: Path) -> Path | None:
    """The compose file of a folder, which needs no jobrelay.yaml."""
    return next((folder / name for name in COMPOSE_FILES if (folder / name).is_file()), None)
