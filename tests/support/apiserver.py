"""A small HTTP server with scripted answers, in place of an API server."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """One answer. cut: number of body bytes after which the connection ends."""

    status: int = 200
    body: bytes = b"{}"
    headers: Sequence[tuple[str, str]] = ()
    cut: int | None = None


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    #: as they came: a name may be there more than once
    pairs: Sequence[tuple[str, str]] = ()


@dataclass
class Server:
    """The answers, in order, and the received requests. The last answer repeats."""

    answers: list[Answer]
    url: str = ""
    requests: list[Request] = field(default_factory=list)

    def next(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def ok(tree: Any) -> Answer:
    return Answer(body=json.dumps(tree).encode())


def refusal(status: int, reason: str, message: str, **headers: str) -> Answer:
    """A Status, as the API server sends it."""
    tree = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    tree |= {"reason": reason, "message": message, "code": str(status)}
    shown = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Answer(status, json.dumps(tree).encode(), shown)


@contextmanager
def serving(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server on 127.0.0.1. tls: serve https:// with this context."""
    server = Server(list(answers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            pairs = list(self.headers.items())
            found = server.next(Request(self.command, self.path, dict(pairs), body, pairs))
            self.send_response(found.status)
            for name, value in found.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body)))
            if found.cut is not None:
                self.close_connection = True
            self.end_headers()
            self.wfile.write(found.body[: found.cut])

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that has closed is what many tests want

    with Quiet(("127.0.0.1", 0), Handler) as listener:
        if tls:
            # the handshake in the connection's own thread: a client that breaks it off hinders nobody
            listener.socket = tls.wrap_socket(
                listener.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.server_address[1]}"
        yield server
        listener.shutdown()
        thread.join()


def kubeconfig(path: Path, url: str, **changes: Any) -> Path:
    """A kubeconfig with one context, `test`, whose user has a token."""
    tree = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "mine"}}],
    }
    path.write_text(yaml.safe_dump(tree | changes))
    return path
