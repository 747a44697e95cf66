"""The objects of a kustomization folder.

This module reads a plain one (k8s/base) without a tool. `kubectl kustomize` or `kustomize build` renders
one that uses anything else; nothing is silently left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from jobrelay.errors import BadInput
from jobrelay.kube.labels import CONFIG_MAP
from jobrelay.kube.objects import Object
from jobrelay.kube.read import title
from jobrelay.manifests.scopes import is_cluster_wide
from jobrelay.manifests.shapes import KustomizationShape, ObjectShape, check_shape, json_only
from jobrelay_runner.volume.safe_read import read_named, why
from jobrelay_train.config.yamlio import MAX_BYTES, YamlError, load_documents, read_documents

#: In the order in which kustomize tries them.
_FILES: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")

#: The keys this module reads; and those of the generator of the run's configuration, whose ConfigMap is not
#: sent as it is.
_PLAIN: Final = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator"}
_PLAIN_GENERATOR: Final = {"name", "files", "options"}
_LOCAL_CONFIG: Final = "config.kubernetes.io/local-config"
#: A base that kustomize fetches: a URL, or host/path.
_REMOTE: Final = re.compile(r"[a-z+]+://.*|[^/]+@[^/]+:.*|[^/]+\.[a-z]{2,}/.*|.*[?]ref=.*", re.IGNORECASE)
#: kustomize fetches remote bases with git, which may hang for ever.
_SECONDS: Final = 120


def read_folder(folder: Path, example: Path) -> Iterator[Object]:
    """Yield every object, as `kubectl apply -k` would send it. Raises BadInput.

    A folder without a kustomization is read as `kubectl apply -f` reads it: all its YAML files by name.
    example: a folder that works, for the user to compare with.
    """
    if not folder.is_dir():
        raise BadInput(
            f"{folder} is not a directory", f"name a folder with a kustomization.yaml, such as {example}"
        )
    path = next((folder / name for name in _FILES if (folder / name).exists()), folder / _FILES[0])
    if not path.exists() and (files := sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])):
        return (item for file in files for item in documents(file))
    kustomization = next(iter(_documents(path)), None)
    if not isinstance(kustomization, dict):
        raise BadInput(f"{path} is empty", f"compare {example / _FILES[0]}")
    check_shape(kustomization, KustomizationShape, str(path))
    objects = _plain_objects(folder, kustomization)
    if objects is None:
        return _rendered(folder, example)
    generators = kustomization.get("configMapGenerator") or ()
    return iter([*objects, *(_generated(folder, generator) for generator in generators)])


def documents(path: Path) -> Iterator[Object]:
    """The objects in a file. Raises BadInput."""
    yield from (check_object(document, str(path)) for document in _documents(path))


def check_object(item: Any, source: str) -> Object:
    """Return `item` without empty keys if it can be a Kubernetes object. Raises BadInput."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict) or not all(
        isinstance(part, str) for part in (item.get("apiVersion"), item.get("kind"), metadata.get("name"))
    ):
        raise BadInput(f"{source}: not a Kubernetes object (apiVersion, kind and metadata.name are needed)")
    checked: Object = json_only(item, f"{source}: {title(item)}: ")
    check_shape(checked, ObjectShape, f"{source}: {title(item)}")
    return checked


def _plain_objects(folder: Path, kustomization: Object) -> list[Object] | None:
    """The objects in the listed files; None where only kustomize can read the folder."""
    generators = kustomization.get("configMapGenerator") or []
    resources = kustomization.get("resources") or []
    if (
        set(kustomization) - _PLAIN
        or kustomization.get("kind", "Kustomization") != "Kustomization"
        or not all(_is_plain_generator(generator) for generator in generators)
        or any(_is_base(folder, name) for name in resources)
    ):
        return None
    objects = []
    for name in resources:
        for document in _documents(folder / name):
            if _is_for_kustomize(document):
                return None
            objects.append(
                _placed(check_object(document, str(folder / name)), kustomization.get("namespace"))
            )
    return objects


def _is_plain_generator(generator: Object) -> bool:
    """Whether the generator makes the run's configuration from files alone, the only kind needed here.

    For any other ConfigMap, kustomize adds a hash to its name and to every reference to it.
    """
    files = generator.get("files", [])
    return (
        generator.get("name") == CONFIG_MAP
        and not set(generator) - _PLAIN_GENERATOR
        and isinstance(files, list)
        and all(isinstance(name, str) for name in files)
    )


def _is_base(folder: Path, name: str) -> bool:
    path = folder / name
    return path.is_dir() or (not path.exists() and bool(_REMOTE.fullmatch(name)))


def _is_for_kustomize(document: Any) -> bool:
    """Whether this is a list of objects, or an object for kustomize alone."""
    if not isinstance(document, dict):
        return False
    metadata = document.get("metadata")
    annotations = (metadata if isinstance(metadata, dict) else {}).get("annotations")
    local = isinstance(annotations, dict) and _LOCAL_CONFIG in annotations
    return local or (str(document.get("kind", "")).endswith("List") and "items" in document)


def _generated(folder: Path, generator: Object) -> Object:
    """The ConfigMap generated from files: FILE, or KEY=FILE."""
    data = {}
    for name in generator.get("files") or ():
        key, given, file = name.rpartition("=")
        path = folder / file
        try:
            data[key if given else path.name] = read_named(path, MAX_BYTES).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} cannot be read: {why(error)}") from error
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}


def _placed(item: Object, namespace: str | None) -> Object:
    """The object in the namespace where kustomize would put it."""
    if not namespace or (is_cluster_wide(item) and item["kind"] != "Namespace"):
        return item
    key = "name" if item["kind"] == "Namespace" else "namespace"
    return {**item, "metadata": {**item["metadata"], key: namespace}}


def _documents(path: Path) -> list[Any]:
    try:
        return read_documents(path)
    except YamlError as error:
        raise BadInput(str(error)) from error


def _rendered(folder: Path, example: Path) -> Iterator[Object]:
    """The objects that kustomize renders from the folder."""
    command = _tool(folder, example)
    shown = " ".join((Path(command[0]).name, *command[1:]))
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise BadInput(
            f"`{shown}` did not end within {_SECONDS} s", "can its remote bases be reached?"
        ) from error
    if done.returncode:
        raise BadInput(f"`{shown}` failed: {done.stderr.strip()}")
    try:
        found = load_documents(done.stdout, f"`{shown}`")
    except YamlError as error:
        raise BadInput(str(error)) from error
    return (check_object(document, str(folder)) for document in found)


def _tool(folder: Path, example: Path) -> list[str]:
    if kubectl := shutil.which("kubectl"):
        return [kubectl, "kustomize", str(folder)]
    if kustomize := shutil.which("kustomize"):
        return [kustomize, "build", str(folder)]
    raise BadInput(
        f"{folder} needs kustomize (an overlay, a remote base, a generator or the like), and neither kubectl "
        "nor kustomize is on the PATH",
        f"install kubectl, or name a folder that needs none, such as {example}",
    )
