"""An answer on its way to the client, and the fault that changes it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Final, Literal

from .http1 import Head, encode
from .records import Request
from .rules import STATUSES, Strike

Cut = Literal["stall", "reset", "close"]
#: Faults that end the flow of bytes.
CUTS: Final = ("stall", "reset", "close")

#: What `garble` puts between two events: a line that is no JSON, and an event that ends within itself.
GARBAGE: Final = b'this is no event\n{"type": "MODIFIED", "object": {"kind": "Jo\n'


class Struck(Exception):
    """The fault ends the answer and the connection here, in this way."""

    def __init__(self, cut: Cut) -> None:
        super().__init__(cut)
        self.cut = cut


class Complete(Exception):
    """The answer's body ends here, normally."""


class Answer:
    """Writes one answer, counts it, and strikes where the rule says."""

    def __init__(
        self, writer: asyncio.StreamWriter, request: Request, strike: Strike | None, flows: asyncio.Event
    ) -> None:
        self._flows = flows
        self._writer = writer
        self._request = request
        self._strike = strike
        self._do = strike.rule.do if strike else ""
        self._chunked = False
        self._within_a_line = False
        self._halved: bytes | None = None  # the beginning of an event that is to be halved
        self._began = time.monotonic()

    @property
    def cut_in(self) -> float | None:
        """Seconds until the answer is cut, even if no byte arrives."""
        if self._strike and self._do in CUTS and self._strike.after_seconds is not None:
            return max(self._began + self._strike.after_seconds - time.monotonic(), 0)
        return None

    def cut(self) -> Struck:
        self._has_struck()
        return Struck(self._do)  # type: ignore[arg-type]

    async def begin(self, head: Head, *, has_body: bool, may_chunk: bool) -> None:
        """Status and headers. Raises Struck, Complete."""
        if self._do in CUTS and self._strike and self._strike.after == 0:
            raise self.cut()
        self._request.status = head.status
        headers = head.without("connection", "keep-alive", "transfer-encoding", "trailer", "upgrade")
        changes = self._do in ("gone", "garble")
        self._chunked = has_body and may_chunk and (head.length is None or changes)
        if self._chunked:
            headers = [pair for pair in headers if pair[0].lower() != "content-length"]
            headers.append(("Transfer-Encoding", "chunked"))
        elif has_body and head.length is None:
            headers.append(("Connection", "close"))
        await self._write(encode(head.first.replace("HTTP/1.0", "HTTP/1.1"), headers))
        if changes and has_body and self._is_due(0):
            await self._change()

    async def switch(self, head: Head) -> None:
        """The unchanged answer to an upgrade; the bytes after it are no longer HTTP."""
        if self._do in CUTS and self._strike and self._strike.after == 0:
            raise self.cut()
        self._request.status = head.status
        await self._write(encode(head.first, head.headers))

    async def take(self, piece: bytes) -> None:
        """A piece of the body. Raises Struck, Complete."""
        if self._do == "delay" and self._strike and self._strike.rule.each == "chunk":
            self._has_struck()
            await asyncio.sleep(self._strike.seconds)
        if self._do in CUTS and self._strike and self._request.bytes + len(piece) >= self._strike.after:
            await self._send(piece[: self._strike.after - self._request.bytes])
            raise self.cut()
        if self._halved is not None:
            piece, self._halved = self._halved + piece, None
            await self._halve(piece)
        elif self._do in ("gone", "garble") and self._request.struck is None:
            await self._take_a_line(piece)
        else:
            await self._send(piece)

    async def end(self) -> None:
        if self._halved:
            await self._send(self._halved)
        if self._chunked:
            await self._write(b"0\r\n\r\n")

    async def refuse(self, status: int, retry_after: int | None) -> None:
        """Answer with a Status object that the proxy itself makes."""
        self._has_struck()
        self._request.status = status
        body = json.dumps(status_object(status)).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        if retry_after is not None:
            headers.append(("Retry-After", str(retry_after)))
        await self._write(encode(f"HTTP/1.1 {status} {STATUSES[status][0] or 'Error'}", headers))
        await self._send(body)

    # --- events of a watch ---

    async def _take_a_line(self, piece: bytes) -> None:
        """Pass on a piece; once the fault is due, change what follows the next line end."""
        assert self._strike
        missing = max(self._strike.after - self._request.bytes, 0) if self._strike.after < 2**62 else 0
        if not missing and not self._within_a_line and self._is_due(self._request.bytes):
            at = 0
        else:
            at = piece.find(b"\n", max(missing - 1, 0)) + 1
            if not at or not self._is_due(self._request.bytes + at):
                await self._send(piece)
                return
        await self._send(piece[:at])
        rest = piece[at:]
        if self._strike.rule.do == "garble" and self._strike.rule.how == "halve":
            self._has_struck()
            await self._halve(rest)
        else:
            await self._change()
            await self._send(rest)

    def _is_due(self, sent: int) -> bool:
        assert self._strike
        at = self._strike.after_seconds
        return sent >= self._strike.after or (at is not None and time.monotonic() >= self._began + at)

    async def _change(self) -> None:
        assert self._strike
        if self._do == "gone":
            self._has_struck()
            event = {"type": "ERROR", "object": status_object(410)}
            await self._send(json.dumps(event).encode() + b"\n")
            raise Complete
        if self._strike.rule.how == "insert":
            self._has_struck()
            await self._send(GARBAGE)

    async def _halve(self, piece: bytes) -> None:
        """Pass on only the first half of the next event, as a line."""
        event, newline, rest = piece.partition(b"\n")
        if not newline:
            self._halved = event
            return
        await self._send(event[: len(event) // 2] + b"\n")
        await self._send(rest)

    def _has_struck(self) -> None:
        self._request.struck = self._request.struck or time.monotonic()

    # --- bytes ---

    async def _send(self, piece: bytes) -> None:
        if not piece:
            return
        await self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)
        self._request.bytes += len(piece)
        self._within_a_line = not piece.endswith(b"\n")

    async def _write(self, data: bytes) -> None:
        await self._flows.wait()
        self._writer.write(data)
        await self._writer.drain()


def status_object(code: int) -> dict[str, object]:
    reason, message = STATUSES[code]
    tree: dict[str, object] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**tree, "message": message, "reason": reason, "code": code}
