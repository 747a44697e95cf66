"""jobrelay.yaml → Pipeline."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from jobrelay.errors import BadInput
from jobrelay.pipelines.definition import Pipeline, Security, StageDefinition
from jobrelay_runner.stages import check_stage
from jobrelay_runner.volume.paths import check_name
from jobrelay_train.config.yamlio import YamlError, load_scalar, read_documents


class File(BaseModel):
    """The keys of a jobrelay.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str | None = None
    security: Security = "restricted"
    code: str | None = "."
    requirements: str | None = None
    params: dict[str, Any] = {}
    data: dict[str, str] = {}
    stages: dict[str, StageDefinition]


def read(path: Path) -> Pipeline:
    """Read a jobrelay.yaml. Raises BadInput with every problem, a line each."""
    try:
        trees = list(read_documents(path))
    except YamlError as error:
        raise BadInput(str(error)) from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    tree = trees[0] if trees else None
    if not isinstance(tree, dict):
        raise BadInput(f"{path}: a mapping with `stages:` is expected", "jobrelay init writes an example")
    try:
        file = File.model_validate(tree)
    except ValidationError as error:
        lines = "".join(f"\n    {_problem(each)}" for each in error.errors(include_url=False))
        raise BadInput(f"{path} cannot be used:{lines}") from error
    return pipeline_of(file, path)


def pipeline_of(file: File, path: Path) -> Pipeline:
    """The pipeline that a file at `path` describes. Raises BadInput."""
    problems: list[str] = []
    for name in file.data:
        _note(problems, lambda name=name: check_name(name, "data"))
    if not file.stages:
        problems.append("stages: there is none")
    for name, stage in file.stages.items():
        _note(problems, lambda name=name: check_stage(name))
        if stage.run is None:
            problems.append(f"stages.{name}.run: it is missing")
        problems += [f"stages.{name}.mounts: {text}" for text in mount_problems(stage.mounts, file.data)]
    if problems:
        raise BadInput(f"{path} cannot be used:{''.join(f'{chr(10)}    {each}' for each in problems)}")
    folder = path.absolute().parent
    files: dict[str, Path] = {}
    if file.code is not None:
        files["."] = _there(folder / file.code, "code", path)
    data = {name: _there(folder / place, f"data.{name}", path) for name, place in file.data.items()}
    requirements = _there(folder / file.requirements, "requirements", path) if file.requirements else None
    return Pipeline(
        source=str(path),
        stages=file.stages,
        image=file.image or "",
        security=file.security,
        files=files,
        params=file.params,
        data=data,
        requirements=requirements,
    )


def mount_problems(mounts: Mapping[str, str], data: Mapping[str, Any]) -> list[str]:
    """Why mounts cannot be used: over / or JobRelay's own, over each other, out of the workspace."""
    problems = []
    for path, folder in mounts.items():
        parts = [part for part in path.split("/") if part]
        if ".." in (parts if path.startswith("/") else parts[1:]):
            problems.append(f"{path!r}: `..` can only be the beginning of a relative path")
        elif not parts or (path.startswith("/") and parts[0] in ("jobrelay", "proc", "sys")):
            problems.append(f"{path} cannot be covered by a mount")
        kind, _, rest = folder.partition("/")
        if folder.startswith("/") or ".." in folder.split("/"):
            problems.append(f"{folder!r} leads out of the workspace")
        elif kind == "data" and rest and rest.split("/")[0] not in data:
            problems.append(f"{folder}: there is no data.{rest.split('/')[0]}")
    plain = [path.rstrip("/") for path in mounts]
    problems += [f"{path} is there twice" for path in dict.fromkeys(plain) if plain.count(path) > 1]
    return problems


def with_overrides(pipeline: Pipeline, overrides: Sequence[str]) -> Pipeline:
    """The pipeline with --set NAME=VALUE for parameters and STAGE.KEY=VALUE. Raises BadInput."""
    params, stages = dict(pipeline.params), dict(pipeline.stages)
    for override in overrides:
        key, equals, text = override.partition("=")
        stage, dot, name = key.partition(".")
        if not equals:
            raise BadInput(f"--set {override}: KEY=VALUE is expected")
        if key in params:
            params[key] = load_scalar(text, f"--set {key}")
        elif dot and stage in stages and name in StageDefinition.model_fields:
            tree = stages[stage].model_dump(exclude_unset=True) | {name: load_scalar(text, f"--set {key}")}
            try:
                stages[stage] = StageDefinition.model_validate(tree)
            except ValidationError as error:
                raise BadInput(f"--set {override}: {_problem(error.errors(include_url=False)[0])}") from error
        else:
            keys = [*params, *(f"{each}.{name}" for each in stages for name in StageDefinition.model_fields)]
            near = difflib.get_close_matches(key, keys, 1)
            raise BadInput(
                f"--set {override}: there is no parameter {key}",
                f"did you mean {near[0]}?" if near else f"params has {', '.join(params) or 'none'}",
            )
    return replace(pipeline, params=params, stages=stages)


def with_data(pipeline: Pipeline, folders: Sequence[str]) -> Pipeline:
    """The pipeline with --data DIR:PATH: the folder on the volume, and at PATH in every stage.

    Raises BadInput.
    """
    data = dict(pipeline.data)
    mounts: dict[str, str] = {}
    for text in folders:
        source, colon, path = text.rpartition(":")
        folder = Path(source).expanduser()
        if not colon or not path or not folder.is_dir():
            raise BadInput(f"--data {text}: DIR:PATH is expected, a folder and a path in the stages")
        name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:40] or "data"
        if data.get(name, folder.resolve()) != folder.resolve():
            raise BadInput(f"--data {text}: data/{name} is {data[name]} already", "rename one of the folders")
        data[name] = folder.resolve()
        mounts[path] = f"data/{name}"
    stages = {
        name: stage.model_copy(update={"mounts": {**stage.mounts, **mounts}})
        for name, stage in pipeline.stages.items()
    }
    return replace(pipeline, data=data, stages=stages)


def _note(problems: list[str], check: Any) -> None:
    try:
        check()
    except ValueError as error:
        problems.append(str(error))


def _there(path: Path, key: str, file: Path) -> Path:
    if not path.exists():
        raise BadInput(f"{file}: {key}: {path} does not exist")
    return path.resolve()


def _problem(error: Mapping[str, Any]) -> str:
    """One problem that pydantic found, with the key that was meant."""
    path = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        model = StageDefinition if error["loc"][0] == "stages" else File
        near = difflib.get_close_matches(str(error["loc"][-1]), model.model_fields, 1)
        return f"{path}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}"
