"""What is known of one Job that runs as processes: kept in a file, and told to whoever follows it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.contract.files import write_atomically
from launcher.executors.local import layout

Object = dict[str, Any]


class JobState:
    """The Job and its Pods, with the status that Kubernetes would give.

    Whoever connects gets the state as a JSON line, and again at every change; a line sent to it is a
    request (see `_serve`). Everything in it is changed in `changing()` only: several Pods may run at once.
    """

    def __init__(self, folder: Path, state: Object) -> None:
        self.folder = folder
        self.job: Object = state["job"]
        self.pods: list[Object] = state["pods"]
        self.ended_early = False  # stop or delete was asked for
        self.deleted = False
        self._subscribers: list[socket.socket] = []
        self._lock = threading.RLock()
        #: notified when a request has come, or a container has ended
        self.changed = threading.Condition(self._lock)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """What is changed in this block is kept and told at its end, at once."""
        with self._lock:
            yield
            self._save()

    def end_early(self) -> None:
        """Nothing new begins, and what runs is ended."""
        with self.changed:
            self.ended_early = True
            self.changed.notify_all()

    def ends_within(self, seconds: float) -> bool:
        """Wait so long, unless the end is asked for."""
        with self.changed:
            return self.changed.wait_for(lambda: self.ended_early, seconds)

    def has_printed(self, pod: Object) -> None:
        with self._lock:
            for connection in list(self._subscribers):
                self._tell(connection, {"log": pod["metadata"]["name"]})

    def serve(self, listener: socket.socket) -> None:
        """Accept followers until the process ends."""
        while True:
            connection, _ = listener.accept()
            with self._lock:
                self._subscribers.append(connection)
                self._tell(connection, self._tree())
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Say no more: followers read the end of the stream."""
        with self._lock:
            for connection in self._subscribers:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        """Requests: {"verb": "stop", "annotations": {…}} and {"verb": "delete"}."""
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                with self.changed:
                    self.deleted |= request["verb"] == "delete"
                    annotations = self.job["metadata"].setdefault("annotations", {})
                    annotations.update(request.get("annotations") or {})
                    self.end_early()

    def _tree(self) -> Object:
        return {"job": self.job, "pods": self.pods}

    def _save(self) -> None:
        if self.deleted:
            return
        write_atomically(self.folder / layout.STATE, json.dumps(self._tree()))
        for connection in list(self._subscribers):
            self._tell(connection, self._tree())

    def _tell(self, connection: socket.socket, tree: Object) -> None:
        """Send one line; a follower that does not read is let go, it may come again."""
        try:
            connection.settimeout(1)
            connection.sendall(json.dumps(tree).encode() + b"\n")
            connection.settimeout(None)
        except OSError:
            self._subscribers.remove(connection)
            connection.close()
