"""Images on a real cluster: a run that pulls what was pushed, by its digest, and a comparison."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrelay.errors import BadInput
from jobrelay.images.engine import engine_with
from tests.conftest import IMAGE
from tests.support import LITTLE, QUICK, REPOSITORY, Place
from tests.support.kubectl import Kubectl
from tests.support.registry import Registry, registry


@pytest.fixture
def node_registry(kubectl: Kubectl, tmp_path: Path) -> Iterator[Registry]:
    """On loopback of this machine, which must be the node's: a runtime speaks plain HTTP to it there."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    addresses = [each["address"] for node in nodes for each in node["status"]["addresses"]
                 if each["type"] == "InternalIP"]  # fmt: skip
    if len(addresses) > 1 or not all(map(_is_of_this_machine, addresses)):
        kubectl.lacks("a cluster whose one node is this machine")
    with registry(tmp_path) as there:
        yield there


def _is_of_this_machine(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


@pytest.fixture
def local_image() -> str:
    """The image under test, in an engine of this machine."""
    try:
        engine_with(IMAGE)
    except BadInput as error:
        pytest.skip(f"needs {IMAGE} in an engine, {error.what}")
    return IMAGE


def test_a_run_pulls_by_digest_what_was_pushed(
    place: Place, kubectl: Kubectl, node_registry: Registry, local_image: str
) -> None:
    target = f"{node_registry.address}/me/jobrelay:1"
    pushing = subprocess.run(
        [sys.executable, str(REPOSITORY / "launcher"), "images", "push", "-q", local_image, target],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert pushing.returncode == 0, pushing.stderr
    reference = pushing.stdout.strip()

    place = Place(["--context", kubectl.context, "-n", kubectl.namespace], place.folder)  # without --image
    place.run("run-all", "--run", "a", "--image", reference, "--no-fetch", *QUICK)

    pod = json.loads(kubectl("get", "pods", "-l", "jobrelay.dev/run=a", "-o", "json"))["items"][0]
    assert pod["spec"]["containers"][0]["image"] == reference
    assert pod["status"]["containerStatuses"][0]["imageID"].endswith(reference.partition("@")[2])
    assert "Successfully pulled image" in kubectl("get", "events")


@pytest.fixture
def two_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two images of one file in buildah, quick to weigh."""
    if not shutil.which("buildah"):
        pytest.skip("needs buildah, not here")
    settings = tmp_path / "storage.conf"
    settings.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(settings))
    monkeypatch.delenv("STORAGE_DRIVER", raising=False)
    for name in ("one", "two"):
        context = tmp_path / name
        context.mkdir()
        (context / "file").write_text(name * 1000)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
        tag = f"docker.io/library/{name}:1"  # or it would be localhost/…
        subprocess.run(["buildah", "build", "-q", "-t", tag, str(context)], check=True, timeout=60)
    return "one:1", "two:1"


def test_a_comparison(place: Place, kubectl: Kubectl, two_images: tuple[str, str]) -> None:
    place = Place(["--context", kubectl.context, "-n", kubectl.namespace], place.folder)  # without --image
    one, two = two_images
    asked = ["--runs", "1", "--name", "x", "--engine", "buildah", "-o", "json", *LITTLE]
    result = place.run("images", "compare", f"{one}={IMAGE}", f"{two}={IMAGE}", *asked)

    found = result.json()
    assert [image["image"] for image in found["images"]] == [one, two]
    assert [image["bytes_on_disk"] for image in found["images"]] == [3000, 3000]
    for image in found["images"]:
        [run] = image["runs"]
        assert 0 < run["seconds_to_first_batch"] < 200
        assert run["train_seconds"] > 0
        assert run["peak_memory_bytes"] > 50 * 2**20
    folder = place.folder / "comparisons/x"
    made = {path.name for path in folder.iterdir()} - {"comparison.png"}  # which needs matplotlib
    assert made == {"comparison.json", "comparison.svg", "runs"}
    assert (folder / "runs/x-a1/results/decision_boundary.png").exists()
    assert kubectl("get", "jobs", "-o", "name") == ""
    assert place.run("list", "--recorded", "-o", "name").out == ""
    place.run("images", "compare", *LITTLE, "--name", "y", "--runs", "1", one, f"{one}={IMAGE}", expect=3)
