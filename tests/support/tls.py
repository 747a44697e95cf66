"""Between the launcher and an API server: certificates, and a proxy for CONNECT."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Pki:
    """Files in PEM: an authority; and, signed by it, a server (127.0.0.1, api.test) and a client (ann)."""

    folder: Path

    def file(self, name: str) -> Path:
        """authority.crt, server.crt, server.key, client.crt, client.key"""
        return self.folder / name

    def server(self, *, asks_for_certificate: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file("server.crt"), self.file("server.key"))
        if asks_for_certificate:
            context.load_verify_locations(self.file("authority.crt"))
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_pki(folder: Path) -> Pki:
    """Create the files with openssl. Raises FileNotFoundError if it is not installed."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30")
    openssl(
        "req", "-x509", *new, "-subj", "/CN=authority", "-keyout", "authority.key", "-out", "authority.crt"
    )
    for name, subject, names in (
        ("server", "/CN=server", "subjectAltName=IP:127.0.0.1,DNS:api.test"),
        ("client", "/CN=ann/O=team", "extendedKeyUsage=clientAuth"),
    ):
        openssl("req", *new[:-2], "-new", "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / f"{name}.ext").write_text(names)
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "authority.crt", "-CAkey", "authority.key",
            "-CAcreateserial", "-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.crt",
        )  # fmt: skip
    return Pki(folder)


@dataclass
class AskedProxy:
    """A proxy for CONNECT and for plain requests. asked: the first line of each, with its authorization."""

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    #: where each connection really goes
    to: tuple[str, int] | None = None
    status: str = "200 OK"


@contextmanager
def proxying(to: tuple[str, int] | None = None, status: str = "200 OK") -> Iterator[AskedProxy]:
    """A proxy that connects to what it is asked for, or always `to`; or refuses with `status`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = AskedProxy(f"http://127.0.0.1:{listener.getsockname()[1]}", to=to, status=status)
        threading.Thread(target=_accept, args=(listener, proxy), daemon=True).start()
        yield proxy


def _accept(listener: socket.socket, proxy: AskedProxy) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, proxy), daemon=True).start()


def _serve(client: socket.socket, proxy: AskedProxy) -> None:
    with client:
        head = b""
        while b"\r\n\r\n" not in head and (chunk := client.recv(65536)):
            head += chunk
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        found = [line for line in lines if line.lower().startswith("proxy-authorization:")]
        proxy.asked.append((lines[0], found[0].partition(": ")[2] if found else ""))
        if not proxy.status.startswith("200"):
            client.sendall(f"HTTP/1.1 {proxy.status}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        target = words[1].split("/")[2] if "://" in words[1] else words[1]
        host, _, port = target.rpartition(":")
        try:
            server = socket.create_connection(proxy.to or (host.strip("[]"), int(port)))
        except OSError:
            return
        with server:
            if words[0] == "CONNECT":
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                server.sendall(head)
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
