"""Run a command in a container, over the WebSocket of exec (v4.channel.k8s.io)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

from websocket import ABNF, WebSocketException, WebSocketTimeoutException

from jobrelay.errors import ApiLost, JobRelayError
from jobrelay.hints import SameAgain
from jobrelay.kube.objects import Object

#: A frame's first byte names its stream.
_STDIN, _STDOUT, _STDERR, _STATUS = range(4)


class Execution:
    """A command in a container: its stdout as chunks, then its exit code."""

    def __init__(self, socket: Any, stdin: Iterator[bytes] | None) -> None:
        self._socket = socket
        self._status: Object | None = None
        self.stderr = b""
        if stdin is not None:
            threading.Thread(target=self._feed, args=(stdin,), daemon=True).start()

    def stdout(self) -> Iterator[bytes]:
        """Chunks of stdout as they arrive, until the command has ended. Raises ApiLost."""
        try:
            while self._status is None:
                opcode, frame = self._receive()
                if opcode == ABNF.OPCODE_CLOSE:
                    break
                if opcode not in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) or not frame.data:
                    continue
                channel, data = frame.data[0], bytes(frame.data[1:])
                if channel == _STDOUT and data:
                    yield data
                elif channel == _STDERR:
                    self.stderr = (self.stderr + data)[-65536:]
                elif channel == _STATUS:
                    self._status = json.loads(data)
        except (WebSocketException, OSError) as error:
            raise ApiLost(
                f"the connection to the volume was cut: {error}; run the same command again", SameAgain()
            ) from error
        finally:
            self._socket.close(timeout=1)

    def _receive(self) -> tuple[int, Any]:
        """The next frame. A command may be silent for long, but a live connection answers a ping."""
        try:
            return self._socket.recv_data_frame(True)  # type: ignore[no-any-return]
        except WebSocketTimeoutException:
            self._socket.ping()
            return self._socket.recv_data_frame(True)  # type: ignore[no-any-return]

    def finish(self) -> int:
        """The exit code of the command; read all of stdout first."""
        for _ in self.stdout():
            pass
        if self._status is None:
            raise ApiLost(
                "the connection to the volume ended without a status; run the same command again", SameAgain()
            )
        if self._status.get("status") == "Success":
            return 0
        causes = (self._status.get("details") or {}).get("causes") or ()
        for cause in causes:
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
        raise JobRelayError(
            f"the command could not be run in the Pod that reads the volume: {self._status.get('message')}"
        )

    def _feed(self, stdin: Iterator[bytes]) -> None:
        try:
            for chunk in stdin:
                self._socket.send_binary(bytes([_STDIN]) + chunk)
        except (WebSocketException, OSError):
            self._socket.abort()  # the reader of stdout stops waiting and reports the cause
