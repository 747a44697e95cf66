"""Cluster and user of a kubeconfig's context, read as kubectl reads it.

KUBECONFIG may name several files; where two define the same entry, the first counts. A path in a file is
relative to that file. This module opens no connection and runs no plugin: see credentials and connection.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from jobrelay.errors import BadInput
from jobrelay.kube.objects import Object
from jobrelay_runner.text.redaction import keep_secret
from jobrelay_runner.volume.safe_read import read_named, why

#: The name of the context inside a Pod.
IN_CLUSTER: Final = "in-cluster"
#: Where the kubelet puts a Pod's credentials.
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_LIMIT: Final = 16 * 1024 * 1024
_WAYS: Final = "start one (make kind-up), name one with --context, or run without a cluster: --local"
_IN_A_POD: Final = "give the Pod automountServiceAccountToken: true, or a kubeconfig"
#: Secret fields of a user, in the user entry or in an auth-provider's config.
_SECRET: Final = frozenset(
    ("token", "password", "client-key-data", "id-token", "access-token", "refresh-token", "client-secret")
)
_SECRET_WORDS: Final = ("secret", "token", "password", "key")


@dataclass(frozen=True)
class Entry:
    """A cluster or a user of the kubeconfig: its fields, and the file they are in."""

    context: str
    what: str  # cluster c, user u
    fields: Object
    file: Path | None = None

    def wrong(self, problem: str, hint: str = _WAYS) -> BadInput:
        """The error for a problem with this entry."""
        where = f" ({self.file})" if self.file else ""
        return BadInput(f"context {self.context} cannot be used: {self.what}{where}: {problem}", hint)

    def text(self, key: str) -> str:
        """A text field; empty if it is missing. Raises BadInput."""
        value = self.fields.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(f"{key} is not a text")
        return value

    def flag(self, key: str) -> bool:
        value = self.fields.get(key)
        if value not in (None, True, False):
            raise self.wrong(f"{key} is neither true nor false")
        return bool(value)

    def tree(self, key: str) -> Object:
        """A mapping field; empty if it is missing. Raises BadInput."""
        value = self.fields.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.wrong(f"{key} is not a mapping")
        return value

    def path(self, name: str) -> Path:
        """A path in the kubeconfig, resolved relative to its file."""
        path = Path(name).expanduser() if name.startswith("~") else Path(name)
        return self.file.parent / path if self.file else path

    def content(self, key: str) -> bytes:
        """The base64 content of `key-data`, else that of the file that `key` names; else nothing.

        Raises BadInput.
        """
        if data := self.text(f"{key}-data"):
            try:
                return base64.b64decode("".join(data.split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise self.wrong(f"{key}-data is not base64: {error}") from None
        if name := self.text(key):
            try:
                return read_named(self.path(name), _LIMIT)
            except (OSError, ValueError) as error:
                raise self.wrong(f"{key} {self.path(name)} cannot be read: {why(error)}") from error
        return b""


@dataclass(frozen=True)
class Access:
    """A context: its cluster, user and namespace."""

    context: str
    namespace: str | None
    cluster: Entry
    user: Entry

    @property
    def server(self) -> str:
        return self.cluster.text("server").rstrip("/")


def load(context: str | None) -> Access:
    """Load a context by name, or the current one; in a Pod without a kubeconfig, the Pod's own.

    Raises BadInput.
    """
    files = _files()
    merged = _Merged(files)
    if context is None and merged.is_empty() and "KUBERNETES_SERVICE_HOST" in os.environ:
        return _in_cluster()
    name = context if context is not None else merged.current
    if not name:
        raise BadInput(f"no cluster: {_nothing_in(files)}", _WAYS)
    found = merged.named("contexts", name)
    if found is None and context is not None:
        known = ", ".join(merged.names("contexts")) or "none"
        nothing = "" if merged.names("contexts") else f"no cluster: {_nothing_in(files)}: "
        raise BadInput(f"{nothing}no context {name!r} in the kubeconfig", f"it has: {known}; {_WAYS}")
    if found is None:
        raise BadInput(
            f"no cluster: the kubeconfig's current context {name!r} is not one of its contexts "
            f"({', '.join(merged.names('contexts')) or 'it has none'})",
            _WAYS,
        )
    chosen = Entry(name, f"context {name}", *found)
    access = Access(
        name,
        chosen.text("namespace") or None,
        _entry(merged, chosen, "cluster"),
        _entry(merged, chosen, "user"),
    )
    if not access.server.startswith(("http://", "https://")):
        raise access.cluster.wrong("it has no server with http(s)://")
    return access


def _entry(merged: _Merged, chosen: Entry, kind: str) -> Entry:
    """The cluster or user that the context names."""
    name = chosen.text(kind)
    if not name and kind == "user":
        return Entry(chosen.context, "no user", {})  # as in kubectl: a user without credentials
    found = merged.named(f"{kind}s", name)
    if found is None:
        raise chosen.wrong(f"{kind} {name!r} is not in the kubeconfig")
    return Entry(chosen.context, f"{kind} {name}", *found)


def _files() -> list[Path]:
    """The kubeconfig's files, whether they exist or not."""
    listed = [name for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    return [Path(name).expanduser() for name in listed] or [Path.home() / ".kube" / "config"]


def _nothing_in(files: list[Path]) -> str:
    named = ", ".join(map(str, files))
    if not any(file.exists() for file in files):
        return f"there is no kubeconfig at {named}"
    return f"the kubeconfig ({named}) has no current context"


class _Merged:
    """All files as one: entries by kind and name, each with its fields and its file."""

    def __init__(self, files: list[Path]) -> None:
        self.current = ""
        self._entries: dict[str, dict[str, tuple[Object, Path]]] = {}
        for file in files:
            tree = _read(file)
            current = tree.get("current-context")
            self.current = self.current or (current if isinstance(current, str) else "")
            for kind in ("contexts", "clusters", "users"):
                for name, fields in _named(tree, kind, file).items():
                    self._entries.setdefault(kind, {}).setdefault(name, (fields, file.absolute()))
        for fields, _ in self._entries.get("users", {}).values():
            _keep_secrets(fields)

    def is_empty(self) -> bool:
        return not (self.current or self._entries)

    def names(self, kind: str) -> list[str]:
        return list(self._entries.get(kind, {}))

    def named(self, kind: str, name: str) -> tuple[Object, Path] | None:
        return self._entries.get(kind, {}).get(name)


def _read(file: Path) -> Object:
    """Read one file; as in kubectl, a missing or empty one counts as empty. Raises BadInput."""
    try:
        tree = yaml.safe_load(read_named(file, _LIMIT).decode("utf-8"))
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        # the parser's message quotes the line, which may be the one with the token
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise _unreadable(file, f"{problem}{where}") from None
    except UnicodeDecodeError:
        raise _unreadable(file, "it is not UTF-8") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(file, why(error)) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise _unreadable(file, "it is not a mapping of clusters, users and contexts")
    return tree


def _named(tree: Object, kind: str, file: Path) -> dict[str, Object]:
    """Map names to fields: `clusters: [{name: …, cluster: {…}}]` → {name: fields}."""
    entries = tree.get(kind) or []
    if not isinstance(entries, list):
        raise _unreadable(file, f"{kind} is not a list")
    found: dict[str, Object] = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        fields = entry.get(kind[:-1]) if isinstance(entry, dict) else None
        if not isinstance(name, str) or not isinstance(fields, dict | None):
            raise _unreadable(file, f"one of its {kind} lacks a name or a {kind[:-1]}")
        if name in found:
            raise _unreadable(file, f"it has two {kind} called {name}")
        found[name] = fields or {}
    return found


def _unreadable(file: Path, problem: str) -> BadInput:
    return BadInput(f"the kubeconfig {file} cannot be read: {problem}", _WAYS)


def _keep_secrets(fields: Object) -> None:
    """Hide a user's secrets in output, even if no context in use names that user."""
    provider = fields.get("auth-provider")
    kept = provider.get("config") if isinstance(provider, dict) else None
    for tree in (fields, kept):
        if isinstance(tree, dict):
            keep_secret(*(tree[key] for key in _SECRET & set(tree) if isinstance(tree[key], str)))
    plugin = fields.get("exec")
    variables = plugin.get("env") if isinstance(plugin, dict) else None
    for variable in variables if isinstance(variables, list) else ():
        if isinstance(variable, dict) and isinstance(value := variable.get("value"), str):
            name = str(variable.get("name")).lower()
            if any(word in name for word in _SECRET_WORDS):
                keep_secret(value)


def _in_cluster() -> Access:
    """This Pod's cluster and service account, as the kubelet provides them. Raises BadInput.

    Source: client-go, rest.InClusterConfig. The token is read from its file, since the kubelet renews it.
    """
    token, ca = SERVICE_ACCOUNT / "token", SERVICE_ACCOUNT / "ca.crt"
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}") for name in ("HOST", "PORT"))
    if not host or not port:
        raise BadInput("this Pod has no address of its cluster: KUBERNETES_SERVICE_HOST and _PORT", _IN_A_POD)
    for file in (token, ca):
        if not _has_content(file):
            raise BadInput(
                f"the service account of this Pod cannot be used: {file} has no content", _IN_A_POD
            )
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(
        IN_CLUSTER,
        None,
        Entry(IN_CLUSTER, "the cluster of this Pod", {"server": server, "certificate-authority": str(ca)}),
        Entry(IN_CLUSTER, "the service account of this Pod", {"tokenFile": str(token)}),
    )


def _has_content(file: Path) -> bool:
    try:
        return bool(read_named(file, _LIMIT).strip())
    except OSError:
        return False
