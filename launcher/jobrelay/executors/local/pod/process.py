"""A container as a process of this machine: its command, environment and folder.

Mounts become folders here (claim: the volume; ConfigMap: its files; emptyDir: a temporary folder), and
arguments and variables that are a path below a mount are rewritten to it. The image is not used: `python`
is this interpreter. What a process cannot do is refused, never left out.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from jobrelay.errors import BadInput
from jobrelay.executors.local import layout
from jobrelay.executors.local.configs import ConfigMaps
from jobrelay.kube.labels import ANNOTATION_INDEX
from jobrelay.kube.objects import Container, EnvVar, Object, Pod
from jobrelay_runner.volume.paths import ENV_INDEX

#: Scratch folders that every machine has: a Pod's emptyDir there may as well be the machine's own.
_SCRATCH: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
#: WORKDIR of the image (images/slim.Dockerfile).
_IMAGE_FOLDER: Final = "/app"
#: Of this machine's environment, what an image would not have, and what would change how Python starts.
_NOT_IN_AN_IMAGE: Final = ("PYTHONSAFEPATH", "PYTHONIOENCODING", "PYTHONSTARTUP", "PYTHONINSPECT")
#: Fields that change what a container does, and that processes do not implement.
_REFUSED: Final = ("lifecycle", "volumeDevices")
_ON_A_CLUSTER: Final = "run it on a cluster"
_SAFER: Final = "choose a --volume without spaces and the like in its path"
#: OPTION=PATH is an argument of a program; a shell's `A=/x; …` is not.
_OPTION: Final = re.compile(r"[\w.-]+")
#: What a shell leaves as it is.
_SAFE: Final = re.compile(r"[\w./+@%:=,-]*")


@dataclass(frozen=True)
class Process:
    """A container, as this machine can run it."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    #: made before it starts, if they are not there
    made: tuple[Path, ...] = ()


def process_of(container: Container, pod: Pod, root: Path, scratch: Path, config_maps: ConfigMaps) -> Process:
    """A container's command, environment and folder on this machine.

    scratch: a folder for emptyDir volumes. Raises BadInput for what processes cannot do.
    """
    for field in _REFUSED:
        if container.get(field):
            raise _refused(container, f"has {field}, which --local does not implement")
    mounts = _mounts(container, pod, root, scratch, config_maps)
    hidden = _Hidden(container, mounts, config_maps, pod)
    plain = _from_sources(container, config_maps)
    plain |= {v["name"]: _value(v, pod, container, config_maps) for v in container.get("env") or ()}
    variables: dict[str, str] = {}
    for name, value in plain.items():
        for part in value.split(":"):
            hidden.refuse(part, f"variable {name}")
        variables[name] = _expand(mounts.in_list(value), variables)
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
        arguments.append(_expand(mounts.here(text), variables))
    hidden.refuse_in_config_maps()
    if arguments[0] == "python":
        arguments[0] = sys.executable
    if (index := (pod["metadata"].get("annotations") or {}).get(ANNOTATION_INDEX)) is not None:
        variables[ENV_INDEX] = index
    # the image's own environment is this one: PATH and the like; and it is one in UTF-8
    own = {name: value for name, value in os.environ.items() if name not in _NOT_IN_AN_IMAGE}
    environment = {**own, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **variables}
    folder = _folder(container, mounts)
    made = [*mounts.made, Path(folder)] if folder != container.get("workingDir") else mounts.made
    return Process(arguments, environment, folder, tuple(made))


class Mounts:
    """Where the paths of a container are here. Of mounts within mounts, the inner one counts.

    made: folders that a kubelet makes, if they are not there.
    """

    def __init__(self, targets: Mapping[str, Path], made: Sequence[Path] = ()) -> None:
        self.targets = dict(sorted(targets.items(), key=lambda item: -len(item[0])))
        self.made = list(made)

    def here(self, text: str) -> str:
        """`text`, if it is a path below a mount, or OPTION=PATH, as a path on this machine."""
        option, equals, value = text.partition("=")
        if equals and _OPTION.fullmatch(option):
            return f"{option}={self._path(value)}"
        return self._path(text)

    def in_list(self, text: str) -> str:
        """As `here`, for each part of a list such as PATH."""
        return ":".join(self.here(part) for part in text.split(":"))

    def _path(self, text: str) -> str:
        mount = self.above(text)
        return text if mount is None else f"{self.targets[mount]}{text[len(mount) :]}"

    def above(self, text: str) -> str | None:
        """The mount that a path is below."""
        return next((m for m in self.targets if text == m or text.startswith(f"{m}/")), None)


class _Hidden:
    """Finds mount paths where they cannot be rewritten, as in a shell's program: it would use the host's."""

    def __init__(self, container: Container, mounts: Mounts, config_maps: ConfigMaps, pod: Pod) -> None:
        self._container = container
        self._mounts = mounts
        self._config_maps = config_maps
        self._volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
        paths = [path for path, target in mounts.targets.items() if str(target) != path]
        inner = "|".join(re.escape(path) for path in paths if not self._is_scratch(path))
        self._pattern = re.compile(rf"(?<![\w.}})-])(?<!:/)(?:{inner})(?![\w.-])") if inner else None

    def refuse(self, text: str, where: str) -> None:
        """Raise BadInput if `text` has a mount path in it that stays as it is."""
        option, equals, value = text.partition("=")
        path = value if equals and _OPTION.fullmatch(option) else text
        mount = self._mounts.above(path)
        rest = text if mount is None else path[len(mount) :]  # behind what is rewritten
        if self._pattern and (found := self._pattern.search(rest)):
            raise _refused(
                self._container,
                f"{where} has the mount path {found[0]} in it, which would be the machine's own folder here",
                "give the path in a variable of its own (env: OUT, value: "
                f"{found[0]}; in the program: $OUT), or {_ON_A_CLUSTER}",
            )
        if mount and re.search(r"\s", rest) and not _SAFE.fullmatch(str(self._mounts.targets[mount])):
            raise _refused(self._container, f"{where} would have a space or the like in its path", _SAFER)

    def refuse_unquoted(self, text: str, plain: Mapping[str, str], variables: Mapping[str, str]) -> None:
        """Raise BadInput where $(NAME) puts a path into a program that a shell would take apart."""
        for name in re.findall(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)", text):
            value = variables.get(name, "")
            moved = value != plain.get(name)
            if moved and re.search(r"\s", text) and not _SAFE.fullmatch(value):
                raise _refused(
                    self._container, f"$({name}) would put {value!r} into a program as it is", _SAFER
                )

    def refuse_in_config_maps(self) -> None:
        """The same for the text of ConfigMaps that are mounted: programs and their settings."""
        for mount in self._container.get("volumeMounts") or ():
            name = self._volumes[mount["name"]].get("configMap", {}).get("name", "")
            for key, content in self._config_maps.get(name, {}).items():
                self.refuse(content.decode("utf-8", "replace"), f"{key} of ConfigMap {name}")

    def _is_scratch(self, path: str) -> bool:
        mounts = self._container.get("volumeMounts") or ()
        volume = next((m["name"] for m in mounts if m["mountPath"].rstrip("/") == path), "")
        return path in _SCRATCH and "emptyDir" in self._volumes[volume]


def _mounts(container: Container, pod: Pod, root: Path, scratch: Path, config_maps: ConfigMaps) -> Mounts:
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    claims = [
        v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v
    ]
    mounts: dict[str, Path] = {}
    made: list[Path] = []
    for mount in container.get("volumeMounts") or ():
        if mount["name"] not in volumes:
            raise _refused(container, f"mounts volume {mount['name']}, which its Pod does not have", "add it")
        if mount.get("subPathExpr"):
            raise _refused(
                container, f"mounts {mount['name']} by subPathExpr, which --local does not implement"
            )
        inner = PurePosixPath(mount.get("subPath", ""))
        if inner.is_absolute() or ".." in inner.parts:
            raise _refused(
                container, f"subPath {inner} leads out of volume {mount['name']}", "name a folder in it"
            )
        volume = volumes[mount["name"]]
        if "persistentVolumeClaim" in volume:
            if volume["persistentVolumeClaim"]["claimName"] != claims[0]:
                raise _refused(container, "mounts a second PersistentVolumeClaim; --local has one volume")
            target = root
        elif "configMap" in volume:
            target = _config_map(container, volume["configMap"], root, config_maps)
        elif "emptyDir" in volume:
            if volume["emptyDir"].get("medium") == "Memory" and mount["mountPath"].rstrip("/") in _SCRATCH:
                continue  # /dev/shm is the machine's own
            target = scratch / volume["name"]
            target.mkdir(exist_ok=True)
        else:
            kind = next(key for key in volume if key != "name")
            raise BadInput(f"volume {volume['name']} is a {kind}, which --local does not have", _ON_A_CLUSTER)
        path = mount["mountPath"].rstrip("/")
        if not path.startswith("/"):
            raise _refused(container, f"its mountPath {mount['mountPath']} is not below /", "name a folder")
        mounts[path] = (target / inner).resolve()
        if not mounts[path].is_relative_to(target.resolve()):
            raise _refused(container, f"subPath {inner} is a link that leads out of volume {mount['name']}")
        if target in (root, scratch / volume["name"]):
            made.append(mounts[path])
    return Mounts(mounts, made)


def _config_map(container: Container, source: Object, root: Path, config_maps: ConfigMaps) -> Path:
    name = source["name"]
    if source.get("items"):
        raise _refused(container, f"mounts ConfigMap {name} with items, which --local does not implement")
    if name not in config_maps and not source.get("optional"):
        raise _refused(container, f"mounts ConfigMap {name}, which is not in the manifests", "add it to them")
    return layout.config_folder(root, name)


def _from_sources(container: Container, config_maps: ConfigMaps) -> dict[str, str]:
    """Variables by envFrom."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        if "configMapRef" not in source:
            kind, wanted = next(((k, v) for k, v in source.items() if k != "prefix"), ("nothing", {}))
            name = f" {wanted.get('name', '')}" if isinstance(wanted, dict) else ""
            raise _refused(container, f"takes variables from {kind}{name}, which --local does not have")
        wanted = source["configMapRef"]
        if wanted["name"] not in config_maps and not wanted.get("optional"):
            raise _refused(
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
            raise _refused(
                container,
                f"variable {variable['name']}: the manifests have no {wanted.get('key')} in ConfigMap "
                f"{wanted.get('name')}",
                "add it to them",
            )
        return (content or b"").decode("utf-8", "replace")
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
    """Where it starts. A container runtime makes the folder; here that is done on the volume alone."""
    asked = container.get("workingDir")
    if not asked:
        return str(layout.WORKING_FOLDER)
    folder = mounts.here(asked)
    if folder != asked or Path(folder).is_dir():
        return folder
    if asked.rstrip("/") == _IMAGE_FOLDER:
        return str(layout.WORKING_FOLDER)
    raise _refused(
        container,
        f"its workingDir {asked} is not on this machine; perhaps the image has it",
        f"leave it out, name a folder below a mount, or {_ON_A_CLUSTER}",
    )


def _expand(text: str, variables: Mapping[str, str]) -> str:
    """$(NAME), as Kubernetes replaces it; unknown names stay as they are, and $$ is a $."""
    return re.sub(
        r"\$(\$|\(([A-Za-z_][A-Za-z0-9_]*)\))",
        lambda m: "$" if m[1] == "$" else variables.get(m[2], m[0]),
        text,
    )


def _refused(container: Container, why: str, hint: str = _ON_A_CLUSTER) -> BadInput:
    return BadInput(f"container {container['name']}: {why}", hint)
