"""One connection to the API server for requests, watches and exec: proxy, TLS, credentials."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from websocket import WebSocket

from jobrelay.executors.cluster import limits
from jobrelay.executors.cluster.login.credentials import Certificate, Credentials, Login
from jobrelay.executors.cluster.login.kubeconfig import Access, load
from jobrelay.executors.cluster.login.proxies import proxy_for
from jobrelay.executors.cluster.login.tls import tls_context

_PORTS: Final = {"http": 80, "https": 443}
_EXEC_PROTOCOL: Final = "v4.channel.k8s.io"
#: Idle connections to keep: a run has several watches and logs open, and calls from several threads.
_KEPT: Final = 32
_warned: set[str] = set()
_log = logging.getLogger(__name__)


class Connection:
    """A context of the kubeconfig, as read when this object was created. Thread-safe."""

    def __init__(self, context: str | None) -> None:
        """Read the context; sends nothing, and runs no plugin. Raises BadInput."""
        self.access: Access = load(context)
        self.server = self.access.server
        self._credentials = Credentials(self.access)
        try:
            self.proxy = proxy_for(self.server, self.access.cluster.text("proxy-url"))
        except ValueError as error:
            raise self.access.cluster.wrong(
                str(error), "an HTTP proxy, or a tunnel (ssh -L) with its address as the server"
            ) from None
        if self.proxy and self.proxy.url.startswith("https:") and not self._is_tls:
            raise self.access.cluster.wrong(
                f"a server with http:// cannot be asked by the proxy {self.proxy}"
            )
        self._lock = threading.Lock()
        self._insecure = self.access.cluster.flag("insecure-skip-tls-verify")
        if self._insecure and self._is_tls:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # else one per request
            _warn_once(f"the certificate of {self.server} is not checked (insecure-skip-tls-verify)")
        self._made_for: Certificate | None = None
        self._tls, self._pool = self._made(None)

    def request(
        self,
        method: str,
        path: str,
        body: str | None,
        kind: str,
        timeout: float,
    ) -> Any:
        """Send a request; returns the unread response. kind: the body's content type.

        Raises BadInput if no credentials are available, urllib3's HTTPError and OSError.
        """
        login = self._credentials.current()
        headers = urllib3.HTTPHeaderDict({"Accept": "application/json", "User-Agent": "jobrelay"})
        if body is not None:
            headers["Content-Type"] = kind
        for name, value in self._identity(login):
            headers.add(name, value.encode().decode("latin-1"))  # http.client restores the bytes
        # bypass ProxyManager.urlopen: it joins headers of one name, and so turns all groups into one
        _, pool = self._means(login)
        return urllib3.PoolManager.urlopen(
            pool,
            method,
            self.server + path,
            redirect=False,  # no API server redirects; send credentials nowhere else
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(connect=limits.CONNECT_SECONDS, read=timeout),
            retries=False,
            preload_content=False,
        )

    def exec_socket(self, path: str, timeout: float) -> WebSocket:
        """The WebSocket of an exec. timeout: seconds to wait for a byte.

        Raises websocket's WebSocketException, and the errors of `request`.
        """
        login = self._credentials.current()
        headers = [f"{name}: {value}" for name, value in self._identity(login)]
        headers.append(f"Sec-WebSocket-Protocol: {_EXEC_PROTOCOL}")
        stream = self._stream(login)
        stream.settimeout(timeout)
        web = WebSocket()
        web.settimeout(timeout)
        url = f"{self.server}{path}".replace("http", "ws", 1)
        web.connect(url, socket=stream, header=headers, redirect_limit=0)  # type: ignore[no-untyped-call]
        return web

    def _identity(self, login: Login) -> list[tuple[str, str]]:
        """The headers that authenticate the user and request impersonation."""
        own = [("Authorization", login.authorization)] if login.authorization else []
        return own + self._credentials.impersonation

    @property
    def _is_tls(self) -> bool:
        return self.server.startswith("https:")

    def _means(self, login: Login) -> tuple[ssl.SSLContext | None, urllib3.PoolManager]:
        """TLS context and pool for this login's certificate, which a plugin may renew."""
        with self._lock:
            if login.certificate != self._made_for:
                self._tls, self._pool = self._made(login.certificate)
                self._made_for = login.certificate
            return self._tls, self._pool

    def _made(self, certificate: Certificate | None) -> tuple[ssl.SSLContext | None, urllib3.PoolManager]:
        cluster = self.access.cluster
        tls = tls_context(cluster, self.access.user, certificate) if self._is_tls else None
        options: dict[str, Any] = {"maxsize": _KEPT, "ssl_context": tls}
        if name := cluster.text("tls-server-name"):
            options["server_hostname"] = name
        if self.proxy is None:
            return tls, urllib3.PoolManager(**options)
        return tls, urllib3.ProxyManager(self.proxy.url, proxy_headers=self.proxy.headers, **options)

    def _stream(self, login: Login) -> socket.socket:
        """A connected socket, with TLS for https, through the same proxy as every request."""
        tls, _ = self._means(login)
        server = urllib3.util.parse_url(self.server)
        proxy = urllib3.util.parse_url(self.proxy.url) if self.proxy else None
        first = proxy or server
        options: dict[str, Any] = {"timeout": limits.CONNECT_SECONDS, "proxy": proxy}
        options["proxy_config"] = ProxyConfig(None, False, None, None) if proxy else None
        assert first.host
        assert server.host
        connection: HTTPConnection
        port = first.port or _PORTS[str(first.scheme)]
        if tls is None:
            connection = HTTPConnection(first.host.strip("[]"), port, **options)
        else:
            name = self.access.cluster.text("tls-server-name") or None
            connection = HTTPSConnection(
                first.host.strip("[]"), port, ssl_context=tls, server_hostname=name, **options
            )
        if self.proxy and proxy:
            connection.set_tunnel(
                server.host, server.port or _PORTS[str(server.scheme)], self.proxy.headers, str(proxy.scheme)
            )
        connection.connect()
        return connection.sock


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        _log.warning("%s", text)
