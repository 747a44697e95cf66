"""What is known of images that people start from, without asking a registry."""

from __future__ import annotations

import re
from typing import Final

#: They have no entrypoint, or one that only runs its arguments.
_PLAIN: Final = (
    "alpine", "busybox", "condaforge/mambaforge", "condaforge/miniforge3", "continuumio/anaconda3",
    "continuumio/miniconda3", "debian", "ghcr.io/astral-sh/uv", "nvcr.io/nvidia/cuda",
    "nvcr.io/nvidia/pytorch", "nvidia/cuda", "python", "pytorch/pytorch", "tensorflow/tensorflow", "ubuntu",
)  # fmt: skip
_WORKDIRS: Final = {"pytorch/pytorch": "/workspace", "nvcr.io/nvidia/pytorch": "/workspace"}


def name(image: str) -> str:
    """The name without tag, digest and Docker Hub's own prefix: docker.io/library/python:3.12 is python."""
    plain = re.sub(r":[^/]*$", "", image.partition("@")[0])
    return re.sub(r"^(?:docker\.io/|public\.ecr\.aws/docker/|library/)+", "", plain)


def has_plain_entrypoint(image: str) -> bool:
    """Whether a command means the same with the image's entrypoint in front of it and without."""
    return name(image) in _PLAIN


def workdir(image: str) -> str:
    return _WORKDIRS.get(name(image), "/")
