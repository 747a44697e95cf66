"""The fault-making proxy itself, before a small server that stands for the API server."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from faultproxy import BadRule, FaultProxy, Rule, Upstream, read_rules
from tests.support import REPOSITORY

EVENTS = [json.dumps({"type": "ADDED", "object": {"n": n}}).encode() + b"\n" for n in range(5)]
WATCH = "/api/v1/namespaces/a/pods?watch=true"
LOG = "/api/v1/namespaces/a/pods/p/log?follow=true"
BIG = 20 * 2**20


class Handler(BaseHTTPRequestHandler):
    """A watch with five events, a log that comes in drops, big bodies, an echo, an upgrade."""

    protocol_version = "HTTP/1.1"
    asked: list[str]
    headers_seen: list[dict[str, str]]
    go_on: threading.Event

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.headers_seen.append(dict(self.headers.items()))
        if self.headers.get("Upgrade"):
            self.upgrade()
        elif "watch=true" in self.path:
            self.chunked(EVENTS)
        elif "/log" in self.path:
            self.chunked([b"first drop", b"second drop\n"], pause=True)
        elif self.path == "/big":
            self.whole(b"0123456789abcdef" * (BIG // 16))
        elif self.path == "/big-chunked":
            self.chunked([b"0123456789abcdef" * 65536] * (BIG // 2**20))
        elif self.path == "/to-the-end":
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\nuntil it ends")
        elif self.path == "/nothing":
            self.send_response(204)
            self.end_headers()
        else:
            self.whole(b'{"kind": "PodList"}')

    def do_POST(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        if self.headers.get("Transfer-Encoding"):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.whole(body)

    def whole(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunked(self, pieces: list[bytes], pause: bool = False) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if pause:
                self.go_on.wait(10)
        self.wfile.write(b"0\r\n\r\n")

    def upgrade(self) -> None:
        self.close_connection = True
        self.send_response(101)
        self.send_header("Upgrade", "echo")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        self.wfile.flush()
        while data := self.connection.recv(65536):
            self.wfile.write(data.upper())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the proxy breaks its connections off, on purpose


@pytest.fixture
def handler() -> type[Handler]:
    state = {"asked": [], "headers_seen": [], "go_on": threading.Event()}
    return type("Fresh", (Handler,), state)


@pytest.fixture
def proxied(handler: type[Handler]) -> Iterator[Callable[..., FaultProxy]]:
    with ExitStack() as stack:
        server = stack.enter_context(Server(("127.0.0.1", 0), handler))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        stack.callback(handler.go_on.set)
        upstream = Upstream(
            f"http://127.0.0.1:{server.server_address[1]}", headers=lambda: {"Authorization": "Bearer real"}
        )
        yield lambda *rules: stack.enter_context(FaultProxy(upstream=upstream, rules=rules))


class Client:
    """One connection."""

    def __init__(self, proxy: FaultProxy, timeout: float = 5) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def open(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
        self.connection.request(method, path, body, headers, encode_chunked=body is not None and not
                                isinstance(body, bytes))  # fmt: skip
        return self.connection.getresponse()

    def get(self, path: str) -> bytes:
        content: bytes = self.open(path).read()
        return content


def get(proxy: FaultProxy, path: str) -> bytes:
    with Client(proxy) as client:
        return client.get(path)


def read_until_cut(response: Any) -> tuple[bytes, BaseException]:
    """What came before the end that is none."""
    came = b""
    while True:
        try:
            piece = response.read1(100)
            if not piece:
                raise AssertionError(f"a good end after {came!r}")
            came += piece
        except (OSError, http.client.HTTPException) as error:
            return came, error


# --- no fault: nothing is changed ---


def test_what_no_rule_meets_goes_through(proxied: Callable[..., FaultProxy], handler: type[Handler]) -> None:
    proxy = proxied()
    with Client(proxy) as client:  # one connection for all of them
        assert client.get("/api/v1/pods?labelSelector=a%3Db") == b'{"kind": "PodList"}'
        assert client.get(WATCH) == b"".join(EVENTS)
        assert client.get("/nothing") == b""
        assert client.open("/x", "POST", b"a body").read() == b"a body"
        assert client.open("/x", "POST", iter([b"in ", b"chunks"])).read() == b"in chunks"
        assert client.get("/to-the-end") == b"until it ends"
    assert handler.asked[0] == "GET /api/v1/pods?labelSelector=a%3Db"
    assert handler.headers_seen[0]["Authorization"] == "Bearer real"
    first, second, *_ = proxy.requests
    assert (first.method, first.path, first.query) == ("GET", "/api/v1/pods", {"labelSelector": "a=b"})
    assert (first.kind, second.kind) == ("plain", "watch")
    assert (second.status, second.bytes, second.fault) == (200, sum(map(len, EVENTS)), "")


@pytest.mark.parametrize("path", ["/big", "/big-chunked"])
def test_big_bodies(proxied: Callable[..., FaultProxy], path: str) -> None:
    proxy = proxied()
    assert get(proxy, path) == b"0123456789abcdef" * (BIG // 16)
    with Client(proxy) as client:
        body = bytes(range(256)) * 20000
        assert client.open("/x", "POST", body).read() == body


def test_drops_flow_at_once(proxied: Callable[..., FaultProxy], handler: type[Handler]) -> None:
    with Client(proxied()) as client:
        response = client.open(LOG)
        assert response.read1(100) == b"first drop"  # and the server has not sent the second
        handler.go_on.set()
        assert response.read() == b"second drop\n"


def test_a_client_that_goes_is_noticed(proxied: Callable[..., FaultProxy]) -> None:
    proxy = proxied()
    with Client(proxy) as client:
        client.open(LOG).read1(100)
    deadline = time.monotonic() + 5
    while proxy.requests[0].ended is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def upgraded(proxy: FaultProxy) -> socket.socket:
    parts = urlsplit(proxy.url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=5)
    connection.sendall(
        b"GET /api/v1/namespaces/a/pods/p/exec HTTP/1.1\r\nHost: x\r\n"
        b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\nearly "
    )
    came = b""
    while b"\r\n\r\n" not in came:
        came += connection.recv(1)
    assert b" 101 " in came
    return connection


def exactly(connection: socket.socket, count: int) -> bytes:
    came = b""
    while len(came) < count and (piece := connection.recv(count - len(came))):
        came += piece
    return came


def test_an_upgrade_is_passed_through(proxied: Callable[..., FaultProxy]) -> None:
    proxy = proxied()
    with upgraded(proxy) as connection:
        assert exactly(connection, 6) == b"EARLY "
        for _ in range(3):
            connection.sendall(b"\0\xff bytes")
            assert exactly(connection, 8) == b"\0\xff BYTES"
    assert proxy.requests[0].kind == "exec"


def test_many_connections(proxied: Callable[..., FaultProxy]) -> None:
    proxy = proxied()
    with ThreadPoolExecutor(50) as threads:
        bodies = list(threads.map(lambda n: get(proxy, WATCH), range(200)))
    assert bodies == [b"".join(EVENTS)] * 200


# --- faults ---

#: A byte within the second event.
WITHIN = len(EVENTS[0]) + 7
BEFORE = b"".join(EVENTS)[:WITHIN]


def test_reset(proxied: Callable[..., FaultProxy]) -> None:
    proxy = proxied(Rule("reset", on="watch", after=WITHIN))
    with Client(proxy) as client:
        came, error = read_until_cut(client.open(WATCH))
    assert came == BEFORE
    assert isinstance(error, ConnectionResetError)
    (request,) = proxy.struck("reset")
    assert (request.bytes, request.fault) == (WITHIN, "reset")


def test_close(proxied: Callable[..., FaultProxy]) -> None:
    with Client(proxied(Rule("close", on="watch", after=WITHIN))) as client:
        came, error = read_until_cut(client.open(WATCH))
    assert came == BEFORE
    assert isinstance(error, http.client.IncompleteRead)


def test_stall(proxied: Callable[..., FaultProxy]) -> None:
    with Client(proxied(Rule("stall", on="watch", after=WITHIN)), timeout=0.2) as client:
        came, error = read_until_cut(client.open(WATCH))
    assert came == BEFORE
    assert isinstance(error, TimeoutError)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("stall", TimeoutError),
        ("reset", ConnectionResetError),
        ("close", http.client.RemoteDisconnected),
        ("lose-reply", ConnectionResetError),
    ],
)
def test_before_the_head(
    proxied: Callable[..., FaultProxy], handler: type[Handler], fault: Any, error: type[Exception]
) -> None:
    with Client(proxied(Rule(fault, method="POST")), timeout=0.2) as client, pytest.raises(error):
        client.open("/x", "POST", b"a body")
    assert handler.asked == ["POST /x"]  # the server has heard it


def test_lose_request(proxied: Callable[..., FaultProxy], handler: type[Handler]) -> None:
    with Client(proxied(Rule("lose-request"))) as client, pytest.raises(ConnectionResetError):
        client.open("/x", "POST", b"a body")
    assert handler.asked == []


@pytest.mark.parametrize("fault", ["reset", "close", "stall"])
def test_a_body_that_ends_before_is_left_alone(proxied: Callable[..., FaultProxy], fault: Any) -> None:
    proxy = proxied(Rule(fault, after=10**6))
    assert get(proxy, WATCH) == b"".join(EVENTS)
    assert proxy.struck() == []
    assert proxy.requests[0].fault == fault


def test_at_a_time_though_nothing_comes(proxied: Callable[..., FaultProxy]) -> None:
    with Client(proxied(Rule("reset", after_seconds=0.1))) as client:
        came, error = read_until_cut(client.open(LOG))
    assert came == b"first drop"
    assert isinstance(error, ConnectionResetError)


def test_a_cut_in_an_upgraded_connection(proxied: Callable[..., FaultProxy]) -> None:
    with upgraded(proxied(Rule("reset", on="exec", after=9))) as connection:
        connection.sendall(b"more than that")
        with pytest.raises(ConnectionResetError):
            exactly(connection, 1000)


@pytest.mark.parametrize("status", [401, 403, 410, 429, 500, 503])
def test_status(proxied: Callable[..., FaultProxy], handler: type[Handler], status: int) -> None:
    with Client(proxied(Rule("status", status=status, retry_after=7, times=1))) as client:
        response = client.open("/x", "POST", b"a body")
        answer = json.loads(response.read())
        assert (response.status, response.headers["Retry-After"]) == (status, "7")
        assert (answer["kind"], answer["code"], answer["status"]) == ("Status", status, "Failure")
        assert handler.asked == []
        assert client.open("/x", "POST", b"again").read() == b"again"  # on the same connection


@pytest.mark.parametrize(("after", "events"), [(0, 0), (1, 1), (WITHIN, 2), (WITHIN - 7, 1)])
def test_gone(proxied: Callable[..., FaultProxy], after: int, events: int) -> None:
    *before, last = get(proxied(Rule("gone", on="watch", after=after)), WATCH).splitlines(keepends=True)
    assert before == EVENTS[:events]
    event = json.loads(last)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_garble_inserts_what_is_no_event(proxied: Callable[..., FaultProxy]) -> None:
    lines = get(proxied(Rule("garble", on="watch", after=WITHIN)), WATCH).splitlines(keepends=True)
    assert lines[:2] + lines[4:] == EVENTS
    for line in lines[2:4]:
        with pytest.raises(ValueError, match="line 1 column"):
            json.loads(line)


@pytest.mark.parametrize("after", [0, 1])
def test_garble_halves_an_event(proxied: Callable[..., FaultProxy], after: int) -> None:
    lines = get(proxied(Rule("garble", on="watch", how="halve", after=after)), WATCH).splitlines(
        keepends=True
    )
    victim = EVENTS[after]
    assert lines[after] == victim[: (len(victim) - 1) // 2] + b"\n"
    assert lines[:after] + lines[after + 1 :] == EVENTS[:after] + EVENTS[after + 1 :]


@pytest.mark.parametrize("each", ["request", "chunk"])
def test_delay(proxied: Callable[..., FaultProxy], each: Any) -> None:
    begun = time.monotonic()
    assert get(proxied(Rule("delay", seconds=0.1, each=each)), WATCH) == b"".join(EVENTS)
    assert time.monotonic() - begun >= 0.1


def test_an_outage(proxied: Callable[..., FaultProxy]) -> None:
    proxy = proxied()
    with Client(proxy) as followed:
        response = followed.open(LOG)
        response.read1(100)
        begun = time.monotonic()
        proxy.outage(0.3)
        with pytest.raises(ConnectionResetError):  # what was there is cut
            response.read1(100)
        with pytest.raises(ConnectionRefusedError):  # and nothing new is let in
            get(proxy, "/x")
    while True:
        try:
            assert get(proxy, "/x")
            break
        except ConnectionRefusedError:
            assert time.monotonic() - begun < 5
            time.sleep(0.01)
    assert time.monotonic() - begun >= 0.3


def test_freeze_and_thaw(proxied: Callable[..., FaultProxy], handler: type[Handler]) -> None:
    proxy = proxied()
    with Client(proxy) as followed, Client(proxy) as other, ThreadPoolExecutor(2) as threads:
        response = followed.open(LOG)
        response.read1(100)
        proxy.freeze()
        handler.go_on.set()
        log, plain = threads.submit(response.read), threads.submit(other.get, "/x")
        time.sleep(0.2)
        assert not log.done()
        assert not plain.done()
        assert len(handler.asked) == 1
        proxy.thaw()
        assert log.result(5) == b"second drop\n"
        assert plain.result(5)


def test_an_outage_that_is_made_longer(proxied: Callable[..., FaultProxy]) -> None:
    proxy = proxied()
    proxy.outage(0.1)
    proxy.outage(0.4)
    time.sleep(0.2)
    with pytest.raises(ConnectionRefusedError):
        get(proxy, "/x")
    time.sleep(0.4)
    assert get(proxy, "/x")


def test_a_request_that_begins_an_outage(proxied: Callable[..., FaultProxy], handler: type[Handler]) -> None:
    proxy = proxied(Rule("refuse", path="/x", seconds=0.2, times=1))
    assert get(proxy, "/y")
    with pytest.raises(ConnectionResetError):
        get(proxy, "/x")
    with pytest.raises(ConnectionRefusedError):
        get(proxy, "/y")
    time.sleep(0.4)
    assert get(proxy, "/x")
    assert handler.asked == ["GET /y", "GET /x"]


def test_it_ends_with_connections_open(proxied: Callable[..., FaultProxy]) -> None:
    with Client(proxied()) as client, Client(proxied(Rule("stall"))) as stalled:
        client.open(LOG).read1(100)
        stalled.connection.request("GET", "/x")
        time.sleep(0.05)


# --- which requests ---


def refused(proxy: FaultProxy, count: int) -> str:
    """Of so many requests, which were struck: x, and which were not: dots."""
    with Client(proxy) as client:
        return "".join("x" if b"Status" in client.get("/x") else "." for _ in range(count))


@pytest.mark.parametrize(
    ("rules", "met"),
    [
        ([Rule("status")], "xxxxxx"),
        ([Rule("status", times=2)], "xx...."),
        ([Rule("status", first=3)], "..xxxx"),
        ([Rule("status", first=2, last=4)], ".xxx.."),
        ([Rule("status", first=2, times=1)], ".x...."),
        ([Rule("status", method="POST")], "......"),
        ([Rule("status", on="watch")], "......"),
        ([Rule("status", path="/[xy]*")], "xxxxxx"),
        ([Rule("status", query={"a": "*"})], "xxxxxx"),
        ([Rule("status", query={"a": "?*"})], "......"),
        ([Rule("status", probability=0)], "......"),
        ([Rule("delay", seconds=0, times=2), Rule("status", times=1)], "..x..."),  # the first that strikes
    ],
    ids=["all", "times", "first", "first-last", "first-times", "method", "on", "path", "query", "no-query",
         "never", "two-rules"],
)  # fmt: skip
def test_which_requests(proxied: Callable[..., FaultProxy], rules: list[Rule], met: str) -> None:
    assert refused(proxied(*rules), 6) == met


def test_chance_is_the_same_for_the_same_seed(proxied: Callable[..., FaultProxy]) -> None:
    once, again, other = (
        refused(proxied(Rule("status", probability=0.5, seed=seed)), 40) for seed in (1, 1, 2)
    )
    assert once == again != other
    assert 8 < once.count("x") < 32


def test_rules_come_and_go_while_it_runs(proxied: Callable[..., FaultProxy]) -> None:
    proxy = proxied(Rule("status", times=1))
    assert refused(proxy, 2) == "x."
    proxy.add(Rule("status"))
    proxy.add(Rule("delay", seconds=0, times=1), before=True)
    assert refused(proxy, 3) == ".xx"
    proxy.clear()
    assert refused(proxy, 2) == ".."


def test_rules_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("""
rules:
- {on: log, do: reset, after: [1000, 90000], times: 500, seed: 7}
- {do: status, status: 429, retry-after: 2, path: "*/jobs", method: POST}
""")
    first, second = read_rules(path)
    assert first == Rule("reset", on="log", after=[1000, 90000], times=500, seed=7)  # type: ignore[arg-type]
    assert second == Rule("status", status=429, retry_after=2, path="*/jobs", method="POST")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("do: stall", "no list of rules"),
        ("- on: log", "rule 1: .* has no `do`"),
        ("- {do: break}", "'break' is none of stall, reset"),
        ("- {do: stall, on: logs}", "'logs' is none of any, watch"),
        ("- {do: stall, until: 5}", "no such field: until"),
        ("- {do: stall, after: [5, 1]}", "no range of two"),
        ("- {do: stall, after: some}", "no range of two"),
        ("- {do: status, status: 418}", "418 is none of"),
        ("- {do: stall, probability: 50}", "not from 0 to 1"),
    ],
)
def test_rules_that_cannot_be_meant(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(BadRule, match=said):
        read_rules(tmp_path / "rules.yaml")


def test_the_command(tmp_path: Path, proxied: Callable[..., FaultProxy]) -> None:
    real = proxied().write_kubeconfig(tmp_path / "real")  # any http server will do as the real one
    (tmp_path / "rules.yaml").write_text("- {do: status, status: 503, path: /x}")
    command = [sys.executable, "-m", "faultproxy", "--rules", str(tmp_path / "rules.yaml")]
    command += ["--kubeconfig", str(tmp_path / "out")]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={"KUBECONFIG": str(real)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        written = yaml.safe_load((tmp_path / "out").read_text())
        assert written["clusters"][0]["cluster"]["server"] == url
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
        connection.request("GET", "/x")
        assert connection.getresponse().status == 503
        connection.close()
        process.send_signal(2)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "503" in err
    assert "GET /x" in err
