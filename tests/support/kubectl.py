"""A namespace of a real cluster, observed with kubectl, independently of the launcher."""

from __future__ import annotations

import functools
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

Object = dict[str, Any]


class Kubectl:
    """kubectl in one namespace of one context."""

    def __init__(self, context: str, namespace: str) -> None:
        self.context = context
        self.namespace = namespace

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        command = ["kubectl", "--context", self.context, "-n", self.namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, f"{' '.join(arguments)}: {done.stderr}"
        return done.stdout

    @functools.cached_property
    def minor(self) -> int:
        """20 for Kubernetes 1.20."""
        version = json.loads(self("version", "-o", "json"))["serverVersion"]["minor"]
        return int("".join(filter(str.isdigit, version)))

    def needs(self, minor: int, what: str) -> None:
        """Skip the test on a server older than Kubernetes 1.`minor`."""
        if self.minor < minor:
            self.lacks(f"Kubernetes 1.{minor} ({what})")

    @staticmethod
    def lacks(what: str) -> NoReturn:
        """Skip the test, with what it needs as the reason."""
        pytest.skip(f"needs {what}, not here")

    def make_namespace(self) -> None:
        self("create", "namespace", self.namespace)

    def delete_namespace(self) -> None:
        self("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false")

    def apply(self, item: Object) -> None:
        self.apply_text(yaml.safe_dump(item))

    def apply_text(self, text: str) -> None:
        self("apply", "-f", "-", stdin=text)

    def get(self, kind: str, name: str) -> Object:
        found: Object = json.loads(self("get", kind, name, "-o", "json"))
        return found

    def exists(self, kind: str, name: str) -> bool:
        return bool(self("get", kind, name, "--ignore-not-found", "-o", "name", check=False).strip())

    def evict(self, pod: str) -> None:
        """Evict a Pod as `kubectl drain` does."""
        version = "policy/v1" if self.minor >= 22 else "policy/v1beta1"
        body = {"apiVersion": version, "kind": "Eviction", "metadata": {"name": pod}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        self("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    def items(self, kind: str) -> list[Object]:
        found: list[Object] = json.loads(self("get", kind, "-o", "json"))["items"]
        return found

    def pods_alive(self, prefix: str = "") -> list[str]:
        """Pods that may still run: neither finished nor being deleted."""
        return [
            pod["metadata"]["name"]
            for pod in self.items("pods")
            if pod["status"].get("phase") in ("Pending", "Running")
            and "deletionTimestamp" not in pod["metadata"]
            and pod["metadata"]["name"].startswith(prefix)
        ]

    def running_volume_pods(self) -> list[str]:
        return [
            pod["metadata"]["name"]
            for pod in self.items("pods")
            if pod["metadata"]["name"].startswith("jobrelay-volume-")
            and pod["status"].get("phase") == "Running"
        ]

    def complete(self, job: str) -> bool:
        return self._condition(job, "Complete")

    def failed(self, job: str) -> bool:
        return self._condition(job, "Failed")

    def _condition(self, job: str, kind: str) -> bool:
        conditions = self.get("job", job)["status"].get("conditions") or ()
        return any(c["type"] == kind and c["status"] == "True" for c in conditions)

    def restricted_context(self, rules: list[Object], path: Path) -> Path:
        """A kubeconfig of a ServiceAccount that has only `rules` in this namespace."""
        self("create", "serviceaccount", "somebody")
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "some"}}
        self.apply({**role, "rules": rules})
        self("create", "rolebinding", "some", "--role=some", f"--serviceaccount={self.namespace}:somebody")
        config = json.loads(self("config", "view", "--raw", "--minify", "-o", "json"))
        config["users"] = [
            {"name": config["contexts"][0]["context"]["user"], "user": {"token": self._token()}}
        ]
        path.write_text(json.dumps(config))
        return path

    def _token(self) -> str:
        """The ServiceAccount's token, from a Secret made for it: works from 1.20 to the newest."""
        annotations = {"kubernetes.io/service-account.name": "somebody"}
        metadata = {"name": "somebody-token", "annotations": annotations}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
        self.apply({**secret, "type": "kubernetes.io/service-account-token"})
        assert self.wait_until(lambda: "token" in (self.get("secret", "somebody-token").get("data") or {}))
        return self("get", "secret", "somebody-token", "-o", "go-template={{.data.token|base64decode}}")

    @staticmethod
    def wait_until(condition: Callable[[], bool], seconds: float = 30) -> bool:
        """Whether `condition` came true in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True
