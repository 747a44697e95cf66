"""Map a container's mounts to folders of this machine, and refuse paths that cannot be mapped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from jobrelay.errors import BadInput
from jobrelay.executors.local import layout
from jobrelay.executors.local.configs import ConfigMaps
from jobrelay.kube.objects import Container, Object, Pod

ON_A_CLUSTER: Final = "run it on a cluster"
#: Scratch folders that every machine has: a Pod's emptyDir there may be the machine's own folder.
_SCRATCH: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
_SAFER: Final = "choose a --volume without spaces and the like in its path"
#: OPTION=PATH is a program's argument; a shell's `A=/x; …` is not.
_OPTION: Final = re.compile(r"[\w.-]+")
#: Characters that a shell does not interpret.
_SAFE: Final = re.compile(r"[\w./+@%:=,-]*")


class Mounts:
    """The local folders of a container's mount paths. Of nested mounts, the inner one counts.

    made: folders to create before the start, as a kubelet does, if they do not exist.
    """

    def __init__(self, targets: Mapping[str, Path], made: Sequence[Path] = ()) -> None:
        self.targets = dict(sorted(targets.items(), key=lambda item: -len(item[0])))
        self.made = list(made)

    def here(self, text: str) -> str:
        """Map `text` to this machine if it is a path below a mount, or OPTION=PATH."""
        option, equals, value = text.partition("=")
        if equals and _OPTION.fullmatch(option):
            return f"{option}={self._path(value)}"
        return self._path(text)

    def in_list(self, text: str) -> str:
        """Apply `here` to each part of a list such as PATH."""
        return ":".join(self.here(part) for part in text.split(":"))

    def _path(self, text: str) -> str:
        mount = self.above(text)
        return text if mount is None else f"{self.targets[mount]}{text[len(mount) :]}"

    def above(self, text: str) -> str | None:
        """The mount that contains a path; None if there is none."""
        return next((m for m in self.targets if text == m or text.startswith(f"{m}/")), None)


class HiddenPaths:
    """Finds mount paths that cannot be rewritten, as in a shell's program: it would use the machine's."""

    def __init__(self, container: Container, mounts: Mounts, config_maps: ConfigMaps, pod: Pod) -> None:
        self._container = container
        self._mounts = mounts
        self._config_maps = config_maps
        self._volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
        paths = [path for path, target in mounts.targets.items() if str(target) != path]
        inner = "|".join(re.escape(path) for path in paths if not self._is_scratch(path))
        self._pattern = re.compile(rf"(?<![\w.}})-])(?<!:/)(?:{inner})(?![\w.-])") if inner else None

    def refuse(self, text: str, where: str) -> None:
        """Raise BadInput if `text` has a mount path that is not rewritten."""
        option, equals, value = text.partition("=")
        path = value if equals and _OPTION.fullmatch(option) else text
        mount = self._mounts.above(path)
        rest = text if mount is None else path[len(mount) :]  # the part after the rewritten path
        if self._pattern and (found := self._pattern.search(rest)):
            raise refused(
                self._container,
                f"{where} has the mount path {found[0]} in it, which would be the machine's own folder here",
                "give the path in a variable of its own (env: OUT, value: "
                f"{found[0]}; in the program: $OUT), or {ON_A_CLUSTER}",
            )
        if mount and re.search(r"\s", rest) and not _SAFE.fullmatch(str(self._mounts.targets[mount])):
            raise refused(self._container, f"{where} would have a space or the like in its path", _SAFER)

    def refuse_unquoted(self, text: str, plain: Mapping[str, str], variables: Mapping[str, str]) -> None:
        """Raise BadInput where $(NAME) puts a path into a program that a shell would split."""
        for name in re.findall(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)", text):
            value = variables.get(name, "")
            moved = value != plain.get(name)
            if moved and re.search(r"\s", text) and not _SAFE.fullmatch(value):
                raise refused(
                    self._container, f"$({name}) would put {value!r} into a program as it is", _SAFER
                )

    def refuse_in_config_maps(self) -> None:
        """Check the text of mounted ConfigMaps, programs and settings, as `refuse` does."""
        for mount in self._container.get("volumeMounts") or ():
            name = self._volumes[mount["name"]].get("configMap", {}).get("name", "")
            for key, content in self._config_maps.get(name, {}).items():
                self.refuse(content.decode("utf-8", "replace"), f"{key} of ConfigMap {name}")

    def _is_scratch(self, path: str) -> bool:
        mounts = self._container.get("volumeMounts") or ()
        volume = next((m["name"] for m in mounts if m["mountPath"].rstrip("/") == path), "")
        return path in _SCRATCH and "emptyDir" in self._volumes[volume]


def mounts_of(
    container: Container,
    pod: Pod,
    root: Path,
    scratch: Path,
    config_maps: ConfigMaps,
    variables: Mapping[str, str],
) -> Mounts:
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    claims = [
        v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v
    ]
    mounts: dict[str, Path] = {}
    made: list[Path] = []
    for mount in container.get("volumeMounts") or ():
        if mount["name"] not in volumes:
            raise refused(container, f"mounts volume {mount['name']}, which its Pod does not have", "add it")
        inner = PurePosixPath(expanded(mount.get("subPathExpr", ""), variables) or mount.get("subPath", ""))
        if inner.is_absolute() or ".." in inner.parts:
            raise refused(
                container, f"subPath {inner} leads out of volume {mount['name']}", "name a folder in it"
            )
        if "$(" in inner.name:
            raise refused(container, f"subPathExpr {inner} has a variable that is not set", "set it")
        volume = volumes[mount["name"]]
        if "persistentVolumeClaim" in volume:
            if volume["persistentVolumeClaim"]["claimName"] != claims[0]:
                raise refused(container, "mounts a second PersistentVolumeClaim; --local has one volume")
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
            raise BadInput(f"volume {volume['name']} is a {kind}, which --local does not have", ON_A_CLUSTER)
        path = mount["mountPath"].rstrip("/")
        if not path.startswith("/"):
            raise refused(container, f"its mountPath {mount['mountPath']} is not below /", "name a folder")
        mounts[path] = (target / inner).resolve()
        if not mounts[path].is_relative_to(target.resolve()):
            raise refused(container, f"subPath {inner} is a link that leads out of volume {mount['name']}")
        if target in (root, scratch / volume["name"]):
            made.append(mounts[path])
    return Mounts(mounts, made)


def _config_map(container: Container, source: Object, root: Path, config_maps: ConfigMaps) -> Path:
    name = source["name"]
    if source.get("items"):
        raise refused(container, f"mounts ConfigMap {name} with items, which --local does not implement")
    if name not in config_maps and not source.get("optional"):
        raise refused(container, f"mounts ConfigMap {name}, which is not in the manifests", "add it to them")
    return layout.config_folder(root, name)


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME) as Kubernetes does; unknown names stay as they are, and $$ becomes $."""
    return re.sub(
        r"\$(\$|\(([A-Za-z_][A-Za-z0-9_]*)\))",
        lambda m: "$" if m[1] == "$" else variables.get(m[2], m[0]),
        text,
    )


def refused(container: Container, why: str, hint: str = ON_A_CLUSTER) -> BadInput:
    return BadInput(f"container {container['name']}: {why}", hint)
