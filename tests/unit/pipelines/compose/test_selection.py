from __future__ import annotations

import pytest

from jobrelay.pipelines.definition import Pipeline

from .conftest import Folder


def order(pipeline: Pipeline) -> list[str]:
    return list(pipeline.stages)


@pytest.mark.parametrize(
    ("services", "expected", "why"),
    [
        ("infer: {}, train: {}, evaluate: {}", "train evaluate infer", "by name"),
        ("predict: {}, my-trainer: {}, model_test: {}", "my-trainer model-test predict", "by name"),
        ("b: {}, a: {}", "b a", "as in the file"),
        ("x: {}, infer: {}, y: {}, train: {}", "x train y infer", "by name"),
        ("train: {depends_on: [infer]}, infer: {}", "infer train", "depends_on: train after infer"),
        (
            "c: {depends_on: {b: {condition: service_healthy}}}, b: {depends_on: {a: }}, a: {}",
            "a b c",
            "depends_on: b after a; c after b",
        ),
        ("eval: {}, train: {depends_on: [get]}, get: {}", "get train eval", "by name"),
    ],
)
def test_order(folder: Folder, services: str, expected: str, why: str) -> None:
    services = services.replace("{}", "{image: a}").replace("{depends_on", "{image: a, depends_on")
    pipeline = folder.read(f"services: {{{services}}}")
    assert " ".join(pipeline.stages) == expected
    note = next(note for note in pipeline.notes if note.startswith("order: "))
    assert expected.replace(" ", ", ") in note
    assert why in note


@pytest.mark.parametrize(
    ("services", "message"),
    [
        ("a: {image: a, depends_on: [b]}, b: {image: a, depends_on: [c]}, c: {image: a, depends_on: [b]}",
         "a cycle: b → c → b"),
        ("a: {image: a, depends_on: [nobody]}", "there is no service nobody"),
        ("train: {image: a, depends_on: [db]}, db: {image: 'postgres:16'}",
         "needs db, which cannot be a stage: postgres:16 is a server | if train works without it, "
         "name the services that are stages: -f docker-compose.yml train"),
        ("train: {image: a, depends_on: {api: {condition: service_healthy}}}, api: {image: a, ports: [80]}",
         "needs api, which cannot be a stage: it never ends (it publishes ports"),
        ("train: {image: a, links: ['cache:redis']}, cache: {image: bitnami/redis}", "needs cache"),
        ("api: {image: a, ports: [80]}, db: {image: mysql}",
         "no service is a stage: api it never ends (it publishes ports, and nothing waits for its end); "
         "db mysql is a server | name the services that are stages: -f docker-compose.yml api db"),
    ],
)  # fmt: skip
def test_what_cannot_be_run(folder: Folder, services: str, message: str) -> None:
    assert message in folder.refused(f"services: {{{services}}}")


SERVERS = """
    services:
      train: {image: a, depends_on: {cache: {condition: service_started, required: false}}}
      api: {image: a, ports: ["80:80"], privileged: true}
      inner: {image: a, expose: [80]}
      board: {image: a, restart: unless-stopped}
      cache: {image: redis}
      idle: {image: a, command: sleep infinity}
      shell: {image: a, command: bash, tty: true}
      none: {image: a, deploy: {replicas: 0}}
      prepare: {image: a, ports: [1], }
      evaluate: {image: a, depends_on: {prepare: {condition: service_completed_successfully}}}
    """


def test_servers_are_left_out(folder: Folder) -> None:
    pipeline = folder.read(SERVERS)
    assert order(pipeline) == ["prepare", "train", "evaluate"]
    assert [note for note in pipeline.notes if "left out" in note] == [
        "api: left out, it never ends (it publishes ports, and nothing waits for its end)",
        "inner: left out, it never ends (it exposes ports, and nothing waits for its end)",
        "board: left out, it never ends (restart: unless-stopped)",
        "cache: left out, redis is a server",
        "idle: left out, it never ends (sleep infinity)",
        "shell: left out, it is an interactive shell (bash)",
        "none: left out, it has no replicas",
    ]
    assert "train depends on cache, which is not run" in pipeline.notes


@pytest.mark.parametrize(
    ("command", "stage"),
    [
        ("tensorboard --logdir /runs", False),
        ("sh -c 'tail -f /dev/null'", False),
        ("[poetry, run, uvicorn, 'app:app']", False),
        ("python -m http.server", False),
        ("mlflow ui", False),
        ("mlflow run .", True),
        ("python tensorboard.py", True),
        ("bash train.sh", True),
        ("sleep 5", True),
    ],
)
def test_commands_that_are_servers(folder: Folder, command: str, stage: bool) -> None:
    pipeline = folder.read(f"services: {{train: {{image: a}}, x: {{image: a, command: {command}}}}}")
    assert ("x" in pipeline.stages) is stage


def test_named_services_are_run_and_no_others(folder: Folder) -> None:
    pipeline = folder.read(SERVERS, services=["board", "evaluate"])
    assert order(pipeline) == ["board", "evaluate"]
    assert "evaluate depends on prepare, which is not run" in pipeline.notes
    assert any(note.startswith("board: restart: unless-stopped is ignored") for note in pipeline.notes)
    assert "there is no service x" in folder.refused(SERVERS, services=["x"])


def test_order_through_a_service_that_is_not_named(folder: Folder) -> None:
    text = "services: {a: {image: a, depends_on: [b]}, b: {image: a, depends_on: [c]}, c: {image: a}}"
    assert order(folder.read(text, services=["a", "c"])) == ["c", "a"]


def test_a_stage_by_its_name_that_has_ports(folder: Folder) -> None:
    text = "services: {train: {image: a}, infer: {image: a, ports: [80]}, api: {image: a, ports: [80]}}"
    assert (
        "if infer ends, name the services that are stages: -f docker-compose.yml train infer"
        in folder.read(text).notes
    )
