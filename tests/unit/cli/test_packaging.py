"""What stands in several files and must be the same in all."""

from __future__ import annotations

import re
import subprocess
import tomllib

from jobrelay_runner import __version__
from tests.support import REPOSITORY


def test_the_version_is_the_same_everywhere() -> None:
    """Files that are read without a program name the image with its version."""
    listed = subprocess.run(
        ["git", "grep", "-hoE", r"jobrelay(-bulky)?:[0-9]+\.[0-9]+\.[0-9]+", "--", "k8s", "images", "docs",
         "README.md"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {name.rpartition(":")[2] for name in listed.stdout.split()} == {__version__}
    overlay = (REPOSITORY / "k8s/overlays/gpu/kustomization.yaml").read_text()
    assert f"newTag: {__version__}-gpu\n" in overlay


def test_images_install_what_the_extra_does() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = (REPOSITORY / "requirements/jobs.txt").read_text().splitlines()
    of_images = {line for line in lines if line and not line.startswith("#")}
    configuration = {line for line in project["dependencies"] if re.match(r"pydantic|pyyaml", line)}
    assert of_images == {*project["optional-dependencies"]["train"], *configuration}
