"""The Pods of one attempt of a stage after all have joined: each learns when another is lost."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
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
_LONGEST_LINE: Final = 65536


class Line:
    """A connection that carries one JSON object per line."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._rest = b""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # macOS has not all of them
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send the message if the other end is still connected."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def arrived(self) -> bool:
        """Read what has arrived on a non-blocking socket; return whether `receive` would return at once."""
        try:
            chunk = self.socket.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            return True
        self._rest += chunk
        return not chunk or b"\n" in self._rest or len(self._rest) > _LONGEST_LINE

    def receive(self, seconds: float | None = None) -> dict[str, Any] | None:
        """Return the next message; None at the end of the connection, and for an invalid line.

        seconds: time limit for the whole line, after which it returns None. None: the socket's own timeout.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            while b"\n" not in self._rest:
                if deadline is not None:
                    self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                chunk = self.socket.recv(4096)
                if not chunk or len(self._rest) > _LONGEST_LINE:
                    return None
                self._rest += chunk
                if deadline is not None and time.monotonic() > deadline:
                    return None
            line, _, self._rest = self._rest.partition(b"\n")
            message = json.loads(line)
        except (OSError, ValueError, RecursionError):
            return None
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
        self.socket.close()


class Membership:
    """All Pods of one attempt; see jobrelay_train.distributed.rendezvous for its use.

    index: of this Pod. address, port: where index 0 serves the stage's own store. token: 32 hex digits, the
    same on all Pods and unique to this attempt.
    """

    def __init__(
        self,
        index: int,
        address: str,
        port: int,
        token: str,
        lines: Mapping[int, Line],
        listener: socket.socket | None = None,
    ) -> None:
        self.index = index
        self.address = address
        self.port = port
        self.token = token
        self._lines = lines  # from index 0 to all others, from each of them to index 0
        self._listener = listener
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._lost: int | None = None
        self._over = False
        for peer, line in lines.items():
            threading.Thread(target=self._hear, args=(peer, line), daemon=True).start()

    def take_listener(self) -> int | None:
        """Return, on index 0, the descriptor that listens on `port`; the caller owns it from now on."""
        return self._listener.detach() if self._listener else None

    def lost(self, seconds: float = 0) -> int | None:
        """Return the index that was lost first, if any; wait up to `seconds` for the news."""
        self._news.wait(seconds)
        return self._lost

    def close(self) -> None:
        """Leave with a goodbye, so that the others do not count this Pod as lost."""
        for line in self._lines.values():
            line.send({"bye": True})
        self._hang_up()

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

    def _hang_up(self) -> None:
        self._over = True
        for line in self._lines.values():
            line.close()
        if self._listener:
            self._listener.close()

    def _hear(self, peer: int, line: Line) -> None:
        while (message := line.receive()) is not None:
            if isinstance(index := message.get("lost"), int):
                self._lose(index)
            if "bye" in message:
                return
        self._lose(peer)

    def _lose(self, index: int) -> None:
        with self._lock:
            if self._over or self._lost is not None:
                return
            self._lost = index
        for line in self._lines.values():
            line.send({"lost": index})
        self._news.set()
        threading.Thread(target=self._end_what_hangs, daemon=True).start()

    def _end_what_hangs(self) -> None:
        time.sleep(GRACE_SECONDS)
        if not self._over:
            print(f"index {self._lost} of this stage is lost, and this one hangs: ended", file=sys.stderr)
            sys.stderr.flush()
            os._exit(exit_codes.PEER_LOST)
