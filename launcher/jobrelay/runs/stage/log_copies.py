"""Copy the log of every Pod of a stage: one thread and one file per Pod, counted and hashed."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jobrelay.errors import JobRelayError
from jobrelay.executors.base import JobReader
from jobrelay.kube.ends import closing_of
from jobrelay.kube.objects import Pod
from jobrelay.kube.read import container_state, index_of
from jobrelay.runs.timeline import now
from jobrelay.verdicts import JobView
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.record import LogDigest

_TAIL_BYTES: Final = 4096
#: Seconds without a byte after which the launcher reports that it waits for a log.
_SILENCE_SECONDS: Final = 10.0


class LogCopy:
    """The local copy of one container's log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self.bytes = 0
        self.error = ""
        #: when its first bytes arrived
        self.since: str | None = None
        self._hasher = hashlib.sha256()
        self._last = b"\n"

    def take(self, chunk: bytes) -> None:
        """Count and hash a chunk, even if it cannot be stored."""
        self.since = self.since or now()
        self.lines += chunk.count(b"\n")
        self.bytes += len(chunk)
        self._hasher.update(chunk)
        self._last = chunk[-1:]

    def tail(self) -> str:
        """The last 4 KiB of the file."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
                return file.read(_TAIL_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""

    @property
    def ends_within_a_line(self) -> bool:
        return self._last != b"\n"

    def equals(self, digest: LogDigest) -> bool:
        """Whether the copy matches, byte for byte, what the stage itself counted and hashed."""
        return (self.bytes, self._hasher.hexdigest()) == (digest.bytes, digest.sha256)


class LogCollector:
    """The logs of one stage. Call `notice` whenever the state of the Job changes."""

    def __init__(
        self,
        executor: JobReader,
        stage: Stage,
        container: str,
        folder: Path,
        show_as: Callable[[str], Callable[[bytes], None]],
    ) -> None:
        """show_as: returns the sink that shows a Pod's output, given a name for the Pod."""
        self._executor = executor
        self._stage = stage
        self._container = container
        self._folder = folder
        self._show_as = show_as
        self._threads: list[threading.Thread] = []
        self.copies: dict[str, LogCopy] = {}

    def notice(self, view: JobView) -> None:
        """Start reading the log of every Pod whose container has started."""
        for pod in view.pods:
            name = pod["metadata"]["name"]
            state = container_state(pod, self._container)
            if name in self.copies or not (state.keys() & {"running", "terminated"}):
                continue
            if (state.get("terminated") or {}).get("reason") in ("StartError", "ContainerCannotRun"):
                continue  # it never ran, so there is no log
            copy = self.copies[name] = LogCopy(self._folder / f"{self._stage}-{name}.log")
            thread = threading.Thread(target=self._read, args=(pod, copy), daemon=True)
            thread.start()
            self._threads.append(thread)

    def finish(self, seconds: float, say: Callable[[str], None] = lambda text: None) -> None:
        """Wait until all logs are read to their ends, or no byte has arrived for `seconds`."""
        since, read = time.monotonic(), -1
        reported = False
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() - since < seconds:
                thread.join(min(seconds, 1.0))
                if thread.is_alive() and not reported and time.monotonic() - since > _SILENCE_SECONDS:
                    reported = True
                    say(f"  {self._stage}: waiting for the end of its log, up to {seconds:.0f} s")
                now = sum(copy.bytes for copy in self.copies.values())
                if now != read:
                    since, read = time.monotonic(), now
        for thread, copy in zip(self._threads, self.copies.values(), strict=True):
            if thread.is_alive():
                copy.error = copy.error or "it was not read to its end"

    def is_complete(self, pod: Pod | None, succeeded: bool) -> bool | None:
        """Whether a Pod's log was read completely; None if the Pod did not report its digest.

        pod: None if it is gone.
        """
        copy = self.copies.get(pod["metadata"]["name"]) if pod else None
        if succeeded and (copy is None or copy.error):
            return False  # its log exists, and was not read completely
        closing = closing_of(pod) if pod else None
        return copy.equals(closing.log) and not copy.error if closing and copy else None

    def _read(self, pod: Pod, copy: LogCopy) -> None:
        index = index_of(pod)
        show = self._show_as(self._stage if index is None else f"{self._stage}.{index}")
        try:
            copy.path.parent.mkdir(parents=True, exist_ok=True)
            with copy.path.open("wb") as file:

                def sink(chunk: bytes) -> None:
                    copy.take(chunk)
                    show(chunk)
                    if not copy.error:
                        try:
                            file.write(chunk)
                            file.flush()
                        except OSError as error:  # disk full, for example; keep showing the log
                            copy.error = str(error)

                self._executor.read_log(pod, self._container, sink)
            if copy.ends_within_a_line:
                show(b"\n")
        except (LookupError, JobRelayError, OSError) as error:
            copy.error = str(error)
