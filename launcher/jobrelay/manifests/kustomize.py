"""The objects of a kustomization folder.

A plain one (k8s/base) is read here, with no tool. All that this does not know is kustomize's own
business: `kubectl kustomize`, or `kustomize build`, renders it, and nothing is left out in silence.
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

#: In the order in which kustomize looks for them.
_FILES: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")

#: What is read here; and of the generator of the run's configuration, which is not sent as it is.
_PLAIN: Final = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator"}
_PLAIN_GENERATOR: Final = {"name", "files", "options"}
_LOCAL_CONFIG: Final = "config.kubernetes.io/local-config"
#: A base that is fetched: a URL, or host/path, as kustomize takes them.
_REMOTE: Final = re.compile(r"[a-z+]+://.*|[^/]+@[^/]+:.*|[^/]+\.[a-z]{2,}/.*|.*[?]ref=.*", re.IGNORECASE)
#: A remote base is fetched by git, which may wait for ever.
_SECONDS: Final = 120


def read_folder(folder: Path, example: Path) -> Iterator[Object]:
    """Every object, as `kubectl apply -k` would send it. Raises BadInput.

    example: a folder to compare with.
    """
    if not folder.is_dir():
        raise BadInput(
            f"{folder} is not a directory", f"name a folder with a kustomization.yaml, such as {example}"
        )
    path = next((folder / name for name in _FILES if (folder / name).exists()), folder / _FILES[0])
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
    """`item` itself, without empty keys, if it can be a Kubernetes object. Raises BadInput."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict) or not all(
        isinstance(part, str) for part in (item.get("apiVersion"), item.get("kind"), metadata.get("name"))
    ):
        raise BadInput(f"{source}: not a Kubernetes object (apiVersion, kind and metadata.name are needed)")
    checked: Object = json_only(item, f"{source}: {title(item)}: ")
    check_shape(checked, ObjectShape, f"{source}: {title(item)}")
    return checked


def _plain_objects(folder: Path, kustomization: Object) -> list[Object] | None:
    """The objects in the files that are named; None where kustomize must read the folder."""
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
    """Whether it makes the run's configuration, of files alone: that is all that is needed of it here.

    The name of another ConfigMap gets a hash, and so does every place where it is mentioned.
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
    """A list of objects, or one that kustomize keeps to itself."""
    if not isinstance(document, dict):
        return False
    metadata = document.get("metadata")
    annotations = (metadata if isinstance(metadata, dict) else {}).get("annotations")
    local = isinstance(annotations, dict) and _LOCAL_CONFIG in annotations
    return local or (str(document.get("kind", "")).endswith("List") and "items" in document)


def _generated(folder: Path, generator: Object) -> Object:
    """The ConfigMap of files: FILE, or KEY=FILE."""
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
    """The object where kustomize would put it."""
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
    """What kustomize makes of the folder."""
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
