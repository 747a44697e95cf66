"""The connection to the real API server: address, TLS and credentials from a kubeconfig."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

#: bytes of a head; of a line
LIMIT = 1024 * 1024


@dataclass(frozen=True)
class Upstream:
    """A server, http:// or https://, with the credentials it requires."""

    url: str
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    headers: Callable[[], dict[str, str]] = field(default=dict)
    context: str = "faultproxy"
    namespace: str | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        name = (self.server_name or parts.hostname) if self.tls else None
        return await asyncio.open_connection(
            parts.hostname, port, ssl=self.tls, server_hostname=name, limit=LIMIT
        )

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """A prefix of all paths, which some managed clusters have."""
        return urlsplit(self.url).path.rstrip("/")

    @classmethod
    def of_context(cls, context: str | None = None, kubeconfig: Path | None = None) -> Upstream:
        """Read a context of a kubeconfig; supports every login of the Kubernetes client."""
        from kubernetes import client, config

        # the client would take what KUBECONFIG was when it was imported
        file = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG")
        contexts, current = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
        chosen = next((c for c in contexts if c["name"] == context), None) if context else current
        if chosen is None:
            raise ValueError(f"no context {context!r} in the kubeconfig")
        loaded: Any = client.Configuration()
        config.load_kube_config(file, context=chosen["name"], client_configuration=loaded)  # type: ignore[no-untyped-call]

        def headers() -> dict[str, str]:
            token = loaded.get_api_key_with_prefix("BearerToken", alias="authorization")
            if token:
                return {"Authorization": token}
            if loaded.username:
                pair = f"{loaded.username}:{loaded.password or ''}".encode()
                return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
            return {}

        return cls(
            str(loaded.host).rstrip("/"),
            _tls(loaded) if str(loaded.host).startswith("https") else None,
            getattr(loaded, "tls_server_name", None),
            headers,
            chosen["name"],
            (chosen.get("context") or {}).get("namespace"),
        )

    def write_kubeconfig(self, path: Path, address: str) -> Path:
        """Write a kubeconfig that leads to `address`; its context is named like the real one."""
        context = {"cluster": "faultproxy", "user": "faultproxy"}
        if self.namespace:
            context["namespace"] = self.namespace
        tree = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.context,
            "clusters": [{"name": "faultproxy", "cluster": {"server": address}}],
            "users": [{"name": "faultproxy", "user": {}}],
            "contexts": [{"name": self.context, "context": context}],
        }
        path.write_text(yaml.safe_dump(tree, sort_keys=False))
        return path


def _tls(loaded: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=loaded.ssl_ca_cert)
    if not loaded.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if loaded.cert_file:
        context.load_cert_chain(loaded.cert_file, loaded.key_file)
    return context
