"""The part of HTTP/1.1 that a proxy needs: heads, and bodies streamed in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

PIECE: Final = 65536
#: Headers that are about one connection, not about the message (RFC 9110, 7.6.1).
HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)


class Broken(ConnectionError):
    """The peer sent invalid HTTP/1.1, or closed too early."""


@dataclass
class Head:
    """First line and headers of a request or an answer."""

    first: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str:
        return ", ".join(value for key, value in self.headers if key.lower() == name)

    def without(self, *names: str) -> list[tuple[str, str]]:
        return [(key, value) for key, value in self.headers if key.lower() not in names]

    @property
    def method(self) -> str:
        return self.first.split(" ")[0]

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])

    @property
    def upgrade(self) -> bool:
        return "upgrade" in self.get("connection").lower()

    @property
    def chunked(self) -> bool:
        return "chunked" in self.get("transfer-encoding").lower()

    @property
    def length(self) -> int | None:
        text = self.get("content-length")
        return int(text) if text else None

    @property
    def keeps_alive(self) -> bool:
        said = self.get("connection").lower()
        return "close" not in said and (self.first.endswith("HTTP/1.1") or "keep-alive" in said)


def encode(first: str, headers: list[tuple[str, str]]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read a head; None if the peer closed the connection instead."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise Broken("a head that is cut") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise Broken("a head without end") from error
    first, *lines = raw.decode("latin-1").strip("\r\n").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    head = Head(first, [(name.strip(), value.strip()) for name, _, value in pairs])
    if len(first.split(" ")) < 2:
        raise Broken(f"no HTTP: {first[:60]!r}")
    return head


async def read_body(reader: asyncio.StreamReader, head: Head, *, to_the_end: bool) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as they arrive. Raises Broken if it is cut.

    to_the_end: a body without a length lasts until the connection ends (in answers, not in requests).
    """
    if head.chunked:
        async for piece in _chunked_answer(reader) if to_the_end else _chunked(reader):
            yield piece
    elif head.length is not None:
        left = head.length
        while left:
            piece = await reader.read(min(left, PIECE))
            if not piece:
                raise Broken(f"a body that ends {left} bytes too early")
            left -= len(piece)
            yield piece
    elif to_the_end:
        while piece := await reader.read(PIECE):
            yield piece


async def _chunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    try:
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size == 0:
                while (await reader.readuntil(b"\r\n")) != b"\r\n":
                    pass  # trailers
                return
            while size:
                piece = await reader.read(min(size, PIECE))
                if not piece:
                    raise Broken("a chunk that is cut")
                size -= len(piece)
                yield piece
            await reader.readexactly(2)
    except (asyncio.IncompleteReadError, ValueError) as error:
        raise Broken("a chunked body that is cut") from error


async def _chunked_answer(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Like _chunked, for the last answer of a connection: joins all chunks that have arrived.

    A kubelet sends every line of a log as its own chunk.
    """
    buffer = b""
    missing = 0  # bytes of the chunk at hand, with the line end behind it
    while True:
        came = await reader.read(PIECE)
        if not came:
            raise Broken("a chunked body that is cut")
        buffer += came
        content = []
        at = 0
        ended = False
        while at < len(buffer):
            if missing > 2:
                part = buffer[at : at + missing - 2]
                content.append(part)
                at += len(part)
                missing -= len(part)
            elif missing:
                skipped = min(missing, len(buffer) - at)
                at += skipped
                missing -= skipped
            else:
                line = buffer.find(b"\r\n", at)
                if line < 0:
                    break
                try:
                    size = int(buffer[at:line].split(b";")[0], 16)
                except ValueError as error:
                    raise Broken("a chunk of no size") from error
                at = line + 2
                if size == 0:
                    ended = True
                    break
                missing = size + 2
        buffer = buffer[at:]
        if content:
            yield b"".join(content)
        if ended:
            return
