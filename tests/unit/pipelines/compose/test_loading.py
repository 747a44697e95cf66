from __future__ import annotations

from pathlib import Path

import pytest

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose import read
from jobrelay.pipelines.compose.text import yamlfile

from .conftest import Folder, service


def test_anchors_and_merge_keys(folder: Folder) -> None:
    pipeline = folder.read("""
        x-common: &common
          image: python:3.12
          environment: &env {LR: 1e-3, EPOCHS: 3}
        services:
          train: &train
            <<: *common
            command: python train.py
          evaluate:
            <<: *train
            environment: {<<: *env, EPOCHS: 1}
            command: python eval.py
        """)
    assert pipeline.stages["train"].env == {"LR": "0.001", "EPOCHS": "3"}
    assert pipeline.stages["evaluate"].env == {"LR": "0.001", "EPOCHS": "1"}
    assert pipeline.stages["evaluate"].image == "python:3.12"


def test_scalars_are_read_as_docker_reads_them(folder: Folder) -> None:
    stage = folder.stage("""
        restart: no
        environment:
          {A: yes, B: 22:22, C: true, D: 0.10, E: 1000000.0, F: 012, G: 2026-01-01, H: 1e-5, I: 0x10}
        """)
    assert stage.env == {
        "A": "yes", "B": "22:22", "C": "true", "D": "0.1", "E": "1e+06", "F": "10", "G": "2026-01-01",
        "H": "1e-05", "I": "16",
    }  # fmt: skip
    assert stage.retries == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.0, "1"), (123456789.0, "1.23456789e+08"), (0.0001, "0.0001"), (-2.5e-7, "-2.5e-07"),
     (100000.0, "100000"), (1e300, "1e+300"), (None, ""), (False, "false"), (5, "5")],
)  # fmt: skip
def test_a_number_as_go_prints_it(value: object, text: str) -> None:
    assert yamlfile.as_text(value) == text


BOMB = "\n".join(["x-0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"] + [
    f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)
])  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB + "\nservices: {}", "once its aliases are expanded"),
        ("services: &a\n  train: *a", "an anchor contains itself"),
        ("services:\n  train: {image: a, image: b}", "line 2: the key 'image' appears twice"),
        ("services:\n\ttrain: {}", "tab"),
        ("[1, 2]", "a compose file is a mapping"),
        ("", "the file is empty"),
        ("services: {}", "it has no services"),
        ("services: [a]", "services: must be a mapping"),
        ("services: {train: [a]}", "service train: must be a mapping"),
        ("version: latest\nservices: {a: {image: b}}", "version 'latest' is none of compose"),
        ("train:\n  image: a", "version 1, without the key services"),
        ("servces: {}", "unknown key servces | did you mean services?"),
        (
            "services: {train: {image: a, comand: b}}",
            "service train: comand: unknown key | did you mean command?",
        ),
        ("services: {train: {image: a, environment: [A: b]}}", "write '- A=…'"),
        ("services: {train: {image: a, environment: {A: [b]}}}", "A must be one value"),
        ("services: {train: {image: a, depends_on: train2}}", "write [train2]"),
        ("services: {train: {build: https://github.com/a/b.git}}", "is not a local folder"),
    ],
)
def test_bad_files(folder: Folder, text: str, message: str) -> None:
    assert message in folder.refused(text)


@pytest.mark.parametrize("version", ["2", "2.4", "'3.10'", "3.8"])
def test_versions(folder: Folder, version: str) -> None:
    assert folder.read(f"version: {version}\nservices: {{train: {{image: a}}}}").notes == (
        "order: train (the only stage)",
    )


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        read(tmp_path / "docker-compose.yml", environment={})


def test_variables_come_from_the_environment_then_dotenv(folder: Folder) -> None:
    folder.write(".env", "TAG=from-file\nOTHER=file\nCOMPOSE_PROJECT_NAME=mine\n")
    folder.write("Dockerfile", "FROM python:3.12\n")
    pipeline = folder.read(
        """
        services:
          train:
            build: .
            environment: [OTHER, GIVEN, ABSENT, "X=${TAG}-${MISSING}"]
        """,
        environment={"TAG": "from-env", "GIVEN": "g"},
    )
    assert pipeline.stages["train"].env == {"OTHER": "file", "GIVEN": "g", "X": "from-env-"}
    assert pipeline.stages["train"].image == "mine-train:jobrelay"
    assert "${MISSING} is not set: empty text, as with Docker" in pipeline.notes


def test_a_required_variable_names_the_place(folder: Folder) -> None:
    refused = folder.refused(service("environment: {KEY: '${KEY:?get one}'}"))
    assert "services.train.environment.KEY: the variable KEY is not set: get one" in refused


def test_env_files(folder: Folder) -> None:
    folder.write("a.env", "A=1\nB=${A}2\n")
    folder.write("b.env", "B=3\nC=$$x\n")
    stage = folder.stage("""
        env_file: [a.env, {path: b.env, format: raw}, {path: no.env, required: false}]
        environment: {A: 9}
        """)
    assert stage.env == {"A": "9", "B": "3", "C": "$$x"}
    folder.write("c.env.example", "")
    refused = folder.refused(service("env_file: c.env"))
    assert "env_file" in refused
    assert "copy c.env.example to c.env" in refused


def test_override_file(folder: Folder) -> None:
    folder.write(
        "docker-compose.override.yml",
        """
        services:
          train:
            command: [python, other.py]
            environment: [B=2]
            volumes: ["./other:/data", "./more:/more"]
            mem_limit: !reset null
            env_file: !override []
          evaluate: {image: b}
        """,
    )
    pipeline = folder.read("""
        services:
          train:
            image: a
            command: python train.py
            environment: {A: 1, B: 1}
            volumes: ["./data:/data"]
            mem_limit: 1g
            env_file: missing.env
        """)
    stage = pipeline.stages["train"]
    assert stage.run == ("python", "other.py")
    assert stage.env == {"A": "1", "B": "2"}
    assert stage.mounts == {"/data": "other", "/more": "more"}
    assert stage.memory is None
    assert list(pipeline.stages) == ["train", "evaluate"]
    assert pipeline.notes[0].startswith("docker-compose.override.yml: merged")


def test_further_files_take_the_place_of_the_override_file(folder: Folder) -> None:
    folder.write("docker-compose.override.yml", "services: {train: {image: no}}")
    over = folder.write("sub/gpu.yml", "services: {train: {gpus: 1, volumes: ['./d:/d']}}")
    stage = folder.read("services: {train: {image: yes-it-is}}", overrides=[over]).stages["train"]
    assert (stage.image, stage.gpus, stage.mounts) == ("yes-it-is", 1, {"/d": "d"})


def test_extends(folder: Folder) -> None:
    folder.write(
        "common/base.yml",
        """
        services:
          far: {image: far, volumes: ["./data:/data"], environment: {A: 1, B: 1}}
        """,
    )
    pipeline = folder.read("""
        services:
          near: {extends: {service: far, file: common/base.yml}, environment: {B: 2}}
          train: {extends: near, command: a}
        """)
    train = pipeline.stages["train"]
    assert train.image == "far"
    assert train.env == {"A": "1", "B": "2"}
    assert train.mounts == {"/data": "common/data"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: {a: {extends: b}, b: {extends: a}}", "in a circle"),
        ("services: {a: {extends: b}}", "there is no service b"),
        ("services: {a: {extends: {service: b, file: no.yml}}}", "no.yml: No such file"),
        ("services: {a: {extends: {file: x}}}", "names no service"),
        ("include: [docker-compose.yml]\nservices: {a: {image: b}}", "in a circle"),
    ],
)
def test_bad_references(folder: Folder, text: str, message: str) -> None:
    assert message in folder.refused(text)


def test_include(folder: Folder) -> None:
    folder.write("part/compose.yaml", "services: {prepare: {image: p, volumes: ['./in:/in']}}")
    pipeline = folder.read("include: [part/compose.yaml]\nservices: {train: {image: t}}")
    assert list(pipeline.stages) == ["prepare", "train"]
    assert pipeline.stages["prepare"].mounts == {"/in": "part/in"}


PROFILES = """
    services:
      train: {image: a}
      tune: {image: a, profiles: [slow]}
      tensorboard: {image: a, profiles: [ui]}
    """


def test_profiles(folder: Folder) -> None:
    assert list(folder.read(PROFILES).stages) == ["train"]
    assert list(folder.read(PROFILES, profiles=["slow"]).stages) == ["train", "tune"]
    assert list(folder.read(PROFILES, profiles=["*"]).stages) == ["train", "tune", "tensorboard"]
    assert list(folder.read(PROFILES, services=["tune"]).stages) == ["tune"]
    assert list(folder.read(PROFILES, environment={"COMPOSE_PROFILES": "ui"}).stages) == [
        "train",
        "tensorboard",
    ]
    refused = folder.refused("services: {train: {image: a, profiles: [x]}}")
    assert "COMPOSE_PROFILES=x" in refused
    needs = "services: {train: {image: a, depends_on: [b]}, b: {image: a, profiles: [x]}}"
    assert "b is in a profile that is not chosen" in folder.refused(needs)
    assert list(folder.read(needs, services=["train"]).stages) == ["train"]
