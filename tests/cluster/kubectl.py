"""A namespace of a real cluster, looked at with kubectl: another pair of eyes than the launcher's."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

    def items(self, kind: str) -> list[Object]:
        found: list[Object] = json.loads(self("get", kind, "-o", "json"))["items"]
        return found

    def pods_alive(self) -> list[str]:
        """Pods that may still do something: not ended, and not told to end."""
        return [
            pod["metadata"]["name"]
            for pod in self.items("pods")
            if pod["status"].get("phase") in ("Pending", "Running")
            and "deletionTimestamp" not in pod["metadata"]
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
