"""The JSON schema of jobrelay.yaml, for editors. `jobrelay init --schema` prints it."""

from __future__ import annotations

import json
from typing import Any, Final

from jobrelay.pipelines.definition import StageDefinition
from jobrelay.pipelines.reading import File

#: What each key means, in one line.
OF_FILE: Final = {
    "image": "Image of the stages that name none. Default: JobRelay's own, with PyTorch.",
    "security": "restricted: passes that Pod Security Standard. image: the user and rights of the image.",
    "code": "Folder whose files the stages start from, relative to this file. null: none.",
    "requirements": "Requirements file whose libraries are installed once, on the volume.",
    "params": "Values for {name} in `run`, `env` and `metrics`; --set name=value changes them.",
    "data": "Name to folder: copied to the volume once, as data/NAME.",
    "stages": "The stages, in the order in which they run.",
}
OF_STAGE: Final = {
    "run": "The command: a list is executed as it is; text goes through `sh -c` if it needs a shell.",
    "image": "Image of this stage.",
    "workdir": "Working directory: relative to the workspace, or absolute.",
    "env": "Variables.",
    "secrets": "Variable to SECRET/KEY of a Kubernetes Secret; with --local, your shell's variable.",
    "mounts": "Absolute path to a folder of the workspace, or to data/NAME.",
    "cpu": "CPU request; OMP_NUM_THREADS follows it.",
    "memory": "Memory request and limit.",
    "shm": "Size of /dev/shm.",
    "gpus": "Number of GPUs.",
    "gpu_type": "Resource name of the GPUs.",
    "nodes": "Number of Pods that work together, with the variables of torchrun.",
    "processes": "Processes in each of them, for torchrun.",
    "retries": "Attempts after a failed one.",
    "grace_seconds": "Seconds between SIGTERM and SIGKILL.",
    "timeout_seconds": "Seconds after which an attempt is ended.",
    "on_timeout": "fail, or succeed: what has been written by then is the result.",
    "metrics": "JSON file in the workspace whose numbers are the stage's metrics.",
    "queue": "Kueue's LocalQueue.",
    "security": "As the file's key, for this stage.",
}


def schema() -> str:
    """The schema as JSON text."""
    tree = File.model_json_schema()
    tree = {"$schema": "https://json-schema.org/draft/2020-12/schema", **tree, "title": "jobrelay.yaml"}
    stage = tree["$defs"][StageDefinition.__name__]
    stage["required"] = ["run"]
    for model, meanings in ((tree, OF_FILE), (stage, OF_STAGE)):
        model["description"] = "What jobrelay run-all runs." if model is tree else "One stage."
        for key, own in model["properties"].items():
            own.pop("title", None)
            model["properties"][key] = {"description": meanings[key], **own}
    return json.dumps(_sorted(tree), indent=2, ensure_ascii=False) + "\n"


def _sorted(tree: dict[str, Any]) -> dict[str, Any]:
    """The keys that say what it is before the long ones."""
    last = ("$defs", "properties")
    return {key: tree[key] for key in sorted(tree, key=lambda key: (key in last, key == "$defs"))}
