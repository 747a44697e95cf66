"""A container as a process of this machine: its command, environment and folder.

Mounts become folders (claim: the volume; ConfigMap: its files; emptyDir: a temporary folder), and arguments
and variables that are a path below a mount are rewritten to it. The image is not used: `python` is this
interpreter. Features that a process cannot provide are refused, never ignored.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobrelay.errors import BadInput
from jobrelay.executors.local import layout
from jobrelay.executors.local.configs import ConfigMaps
from jobrelay.executors.local.pod.mounts import (
    ON_A_CLUSTER,
    HiddenPaths,
    Mounts,
    expanded,
    mounts_of,
    refused,
)
from jobrelay.kube.labels import ANNOTATION_INDEX
from jobrelay.kube.objects import Container, EnvVar, Pod
from jobrelay.kube.read import has_runner
from jobrelay_runner.command.execution import ENV_BINDS
from jobrelay_runner.command.requirements import ENV_ENVIRONMENTS
from jobrelay_runner.volume.paths import ENV_INDEX

#: The image's WORKDIR (images/slim.Dockerfile).
_IMAGE_FOLDER: Final = "/app"
#: Variables of this machine that an image would not have, and that change how Python starts.
_NOT_IN_AN_IMAGE: Final = ("PYTHONSAFEPATH", "PYTHONIOENCODING", "PYTHONSTARTUP", "PYTHONINSPECT")
#: Fields that change what a container does, and that processes do not implement.
_REFUSED: Final = ("lifecycle", "volumeDevices")


@dataclass(frozen=True)
class Process:
    """A container, ready to run on this machine."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    #: created before the start, if they do not exist
    made: tuple[Path, ...] = ()


def process_of(container: Container, pod: Pod, root: Path, scratch: Path, config_maps: ConfigMaps) -> Process:
    """A container's command, environment and folder on this machine.

    scratch: a folder for emptyDir volumes. Raises BadInput for what processes cannot do.
    """
    for field in _REFUSED:
        if container.get(field):
            raise refused(container, f"has {field}, which --local does not implement")
    plain = _from_sources(container, config_maps)
    plain |= {v["name"]: _value(v, pod, container, config_maps) for v in container.get("env") or ()}
    mounts = mounts_of(container, pod, root, scratch, config_maps, plain)
    if (index := (pod["metadata"].get("annotations") or {}).get(ANNOTATION_INDEX)) is not None:
        plain[ENV_INDEX] = index
    if has_runner(container):
        return _with_runner(container, mounts, plain)
    hidden = HiddenPaths(container, mounts, config_maps, pod)
    variables: dict[str, str] = {}
    for name, value in plain.items():
        for part in value.split(":"):
            hidden.refuse(part, f"variable {name}")
        variables[name] = expanded(mounts.in_list(value), variables)
    command = container.get("command")
    if not command:
        raise BadInput(
            f"container {container['name']} has no command, and without its image there is no other to run",
            "give the Job a command, or run it on a cluster",
        )
    arguments = []
    for text in [*command, *(container.get("args") or ())]:
        hidden.refuse(text, f"argument {text[:60]!r}")
        hidden.refuse_unquoted(text, plain, variables)
        arguments.append(expanded(mounts.here(text), variables))
    hidden.refuse_in_config_maps()
    if arguments[0] == "python":
        arguments[0] = sys.executable
    # this machine's environment, such as PATH, stands for the image's, which uses UTF-8
    own = {name: value for name, value in os.environ.items() if name not in _NOT_IN_AN_IMAGE}
    environment = {**own, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **variables}
    folder = _folder(container, mounts)
    made = [*mounts.made, Path(folder)] if folder != container.get("workingDir") else mounts.made
    return Process(arguments, environment, folder, tuple(made))


def _with_runner(container: Container, mounts: Mounts, plain: Mapping[str, str]) -> Process:
    """A program of any kind: its own mounts are where it expects them, in a namespace that the runner makes.

    Only JobRelay's own paths are rewritten.
    """
    own = {path: folder for path, folder in mounts.targets.items() if not _is_ours(path)}
    ours = Mounts({path: folder for path, folder in mounts.targets.items() if _is_ours(path)}, mounts.made)
    variables: dict[str, str] = {}
    for name, value in plain.items():
        variables[name] = expanded(ours.here(value), variables)
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    arguments = [expanded(ours.here(word), variables) for word in words]
    if own:
        variables[ENV_BINDS] = json.dumps({path: str(folder) for path, folder in own.items()})
    environments = {ENV_ENVIRONMENTS: str(layout.environments())}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environments, **variables}
    return Process(arguments, environment, str(layout.WORKING_FOLDER), tuple(ours.made))


def _is_ours(path: str) -> bool:
    return path.startswith("/jobrelay/")


def _from_sources(container: Container, config_maps: ConfigMaps) -> dict[str, str]:
    """Variables from envFrom."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        if "configMapRef" not in source:
            kind, wanted = next(((k, v) for k, v in source.items() if k != "prefix"), ("nothing", {}))
            name = f" {wanted.get('name', '')}" if isinstance(wanted, dict) else ""
            raise refused(container, f"takes variables from {kind}{name}, which --local does not have")
        wanted = source["configMapRef"]
        if wanted["name"] not in config_maps and not wanted.get("optional"):
            raise refused(
                container,
                f"takes variables from ConfigMap {wanted['name']}, which is not in the manifests",
                "add it to them",
            )
        for key, content in config_maps.get(wanted["name"], {}).items():
            variables[source.get("prefix", "") + key] = content.decode("utf-8", "replace")
    return variables


def _value(variable: EnvVar, pod: Pod, container: Container, config_maps: ConfigMaps) -> str:
    source = variable.get("valueFrom")
    if not source:
        return str(variable.get("value", ""))
    if wanted := source.get("configMapKeyRef"):
        content = config_maps.get(wanted.get("name", ""), {}).get(wanted.get("key", ""))
        if content is None and not wanted.get("optional"):
            raise refused(
                container,
                f"variable {variable['name']}: the manifests have no {wanted.get('key')} in ConfigMap "
                f"{wanted.get('name')}",
                "add it to them",
            )
        return (content or b"").decode("utf-8", "replace")
    if source.get("secretKeyRef"):  # on this machine you give it in a variable of the same name
        if variable["name"] not in os.environ:
            raise refused(
                container,
                f"variable {variable['name']} is from Secret {source['secretKeyRef'].get('name')}",
                f"set {variable['name']} in your shell, or {ON_A_CLUSTER}",
            )
        return os.environ[variable["name"]]
    path = source.get("fieldRef", {}).get("fieldPath", "")
    fields = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": pod["metadata"].get("namespace", "default"),
        "metadata.uid": pod["metadata"].get("uid", ""),
        "status.podIP": "127.0.0.1",
    }
    if path in fields:
        return str(fields[path])
    raise BadInput(
        f"variable {variable['name']} comes from {path or next(iter(source))}, which --local does not have",
        "give it a value, or run it on a cluster",
    )


def _folder(container: Container, mounts: Mounts) -> str:
    """The working directory. A container runtime creates a missing one; here only those on the volume are."""
    asked = container.get("workingDir")
    if not asked:
        return str(layout.WORKING_FOLDER)
    folder = mounts.here(asked)
    if folder != asked or Path(folder).is_dir():
        return folder
    if asked.rstrip("/") == _IMAGE_FOLDER:
        return str(layout.WORKING_FOLDER)
    raise refused(
        container,
        f"its workingDir {asked} is not on this machine; perhaps the image has it",
        f"leave it out, name a folder below a mount, or {ON_A_CLUSTER}",
    )
