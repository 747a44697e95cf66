"""A project in a temporary folder: files by name, then the pipeline that `read` makes of its compose file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose import read
from jobrelay.pipelines.definition import Pipeline, StageDefinition


@dataclass
class Folder:
    path: Path

    def write(self, name: str, text: str = "") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def read(
        self, text: str, *, services: Sequence[str] = (), profiles: Sequence[str] = (),
        environment: Mapping[str, str] | None = None, overrides: Sequence[Path] = (),
    ) -> Pipeline:  # fmt: skip
        file = self.write("docker-compose.yml", text)
        environment = {"HOME": str(self.path / "home"), **(environment or {})}
        return read(file, overrides=overrides, services=services, profiles=profiles, environment=environment)

    def stage(self, text: str, **options: Mapping[str, str]) -> StageDefinition:
        """The stage of a service `train` with an image and these keys."""
        return self.read(service(text), **options).stages["train"]  # type: ignore[arg-type]

    def refused(self, text: str, **options: Sequence[str]) -> str:
        """What and hint of the error."""
        with pytest.raises(BadInput) as caught:
            self.read(text, **options)  # type: ignore[arg-type]
        return f"{caught.value.what} | {caught.value.hint}"


def service(text: str) -> str:
    keys = "\n".join(f"    {line}" for line in dedent(text).strip().splitlines())
    return f"services:\n  train:\n    image: busybox\n{keys}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    project = tmp_path / "project"
    project.mkdir()
    return Folder(project)
