"""Load images into clusters that have no registry."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from jobrelay.errors import BadInput
from jobrelay.images.engine import Engine, ToolFailed, full_name, run_tool

#: The containerd namespace of the kubelet's images.
_NAMESPACE: Final = "k8s.io"


def load_into_kind(engine: Engine, image: str, cluster: str) -> None:
    """Load an image onto all nodes of a kind cluster. Raises BadInput, ToolFailed."""
    _require("kind", "https://kind.sigs.k8s.io")
    if engine.name == "docker":
        run_tool(["kind", "load", "docker-image", full_name(image), "--name", cluster])
        return
    with tempfile.TemporaryDirectory() as folder:  # kind reads the archive more than once
        file = Path(folder) / "image.tar"
        with engine.archive(image) as archive, file.open("wb") as copy:
            shutil.copyfileobj(archive, copy, 1 << 20)
        run_tool(["kind", "load", "image-archive", str(file), "--name", cluster])


def load_into_containerd(engine: Engine, image: str, address: str) -> None:
    """Load an image into the containerd of this machine, which is a node. Raises BadInput, ToolFailed.

    address: the socket of containerd.
    """
    _require("ctr", "it comes with containerd")
    command = ["ctr", "--address", address, "--namespace", _NAMESPACE, "images", "import", "-"]
    with engine.archive(image) as archive:
        done = subprocess.run(
            command, stdin=archive, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise ToolFailed(command, done.returncode, done.stderr)


def _require(tool: str, where: str) -> None:
    if not shutil.which(tool):
        raise BadInput(f"{tool} is not on the PATH", where)
