"""The variables of a stage: `env_file`, then `environment`."""

from __future__ import annotations

from pathlib import Path

from jobrelay.pipelines.compose.model import Project, Service
from jobrelay.pipelines.compose.text import dotenv
from jobrelay.pipelines.compose.text.yamlfile import as_text


def of_service(service: Service, project: Project) -> dict[str, str]:
    """Raises BadInput if a file is missing that is not optional."""
    found: dict[str, str] = {}
    for entry in service.items("env_file"):
        path = Path(entry["path"])
        if path.is_file():
            found.update(dotenv.read(path, project.values, raw=entry.get("format") == "raw"))
        elif entry.get("required", True) not in (False, "false"):
            example = next(
                (e for s in ("example", "sample", "template") if (e := Path(f"{path}.{s}")).is_file()), None
            )
            raise service.refuse(
                "env_file",
                f"{path} does not exist",
                f"copy {example.name} to {path.name}"
                if example
                else "create it, or write {path: …, required: false}",
            )
    for name, value in service.table("environment").items():
        if value is not None:
            found[name] = as_text(value)
        elif name in project.values:
            found[name] = project.values[name]
    return found
