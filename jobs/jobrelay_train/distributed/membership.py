"""The Pods of one attempt of a stage, connected to index 0: each learns when another is lost."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from jobrelay_runner import exit_codes
from jobrelay_runner.errors import PeerLost

#: How long after a loss the stage may take to end by itself. Not every collective operation notices a loss.
GRACE_SECONDS: Final = 15.0
#: How long to wait for news of a loss after the error of a collective operation.
_NEWS_SECONDS: Final = 5.0
#: A node that vanishes closes no connection: probed after 10 s of silence, lost after 25.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


class Line:
    """A connection that carries one JSON object per line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # macOS has not all of them
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send the message if the other end is still connected."""
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def receive(self, seconds: float | None = None) -> dict[str, Any] | None:
        """Return the next message; None at the end, for an invalid line, and after `seconds`."""
        try:
            message = json.loads(await asyncio.wait_for(self._reader.readline(), seconds))
        except (OSError, ValueError, RecursionError):  # ValueError: too long, or no JSON
            return None
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        self._writer.close()


class Membership:
    """All Pods of one attempt; see jobrelay_train.distributed.rendezvous for its use.

    index: of this Pod. address, port: where index 0 serves the stage's own store. token: 32 hex digits, the
    same on all Pods and unique to this attempt; "" until all have joined. lines: from index 0 to all others,
    from each of them to index 0.

    The rendezvous creates it in the event loop of a thread, where all that is async happens.
    """

    token = ""
    listener: socket.socket | None = None  # on index 0, at `port`
    _lost: int | None = None
    _over = False

    def __init__(self, index: int, address: str, port: int, lines: dict[int, Line]) -> None:
        self.index = index
        self.address = address
        self.port = port
        self._lines = lines
        self._news = threading.Event()
        self._left = asyncio.Event()
        self._loop, self._thread = asyncio.get_running_loop(), threading.current_thread()

    async def hear(self, peer: int, line: Line) -> None:
        """Listen to another Pod until it says goodbye or disconnects."""
        while (message := await line.receive()) is not None:
            if isinstance(index := message.get("lost"), int):
                self._lose(index)
            if "bye" in message:
                return
        if self._lines.get(peer) is line:  # otherwise another Pod has replaced it
            if self.token:
                self._lose(peer)
            else:
                self._lines.pop(peer).close()

    async def stay(self) -> None:
        """Return when this Pod leaves; until then, listen to index 0."""
        if self.index:
            self._hearing = asyncio.create_task(self.hear(0, self._lines[0]))
        await self._left.wait()

    def take_listener(self) -> int | None:
        """Return, on index 0, the descriptor that listens on `port`; the caller owns it from now on."""
        return self.listener.detach() if self.listener else None

    def lost(self, seconds: float = 0) -> int | None:
        """Return the index that was lost first, if any; wait up to `seconds` for the news."""
        self._news.wait(seconds)
        return self._lost

    def close(self) -> None:
        """Leave with a goodbye, so that the others do not count this Pod as lost."""
        self._hang_up(goodbye=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        lost = self.lost(_NEWS_SECONDS) if isinstance(error, RuntimeError | PeerLost) else None
        self._hang_up()  # without a goodbye: the others cannot continue either
        if lost is not None:
            raise PeerLost(f"index {lost} of this stage is lost: {error}") from error

    def _hang_up(self, goodbye: bool = False) -> None:
        self._over = True
        self._loop.call_soon_threadsafe(self._leave, goodbye)
        self._thread.join()
        if self.listener:
            self.listener.close()

    def _leave(self, goodbye: bool) -> None:
        for line in self._lines.values():
            if goodbye:
                line.send({"bye": True})
            line.close()
        self._left.set()

    def _lose(self, index: int) -> None:
        if self._over or self._lost is not None:
            return
        self._lost = index
        for line in self._lines.values():
            line.send({"lost": index})
        self._news.set()
        self._loop.call_later(GRACE_SECONDS, self._end_what_hangs)

    def _end_what_hangs(self) -> None:
        if not self._over:
            print(f"index {self._lost} of this stage is lost, and this one hangs: ended", file=sys.stderr)
            sys.stderr.flush()
            os._exit(exit_codes.PEER_LOST)
