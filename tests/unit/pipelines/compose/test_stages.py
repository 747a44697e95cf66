from __future__ import annotations

import pytest

from .conftest import Folder, service

DOCKERFILE = """
    FROM python:3.12 AS build
    ENTRYPOINT ["python", "-u"]
    FROM build
    WORKDIR /app
    CMD ["train.py"]
    """


@pytest.mark.parametrize(
    ("keys", "run"),
    [
        ("{}", None),
        ("{command: other.py --lr '0.1 x'}", ("python", "-u", "other.py", "--lr", "0.1 x")),
        ("{command: [a, 1, true]}", ("python", "-u", "a", "1", "true")),
        ("{entrypoint: sh -c 'a; b'}", ("sh", "-c", "a; b")),
        ("{entrypoint: [bash], command: -c 'python train.py'}", ("bash", "-c", "python train.py")),
        ("{entrypoint: []}", ("train.py",)),
        ("{entrypoint: '', command: a b}", ("a", "b")),
        ("{command: []}", None),
    ],
)
def test_command_and_entrypoint(folder: Folder, keys: str, run: tuple[str, ...] | None) -> None:
    folder.write("Dockerfile", DOCKERFILE)
    pipeline = folder.read(f"x-keys: &keys {keys}\nservices: {{train: {{<<: *keys, build: .}}}}")
    assert pipeline.stages["train"].run == run
    assert pipeline.stages["train"].workdir == "/app"
    assert pipeline.arguments == ()


@pytest.mark.parametrize(
    ("image", "unknown"),
    [("python:3.12", False), ("docker.io/library/python@sha256:00", False), ("localhost:5000/python", True),
     ("pytorch/pytorch", False), ("someone/trainer", True)],
)  # fmt: skip
def test_the_entrypoint_of_an_image_that_is_not_built_here(folder: Folder, image: str, unknown: bool) -> None:
    pipeline = folder.read(f"services: {{train: {{image: '{image}', command: python train.py}}}}")
    assert pipeline.stages["train"].run == ("python", "train.py")
    assert pipeline.arguments == (("train",) if unknown else ())
    assert pipeline.stages["train"].workdir is None
    folder.write("Dockerfile", f"FROM {image}\n")
    pipeline = folder.read("services: {train: {build: ., command: python train.py}}")
    assert pipeline.arguments == (("train",) if unknown else ())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("entrypoint: []", "it is empty, and there is no command"),
        ("command: a 'b", "No closing quotation"),
        ("command: {a: b}", "must be text or a list"),
        ("working_dir: src", "must be an absolute path"),
        ("user: bert", "is not UID or UID:GID"),
        ("privileged: true", "service train: privileged: a stage has no rights over its node"),
        ("cap_add: [SYS_PTRACE]", "cap_add"),
        ("devices: [/dev/dri]", "no devices besides GPUs"),
        ("pid: host", "pid"),
        ("volumes_from: [other]", "volumes_from"),
        ("ipc: service:other", "share no memory"),
        ("runtime: kata", "the cluster chooses"),
        ("cpus: many", "not a number of CPUs"),
        ("mem_limit: 1 GiB of it", "is not a size"),
        ("stop_grace_period: soon", "not a duration"),
        ("restart: sometimes", "is none of"),
        ("scale: 3", "3 replicas"),
        (
            "deploy: {resources: {reservations: {devices: [{capabilities: [tpu]}]}}}",
            "tpu is not an NVIDIA GPU",
        ),
        ("secrets: [token]", "token is not declared"),
        ("env_file: no.env", "does not exist"),
    ],
)
def test_what_is_refused(folder: Folder, keys: str, message: str) -> None:
    assert message in folder.refused(service(keys))


def test_resources(folder: Folder) -> None:
    stage = folder.stage("""
        cpus: 1.50
        mem_limit: 512m
        shm_size: "2gb"
        user: "1000:100"
        working_dir: /code
        init: true
        stop_grace_period: 1m30s
        restart: on-failure:2
        deploy:
          resources:
            limits: {cpus: "2.0", memory: 1.5g}
            reservations: {devices: [{driver: nvidia, device_ids: ["0", "3"], capabilities: [gpu]}]}
        """)
    assert (stage.cpu, stage.memory, stage.shm, stage.gpus) == ("2", "1536Mi", "2Gi", 2)
    assert (stage.workdir, stage.grace_seconds, stage.retries, stage.security) == ("/code", 90, 2, "image")


@pytest.mark.parametrize(
    ("keys", "gpus"),
    [("gpus: all", 1), ("gpus: 2", 2), ("runtime: nvidia", 1), ("gpus: [{count: 3}]", 3),
     ("devices: ['/dev/nvidia0:/dev/nvidia0', '/dev/nvidiactl:/dev/nvidiactl']", 1),
     ("runtime: nvidia\ngpus: 2", 2), ("devices: ['nvidia.com/gpu=0', 'nvidia.com/gpu=1']", 2)],
)  # fmt: skip
def test_gpus(folder: Folder, keys: str, gpus: int) -> None:
    assert folder.stage(keys).gpus == gpus


def test_users_and_notes(folder: Folder) -> None:
    pipeline = folder.read("""
        services:
          train: {image: a, user: root, tty: true, container_name: x, ipc: host, networks: [n]}
          evaluate: {image: a, user: "${UID}:${GID}", container_name: y, restart: on-failure, labels: []}
        networks: {n: {}}
        """)
    assert pipeline.users == {"train": "0"}
    assert pipeline.stages["train"].shm == "8Gi"
    assert pipeline.stages["evaluate"].retries == 3
    assert "container_name: ignored (train, evaluate)" in pipeline.notes
    assert "tty: ignored (train)" in pipeline.notes
    assert "networks: ignored (train)" in pipeline.notes
    assert "evaluate: user has no value: the image's own" in pipeline.notes
    assert not any("labels" in note for note in pipeline.notes)


def test_builds(folder: Folder) -> None:
    folder.write("app/docker/train.dockerfile", "ARG V\nFROM python:${V}\n")
    folder.write("app/dockerfile", "FROM python:3.12\nFROM scratch AS last\n")
    pipeline = folder.read(
        """
        services:
          train:
            build: {context: ./app, dockerfile: docker/train.dockerfile, args: {V: 3.11, T: }, labels: {a: b}}
          evaluate: {build: app}
          infer: {image: "me/infer:1", build: {context: app, target: last}}
          predict: {image: "me/infer:1"}
        """,
        environment={"T": "secret"},
    )
    train = pipeline.builds["train"]
    assert (train.context, train.dockerfile) == (
        folder.path / "app",
        folder.path / "app/docker/train.dockerfile",
    )
    assert train.arguments == {"V": "3.11", "T": "secret"}
    assert pipeline.stages["train"].image == "project-train:jobrelay"
    assert pipeline.builds["evaluate"].dockerfile == folder.path / "app/dockerfile"
    assert pipeline.builds["infer"].target == "last"
    assert pipeline.builds["predict"] == pipeline.builds["infer"]
    assert "build.labels: ignored (train)" in pipeline.notes


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("./no", "is not a directory"),
        (".", "there is no"),
        ("{context: sub, dockerfile: D}", "/D exists"),
        ("{context: ., dockerfile: D, ssh: [default]}", "build.ssh: not supported"),
        ("{context: ., dockerfile: D, target: no}", "there is no target no"),
    ],
)
def test_bad_builds(folder: Folder, build: str, message: str) -> None:
    folder.write("D", "FROM python:3.12 AS one\n")
    folder.write("sub/x")
    assert message in folder.refused(f"services: {{train: {{build: {build}}}}}")


def test_an_image_that_starts_from_another_build(folder: Folder) -> None:
    folder.write("base.Dockerfile", 'FROM python:3.12\nWORKDIR /base\nENTRYPOINT ["python"]\n')
    folder.write("Dockerfile", "FROM my-base\nRUN echo\n")
    text = """
        services:
          base: {image: my-base, build: {context: ., dockerfile: base.Dockerfile}, PROFILES}
          train: {build: ., command: train.py}
        """
    pipeline = folder.read(text.replace(", PROFILES", ""))
    assert pipeline.stages["train"].run == ("python", "train.py")
    assert pipeline.stages["train"].workdir == "/base"
    pipeline = folder.read(text.replace("PROFILES", "profiles: [build]"))
    assert "train: its image starts from my-base: build that first (the service base)" in pipeline.notes


def test_no_image(folder: Folder) -> None:
    assert "neither an image nor a build" in folder.refused("services: {train: {command: a}}")


def test_names_are_dns_labels(folder: Folder) -> None:
    pipeline = folder.read("""
        services:
          train_Model: {image: a}
          infer: {image: a, depends_on: [train_Model]}
        """)
    assert list(pipeline.stages) == ["train-model", "infer"]
    assert "service train_Model is the stage train-model" in pipeline.notes
    assert "like the service a_b" in folder.refused("services: {a_b: {image: a}, a-b: {image: a}}")
