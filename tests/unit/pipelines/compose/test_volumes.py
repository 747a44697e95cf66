from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Folder, service


def test_named_volumes_start_with_the_files_of_the_image(folder: Folder) -> None:
    pipeline = folder.read("""
        services:
          train: {image: a, volumes: ["mnist:/opt/mount", "cache:/cache:nocopy", /scratch]}
          evaluate: {image: a, volumes: ["mnist:/opt/mount/"]}
        volumes: {mnist: , cache: {driver: local}}
        """)
    assert pipeline.stages["train"].mounts == {
        "/cache": "volumes/cache",
        "/scratch": "volumes/train-scratch",
        "/opt/mount": "volumes/mnist",
    }
    assert pipeline.stages["evaluate"].mounts == {"/opt/mount": "volumes/mnist"}
    assert pipeline.seeded == {"train": ("/opt/mount", "/scratch"), "evaluate": ("/opt/mount",)}
    assert pipeline.files == {}


def test_bind_mounts(folder: Folder) -> None:
    folder.write("data/a.txt")
    folder.write("conf.yaml")
    (folder.path.parent / "shared").mkdir()
    pipeline = folder.read("""
        services:
          train:
            image: a
            volumes:
              - "./data/:/app/deep/data/:ro"
              - "./out:/app/deep/../out"
              - "${NO:-./data}:/again"
              - type: bind
                source: ./conf.yaml
                target: /app/conf.yaml
                read_only: true
                bind: {create_host_path: true}
              - "../shared:/shared"
              - ".:/app"
              - "~/cache:/cache"
          evaluate: {image: a, volumes: ["./out:/in"]}
        """)
    assert list(pipeline.stages["train"].mounts.items()) == [
        ("/again", "data"),
        ("/app", "."),
        ("/cache", "home/cache"),
        ("/shared", "outside/shared"),
        ("/app/conf.yaml", "conf.yaml"),
        ("/app/out", "out"),
        ("/app/deep/data", "data"),
    ]
    assert pipeline.stages["evaluate"].mounts == {"/in": "out"}
    assert pipeline.files == {
        ".": folder.path,
        "conf.yaml": folder.path / "conf.yaml",
        "data": folder.path / "data",
        "outside/shared": folder.path.parent / "shared",
    }
    assert "out does not exist: it starts empty" in pipeline.notes
    assert pipeline.seeded == {}


def test_a_mounted_parent_holds_what_lies_in_it(folder: Folder) -> None:
    folder.write("data/x")
    (folder.path.parent / "other").mkdir()
    pipeline = folder.read(
        service("""
        volumes: ["..:/repo", "./data:/data", "../other:/other", "../new:/new"]
        """)
    )
    parent = folder.path.parent.name
    assert pipeline.stages["train"].mounts == {
        "/data": f"outside/{parent}/project/data",
        "/new": f"outside/{parent}/new",
        "/other": f"outside/{parent}/other",
        "/repo": f"outside/{parent}",
    }


def test_a_folder_data_of_the_project_is_not_data_of_the_volume(folder: Folder) -> None:
    folder.write("data/mnist/x")
    pipeline = folder.read(service("volumes: ['./data/mnist:/mnist', './data:/data']"))
    assert pipeline.stages["train"].mounts == {"/data": "data", "/mnist": "./data/mnist"}
    assert list(pipeline.files) == ["data", "data/mnist"]


def test_two_outside_folders_of_one_name(folder: Folder) -> None:
    above = folder.path.parent
    for name in ("a/data", "b/data"):
        (above / name).mkdir(parents=True)
    pipeline = folder.read(service("volumes: ['../a/data:/a', '../b/data:/b']"))
    assert pipeline.stages["train"].mounts == {"/a": "outside/data", "/b": "outside/data-2"}


def test_a_volume_that_binds_a_folder(folder: Folder) -> None:
    folder.write("data/x")
    pipeline = folder.read("""
        services: {train: {image: a, volumes: ["d:/data"]}}
        volumes: {d: {driver: local, driver_opts: {type: none, o: bind, device: "${PWD}/data"}}}
        """)
    assert pipeline.stages["train"].mounts == {"/data": "data"}
    assert pipeline.files == {"data": folder.path / "data"}
    assert pipeline.seeded == {}


def test_a_volume_named_like_a_folder_of_the_project(folder: Folder) -> None:
    folder.write("volumes/d/x")
    pipeline = folder.read("""
        services: {train: {image: a, volumes: ["d:/data", "./volumes/d:/bound"]}}
        volumes: {d: }
        """)
    assert pipeline.stages["train"].mounts == {"/bound": "volumes/d", "/data": "volumes/d-volume"}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (
            "/Users/someone/data:/data",
            "/Users/someone/data: this path does not exist here, it is of another machine",
        ),
        ("/home/nobody-of-this-name/data:/data", "another machine"),
        ("'C:\\Users\\me\\data:/data'", "another machine"),
        ("/var/run/docker.sock:/var/run/docker.sock", "no container engine"),
        ("/:/host", "sees nothing of its host"),
        ("/dev/dri:/dev/dri", "sees nothing of its host"),
        ("mnist:/data", "the volume mnist is not declared"),
        ("data/x:/data", "a folder is written ./data/x"),
        ("./data:app/data", "the target 'app/data' is not absolute; write /app/data"),
        ("./data:/app/../..", "cannot take the place of /"),
        ("a:/b:c:d", "is not SOURCE:TARGET[:MODE]"),
        ("'${NO}:/data'", "variables without a value: NO"),
        ("{type: bind, target: /x}", "has no source"),
        ("{type: npipe, source: x, target: /x}", "type npipe is not supported"),
        ("{type: volume, source: x, target: /x, tagret: y}", "unknown key tagret"),
        ("{source: x}", "no target"),
    ],
)
def test_bad_volumes(folder: Folder, volume: str, message: str) -> None:
    assert message in folder.refused(f"services: {{train: {{image: a, volumes: [{volume}]}}}}")


def test_two_volumes_with_one_target(folder: Folder) -> None:
    assert "two volumes have the target /a" in folder.refused(service("volumes: ['./x:/a', './y:/a/']"))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("{driver: rexray}", "has the driver rexray"),
        ("{driver_opts: {type: nfs, o: 'addr=1', device: ':/x'}}", "nfs"),
    ],
)
def test_drivers(folder: Folder, declared: str, message: str) -> None:
    text = f"services: {{train: {{image: a, volumes: ['d:/d']}}}}\nvolumes: {{d: {declared}}}"
    assert message in folder.refused(text)


def test_what_is_left_out(folder: Folder) -> None:
    pipeline = folder.read(
        service("""
        volumes: ["/etc/localtime:/etc/localtime:ro", "/dev/shm:/dev/shm", {type: tmpfs, target: /t}]
        tmpfs: /run/x
        """)
    )
    assert pipeline.stages["train"].mounts == {}
    assert "the mount of /etc/localtime, which is of the host: ignored (train)" in pipeline.notes
    assert any(note.startswith("tmpfs: ") for note in pipeline.notes)


def test_secrets_and_configs_from_files(folder: Folder) -> None:
    token = folder.write("token.txt", "x")
    settings = folder.write("settings.yaml", "x")
    pipeline = folder.read("""
        services:
          train: {image: a, secrets: [token], configs: [{source: settings, target: /etc/s.yaml}]}
        secrets: {token: {file: ./token.txt}}
        configs: {settings: {file: settings.yaml}}
        """)
    assert pipeline.stages["train"].mounts == {
        "/etc/s.yaml": "configs/settings",
        "/run/secrets/token": "secrets/token",
    }
    assert pipeline.files == {"configs/settings": settings, "secrets/token": token}
    assert any(note.startswith("secret token: ") for note in pipeline.notes)
    text = "services: {train: {image: a, secrets: [t]}}\nsecrets: {t: {environment: T}}"
    assert "only those from a file are supported" in folder.refused(text)


def test_an_absent_path_of_this_machine_starts_empty(folder: Folder, tmp_path: Path) -> None:
    pipeline = folder.read(service(f"volumes: ['{tmp_path}/results/best.pth:/r']"))
    assert pipeline.stages["train"].mounts == {"/r": "outside/best.pth"}
    assert any("it starts empty (a folder, as Docker makes)" in note for note in pipeline.notes)
