"""Real engines: an image of one file is built, listed, weighed, and pushed to a real registry."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobrelay.cli import main as cli
from jobrelay.errors import BadInput
from jobrelay.images.engine import (
    ENGINES,
    Engine,
    ToolFailed,
    engine_that_works,
    engine_with,
    engines,
    run_tool,
)
from jobrelay.images.loading import load_into_containerd
from jobrelay.images.measuring import weigh
from tests.support import serving
from tests.support.registry import registry

DOCKERFILE = "FROM scratch\nARG WORD\nLABEL word=$WORD\nCOPY hello /etc/hello\n"


@dataclass
class Built:
    engine: Engine
    image: str
    said: list[str]


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For podman and buildah: a storage of the test's own."""
    settings = tmp_path / "storage.conf"
    settings.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(settings))
    monkeypatch.delenv("STORAGE_DRIVER", raising=False)


@pytest.fixture(params=ENGINES)
def built(request: pytest.FixtureRequest, tmp_path: Path, storage: None) -> Iterator[Built]:
    """An image of one file, in this engine."""
    try:
        engine = engine_that_works(request.param)
    except BadInput as error:
        pytest.skip(f"{request.param} does not work here: {error.what.splitlines()[-1].strip()}")
    (tmp_path / "context").mkdir()
    (tmp_path / "context/hello").write_text("hello\n")
    (tmp_path / "context/Dockerfile").write_text(DOCKERFILE)
    image, said = f"jobrelay-test-{secrets.token_hex(3)}:1", list[str]()
    engine.build(
        image, tmp_path / "context/Dockerfile", tmp_path / "context", ["--build-arg", "WORD=yes"], said.append
    )
    yield Built(engine, image, said)
    if engine.name == "docker":
        subprocess.run(["docker", "rmi", "-f", image], capture_output=True)


def test_what_was_built_is_there_by_its_full_name(built: Built) -> None:
    assert built.said
    assert built.engine.has(built.image)
    assert not built.engine.has("jobrelay-test-never:1")
    names = [image.name.removeprefix("docker.io/library/") for image in built.engine.images()]
    assert built.image in names
    assert engine_with(built.image, built.engine.name) == built.engine


def test_its_weight(built: Built) -> None:
    with built.engine.archive(built.image) as archive:
        weight = weigh(archive)

    assert (weight.bytes_on_disk, weight.files, weight.layers) == (6, 1, 1)
    assert 50 < weight.compressed_bytes < 500


def test_a_push_says_the_digest_by_which_the_registry_has_it(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with registry(tmp_path) as there:
        reference = f"{there.address}/me/tiny"
        code = cli.main(
            ["images", "push", built.image, f"{reference}:2", "--engine", built.engine.name, "-q"]
        )
        printed = capsys.readouterr().out.strip()

        assert code == 0
        name, at, digest = printed.partition("@")
        assert (name, at) == (reference, "@")
        assert len(there.manifest("me/tiny", digest)["layers"]) == 1


def test_a_build_that_fails_says_how(built: Built, tmp_path: Path) -> None:
    (tmp_path / "context/Dockerfile").write_text("FROM scratch\nCOPY absent /\n")
    with pytest.raises(
        ToolFailed, match=rf"(?s)`{built.engine.name} build .* ended with exit code \d+:\n.*absent"
    ):
        built.engine.build("a:1", tmp_path / "context/Dockerfile", tmp_path / "context", [], print)


def test_an_image_that_nobody_has(built: Built) -> None:
    with pytest.raises(ToolFailed, match="never"), built.engine.archive("jobrelay-test-never:1") as archive:
        weigh(archive)
    with pytest.raises(BadInput, match=r"docker\.io/library/jobrelay-test-never:1 is not here"):
        engine_with("jobrelay-test-never:1")


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[str]:
    """The socket of a containerd of the test's own."""
    if os.getuid() != 0 or not shutil.which("containerd") or not shutil.which("ctr"):
        pytest.skip("needs root, and containerd with ctr, not here")
    address = tmp_path / "c.sock"
    settings = tmp_path / "containerd.toml"
    settings.write_text(
        f'version = 2\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{address}"\n'
    )
    with serving(["containerd", "-c", str(settings)], tmp_path / "containerd.log", address.exists):
        yield str(address)


def test_what_was_loaded_is_in_the_kubelet_s_namespace(built: Built, containerd: str) -> None:
    load_into_containerd(built.engine, built.image, containerd)

    listing = ["ctr", "-a", containerd, "-n", "k8s.io", "images", "ls", "-q"]
    assert run_tool(listing).split() == [f"docker.io/library/{built.image}"]


def test_no_engine_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="none of docker, podman and buildah is on the PATH"):
        engines()
