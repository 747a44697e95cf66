"""jobrelay.yaml: its keys, where they are documented, and what becomes of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from jobrelay.pipelines.definition import StageDefinition
from jobrelay.pipelines.reading import File, read
from jobrelay.pipelines.schema import OF_FILE, OF_STAGE, schema
from tests.support import REPOSITORY, Place

PAGE = REPOSITORY / "docs" / "programs.md"
MODELS = {"Keys of the file": (File, OF_FILE), "Keys of a stage": (StageDefinition, OF_STAGE)}


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place([], tmp_path)


def rows(heading: str) -> dict[str, str]:
    """The keys of the table under a heading of the page, with their defaults as text."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
    return {key: default.strip("`") for key, default in found}


def shown(model: type[BaseModel], key: str) -> str:
    """A key's default as the page shows it; empty if the key has none."""
    own = model.model_fields[key]
    if own.is_required() or own.default in (None, {}, ()):
        return ""
    return str(own.default)


@pytest.mark.parametrize("heading", MODELS)
def test_every_key_is_on_the_page_with_its_default(heading: str) -> None:
    model, _ = MODELS[heading]
    assert rows(heading) == {key: shown(model, key) for key in model.model_fields}


@pytest.mark.parametrize("heading", MODELS)
def test_every_key_has_a_meaning_in_the_schema(heading: str) -> None:
    model, meanings = MODELS[heading]
    assert list(meanings) == list(model.model_fields)


def test_the_schema_is_current() -> None:
    path = REPOSITORY / "launcher/jobrelay/pipelines/schema.json"
    assert path.read_text(encoding="utf-8") == schema(), "make schema writes it again"


def test_the_schema_takes_what_yaml_reads_as_numbers() -> None:
    stage = json.loads(schema())["$defs"]["StageDefinition"]["properties"]
    assert stage["cpu"]["anyOf"][0]["type"] == ["string", "number", "boolean"]
    assert stage["run"]["description"] == OF_STAGE["run"]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples").glob("*/jobrelay.yaml")), ids=str)
def test_the_examples_can_be_read(path: Path) -> None:
    assert read(path).stages


def job_of(place: Place, stage: str, *arguments: str) -> Any:
    """The Job of a stage, as `render` prints it."""
    printed = place.run("render", "--run", "a", *arguments).out
    objects = [item for item in yaml.safe_load_all(printed) if item["kind"] == "Job"]
    return next(job for job in objects if job["metadata"]["name"] == f"a-{stage}")


def test_set_changes_the_jobs_of_a_stage(here: Place) -> None:
    (here.folder / "jobrelay.yaml").write_text("stages: {a: {run: 'true'}, b: {run: 'true'}}")
    settings = {"memory": "3Gi", "retries": "4", "image": "python:3.13-slim", "queue": "team", "nodes": "2"}
    job = job_of(here, "b", *(f"--set=b.{key}={value}" for key, value in settings.items()))
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "3Gi"}
    assert container["image"] == "python:3.13-slim"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert (job["spec"]["parallelism"], job["spec"]["backoffLimit"]) == (2, 9)  # 4 more, of two Pods each
    assert job_of(here, "a")["spec"]["backoffLimit"] == 0


def test_a_file_in_place_of_a_command(here: Place) -> None:
    (here.folder / "main.py").write_text("print(1)")
    result = here.run("run", "main.py", "--local", expect=2)
    assert "main.py is a file, not a stage" in result.err
    assert "run --local -- python main.py" in result.err


def test_init_names_the_next_command(here: Place) -> None:
    (here.folder / "evaluate.py").touch()
    (here.folder / "train.py").touch()
    assert f"{REPOSITORY}/launcher run-all --local" in here.run("init").err
    assert list(read(here.folder / "jobrelay.yaml").stages) == ["train", "evaluate"]
