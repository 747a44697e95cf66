"""The state of one Job that runs as processes: kept in a file, and sent to launchers that follow it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jobrelay.executors.local import contact, layout
from jobrelay.kube.objects import Job, Object, Pod
from jobrelay_runner.volume.files import write_atomically

#: A request is one line: a verb, and the annotation with a verdict.
_REQUEST_BYTES: Final = 1024 * 1024


class JobState:
    """The Job and its Pods, with the status that Kubernetes would give.

    A launcher that connects receives the state as a JSON line, and again at every change; a line that it
    sends is a request (see `_serve`). Change the state only in `changing()`, as several Pods may run at
    once. If the volume cannot be written (it is full, or gone), the state stays in memory and is still
    sent.
    """

    def __init__(self, folder: Path, state: Object) -> None:
        self.folder = folder
        self.job: Job = state["job"]
        self.pods: list[Pod] = state["pods"]
        self.ended_early = False  # a stop or delete was requested, or this process must end
        self.deleted = False
        self.shut_down = False  # this process must end, but not the Job
        self._subscribers: list[socket.socket] = []
        self._lock = threading.RLock()
        #: why the last change could not be saved; None if it was
        self.trouble: OSError | None = None
        #: notified when a request has come, or a container has ended
        self.changed = threading.Condition(self._lock)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Save and send all changes of this block together, at its end."""
        with self._lock:
            yield
            self._save()

    def end_early(self) -> None:
        """Start nothing new, and end what runs."""
        with self.changed:
            self.ended_early = True
            self.changed.notify_all()

    def shut_down_early(self) -> None:
        """Act as a node that shuts down: end what runs; another runner may continue."""
        self.shut_down = True
        self.end_early()

    def ends_within(self, seconds: float) -> bool:
        """Wait for `seconds`; returns True early if the end is requested."""
        with self.changed:
            return self.changed.wait_for(lambda: self.ended_early, seconds)

    def has_printed(self, pod: Pod) -> None:
        with self._lock:
            for connection in list(self._subscribers):
                self._send(connection, {"log": pod["metadata"]["name"]})

    def serve(self, listener: socket.socket) -> None:
        """Accept followers until the process ends."""
        while True:
            connection, _ = listener.accept()
            if contact.peer_user(connection) not in (None, os.geteuid(), 0):
                connection.close()
                continue
            with self._lock:
                self._subscribers.append(connection)
                self._send(connection, self._tree())
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Send no more: followers read the end of the stream."""
        with self._lock:
            for connection in self._subscribers:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        """Handle requests: {"verb": "stop", "annotations": {…}} and {"verb": "delete"}."""
        with contextlib.suppress(OSError, ValueError):
            for request in contact.lines_of(connection, _REQUEST_BYTES):
                with self.changed:
                    self.deleted |= request.get("verb") == "delete"
                    annotations = self.job["metadata"].setdefault("annotations", {})
                    annotations.update(request.get("annotations") or {})
                    self.end_early()

    def _tree(self) -> Object:
        return {"job": self.job, "pods": self.pods}

    def _save(self) -> None:
        if self.deleted:
            return
        try:
            write_atomically(self.folder / layout.STATE, json.dumps(self._tree()))
            self.trouble = None
        except OSError as error:
            self._cannot_save(error)
        for connection in list(self._subscribers):
            self._send(connection, self._tree())

    def _cannot_save(self, error: OSError) -> None:
        if not self.trouble:
            with contextlib.suppress(OSError):  # the log is on the same volume
                sys.stderr.write(f"the state of Job {self.folder.name} cannot be kept: {error}\n")
        self.trouble = error
        if isinstance(error, FileNotFoundError):  # the volume or the folder was removed
            self.deleted = True
            self.end_early()

    def _send(self, connection: socket.socket, tree: Object) -> None:
        """Send one line; drop a follower that does not read, which may connect again."""
        try:
            connection.settimeout(1)
            connection.sendall(json.dumps(tree).encode() + b"\n")
            connection.settimeout(None)
        except OSError:
            self._subscribers.remove(connection)
            connection.close()
