"""The proxy: plain HTTP/1.1 on 127.0.0.1 for the client, the real API server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .answer import Answer, Complete, Struck
from .http1 import HOP, PIECE, Broken, Head, encode, read_body, read_head
from .records import Request
from .rules import Rule, Rulebook, Strike
from .upstream import LIMIT, Upstream

_BACKLOG = 1024


class FaultProxy:
    """A proxy that runs in its own thread within `with`. Every method may be called from any thread.

    context: of the kubeconfig, None for the current one; or upstream: a server to use instead. on_end: called
    with every finished request.
    """

    def __init__(
        self,
        context: str | None = None,
        rules: Sequence[Rule] = (),
        *,
        upstream: Upstream | None = None,
        port: int = 0,
        on_end: Callable[[Request], None] = lambda request: None,
    ) -> None:
        self.upstream = upstream or Upstream.of_context(context)
        self.requests: list[Request] = []
        self._rulebook = Rulebook(rules)
        self._port = port
        self._on_end = on_end
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._begun = threading.Event()
        self._failure: BaseException | None = None
        self._stop = asyncio.Event()
        self._flows = asyncio.Event()
        self._flows.set()
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._up_at = 0.0  # time.monotonic() of the end of an outage
        self._outage: asyncio.Task[None] | None = None

    # --- what tests use ---

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def write_kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig whose only context, named like the real one, leads to this proxy."""
        return self.upstream.write_kubeconfig(path, self.url)

    def add(self, rule: Rule, *, before: bool = False) -> None:
        """Add a rule for requests from now on, after all others or before them."""
        self._rulebook.add(rule, before=before)

    def clear(self) -> None:
        """Remove all rules."""
        self._rulebook.clear()

    def struck(self, fault: str = "") -> list[Request]:
        """The requests that a fault, or this fault, has struck."""
        return [r for r in self.requests if r.struck is not None and fault in ("", r.fault)]

    def outage(self, seconds: float) -> None:
        """Reset every connection and refuse new ones for `seconds`. Returns once the proxy is down."""
        asyncio.run_coroutine_threadsafe(self._go_down(seconds), self._loop).result()

    def freeze(self) -> None:
        """Stop the flow on all connections, old and new, without closing them, until `thaw`."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def thaw(self) -> None:
        self._loop.call_soon_threadsafe(self._flows.set)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._begun.wait()
        if self._failure:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    # --- up and down ---

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:
            self._failure = error
        finally:
            self._begun.set()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _main(self) -> None:
        await self._listen(_bound(self._port))
        self._begun.set()
        await self._stop.wait()
        if self._outage:
            self._outage.cancel()
        if self._server:
            self._server.close()
        tasks = list(self._connections)
        for task, writer in self._connections.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close in the next turn

    async def _listen(self, listener: socket.socket) -> None:
        self._port = listener.getsockname()[1]
        self._server = await asyncio.start_server(
            self._connected, sock=listener, limit=LIMIT, backlog=_BACKLOG
        )

    async def _go_down(self, seconds: float) -> None:
        self._up_at = max(self._up_at, time.monotonic() + seconds)
        if self._outage:
            return  # is down, and now for longer
        if self._server:
            self._server.close()
        # bound but not listening: the port stays ours, and who comes is refused
        reserved = _bound(self._port)
        for task, writer in self._connections.items():
            if task is not asyncio.current_task():
                _reset(writer)
                task.cancel()
        self._outage = self._loop.create_task(self._come_up(reserved))

    async def _come_up(self, reserved: socket.socket) -> None:
        try:
            while (left := self._up_at - time.monotonic()) > 0:
                await asyncio.sleep(left)
        except asyncio.CancelledError:
            reserved.close()
            raise
        self._outage = None
        await self._listen(reserved)

    # --- one connection ---

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections[task] = writer
        # drain() is to mean that the kernel has it, so that a cut comes where it is wanted
        writer.transport.set_write_buffer_limits(high=0)
        _without_delay(writer)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # an outage, or the end
        except (OSError, EOFError):
            _reset(writer)  # what the server did to us, or could not do: the client sees it cut
        finally:
            del self._connections[task]
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await read_head(reader):
                if not await self._exchange(head, reader, writer):
                    break
        except Struck as struck:
            if struck.cut == "reset":
                _reset(writer)
            elif struck.cut == "stall":
                await _until_closed(reader)

    async def _exchange(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handle one request and its answer; return whether another may follow on this connection."""
        request = Request.parse(head.method, head.target, upgrade=head.upgrade)
        self.requests.append(request)
        strike = self._rulebook.choose(request)
        request.fault = strike.rule.do if strike else ""
        answer = Answer(writer, request, strike, self._flows)
        try:
            await self._flows.wait()
            if strike:
                await self._before(strike, request)
            if strike and request.fault == "status":
                async for _ in read_body(reader, head, to_the_end=False):
                    pass
                await answer.refuse(strike.rule.status, strike.rule.retry_after)
                return head.keeps_alive
            return await self._forward(head, request, reader, writer, answer)
        finally:
            request.ended = time.monotonic()
            self._on_end(request)

    async def _before(self, strike: Strike, request: Request) -> None:
        """Apply faults that precede sending the request to the server."""
        if request.fault == "delay" and strike.rule.each == "request":
            request.struck = time.monotonic()
            await asyncio.sleep(strike.seconds)
        elif request.fault == "lose-request":
            request.struck = time.monotonic()
            raise Struck("reset")
        elif request.fault == "refuse":
            request.struck = time.monotonic()
            await self._go_down(strike.seconds)
            raise Struck("reset")

    async def _forward(
        self,
        head: Head,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Answer,
    ) -> bool:
        server_reader, server_writer = await self.upstream.connect()
        try:
            server_writer.write(encode(*self._request_head(head)))
            if "100-continue" in head.get("expect").lower():
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            async for piece in read_body(reader, head, to_the_end=False):
                server_writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if head.chunked else piece)
                await server_writer.drain()
            if head.chunked:
                server_writer.write(b"0\r\n\r\n")
            await server_writer.drain()
            came = await _first_of(read_answer_head(server_reader), _until_closed(reader, pipelined=True))
            if not isinstance(came, Head):
                return False
            if request.fault == "lose-reply":
                if request.kind == "plain":
                    async for _ in read_body(server_reader, came, to_the_end=True):
                        pass
                request.struck = time.monotonic()
                raise Struck("reset")
            if came.status == 101:
                await answer.switch(came)
                await _tunnel(answer, reader, writer, server_reader, server_writer)
                return False
            await _relay(answer, came, head, reader, server_reader)
            return head.keeps_alive and (came.length is not None or head.first.endswith("HTTP/1.1"))
        finally:
            server_writer.transport.abort()

    def _request_head(self, head: Head) -> tuple[str, list[tuple[str, str]]]:
        own = self.upstream.headers()
        dropped = {*HOP, "host", "expect", *(name.lower() for name in own)}
        if not head.upgrade:
            dropped.add("accept-encoding")  # what is compressed cannot be cut at a line
        headers = [("Host", self.upstream.host), *head.without(*dropped), *own.items()]
        if head.upgrade:
            headers += [("Connection", "Upgrade"), ("Upgrade", head.get("upgrade"))]
        else:
            headers.append(("Connection", "close"))
        if head.chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        return f"{head.method} {self.upstream.prefix}{head.target} HTTP/1.1", headers


async def read_answer_head(reader: asyncio.StreamReader) -> Head:
    """Read the final head; 100 Continue and other interim answers are skipped."""
    while head := await read_head(reader):
        if head.status >= 200 or head.status == 101:
            return head
    raise Broken("the server has closed in place of an answer")


async def _relay(
    answer: Answer, came: Head, head: Head, reader: asyncio.StreamReader, server: asyncio.StreamReader
) -> None:
    """Pass on the answer as it arrives, until it ends or the client closes. Raises Struck."""
    has_body = head.method != "HEAD" and came.status not in (204, 304)

    async def all_of_it() -> None:
        with contextlib.suppress(Complete):
            await answer.begin(came, has_body=has_body, may_chunk=head.first.endswith("HTTP/1.1"))
            if has_body:
                async for piece in read_body(server, came, to_the_end=True):
                    await answer.take(piece)
        await answer.end()

    async def closed() -> None:
        await _until_closed(reader, pipelined=True)
        raise Broken("the client has closed")

    await _first_of(all_of_it(), closed(), _cut(answer))


async def _tunnel(
    answer: Answer,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    server_reader: asyncio.StreamReader,
    server_writer: asyncio.StreamWriter,
) -> None:
    """Pass bytes in both directions until one side closes; faults apply to those for the client."""

    async def down() -> None:
        while piece := await server_reader.read(PIECE):
            await answer.take(piece)

    async def up() -> None:
        while piece := await reader.read(PIECE):
            server_writer.write(piece)
            await server_writer.drain()

    await _first_of(down(), up(), _cut(answer))


async def _cut(answer: Answer) -> None:
    """Raise Struck when the cut is due; without one, never return."""
    await asyncio.sleep(answer.cut_in if answer.cut_in is not None else 10**8)
    raise answer.cut()


async def _first_of(*coroutines: Any) -> Any:
    """Return or raise what the first finished coroutine does; cancel the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_closed(reader: asyncio.StreamReader, *, pipelined: bool = False) -> None:
    """Return when the client has closed; drop what it sends until then.

    pipelined: the client may send its next request, which is kept; this then never returns.
    """
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE):
            if pipelined:
                reader.feed_data(data)
                await asyncio.sleep(10**8)


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    listener.bind(("127.0.0.1", port))
    return listener


def _without_delay(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End with RST, not FIN."""
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
