"""Read a container's log completely, byte for byte, even if connections fail.

A stream that was cut is requested again; a final read without follow completes the log.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import urllib3

from jobrelay.executors.base import Sink
from jobrelay.executors.cluster import limits
from jobrelay.executors.cluster.api import STREAM_ENDED, Api, ApiError
from jobrelay.executors.cluster.logs.assembler import LogAssembler

#: Bytes of a log to process at a time, if that many are available.
_PIECE: Final = 262144
#: Lines of the final read: more than a stream that ended normally has ever lacked.
_LAST_LINES: Final = 1000
#: Seconds that a line may wait for the next ones: in total, and for each.
_GATHER_SECONDS: Final = 0.1
_PAUSE_SECONDS: Final = 0.01


def read_log(api: Api, pod_path: str, container: str, sink: Sink, tail: int | None = None) -> None:
    """Follow a container's log to its end. Raises ApiLost; ApiError 404 when the Pod is gone.

    tail: start with only that many of the existing lines.
    """
    assembler = LogAssembler(tailing=tail is not None)
    if tail is not None:
        _read_once(api, pod_path, container, assembler, sink if tail else _drop, max(tail, 1))
    pauses = _Pauses(api, pod_path)
    ended_without_a_log = 0
    while True:
        try:
            for chunk in _stream(api, pod_path, container, follow=True, since=assembler.begin()):
                pauses.reset()
                ended_without_a_log = 0
                if new := assembler.take(chunk):
                    sink(new)
            # a stream that ended normally may still lack the last output, and a cut one looks the same: only
            # the Pod's status shows which it was
            if _has_ended(api, pod_path, container):
                break
            time.sleep(limits.LOG_SECONDS)
        except (ApiError, *STREAM_ENDED) as error:
            if isinstance(error, ApiError) and error.status == 400 and _has_ended(api, pod_path, container):
                # twice: it may have ended just now; a log that the node has deleted does not come back
                ended_without_a_log += 1
                if ended_without_a_log > 1:
                    raise
            if isinstance(error, ApiError) and error.status == 400:  # not started, or still being set up
                time.sleep(limits.LOG_SECONDS)
            else:
                pauses.wait(error)
    _read_end(api, pod_path, container, assembler, sink)
    if new := assembler.end():
        sink(new)


def tail_log(api: Api, pod_path: str, container: str, lines: int | None, follow: bool, sink: Sink) -> None:
    """Read as `kubectl logs` does: what the kubelet has now, and with `follow` what comes."""
    if follow:
        read_log(api, pod_path, container, sink, lines)
    elif lines != 0:
        assembler = LogAssembler(tailing=lines is not None)
        _read_once(api, pod_path, container, assembler, sink, lines)
        if new := assembler.end():
            sink(new)


def _read_end(api: Api, pod_path: str, container: str, assembler: LogAssembler, sink: Sink) -> None:
    """Read what the stream lacks at the end: from the last lines if they overlap, else from the overlap time.

    If a stage prints much, the overlap is large, and the kubelet searches for it from the start of the log.
    """
    assembler.begin()
    lines = b""
    with contextlib.suppress(ApiError, *STREAM_ENDED):
        lines = b"".join(_stream(api, pod_path, container, follow=False, tail=_LAST_LINES))
    if not assembler.has_written(lines[: lines.find(b"\n") + 1]):
        _read_once(api, pod_path, container, assembler, sink)
    elif new := assembler.take(lines):
        sink(new)


def _read_once(
    api: Api, pod_path: str, container: str, assembler: LogAssembler, sink: Sink, tail: int | None = None
) -> None:
    """Read everything that is there now; repeat a read that was cut or stalled."""
    pauses = _Pauses(api, pod_path)
    while True:
        try:
            since = assembler.begin()
            last = None if since else tail
            for chunk in _stream(api, pod_path, container, follow=False, since=since, tail=last):
                if new := assembler.take(chunk):
                    sink(new)
            return
        except (ApiError, *STREAM_ENDED) as error:
            pauses.wait(error)


class _Pauses:
    """The pauses between the reads of one log, while a retry may help."""

    def __init__(self, api: Api, pod_path: str) -> None:
        self._api = api
        self._pod_path = pod_path
        self._cut = limits.Backoff()
        self._refused = limits.Backoff()

    def reset(self) -> None:
        """Forget the failures: part of the log has arrived."""
        self._cut.reset()
        self._refused.reset()

    def wait(self, error: Exception) -> None:
        """Pause before the next read. Raises ApiLost, or `error` if another read would not help."""
        if not isinstance(error, ApiError):
            self._api.check_patience(error)
            self._cut.wait()
            return
        passing = error.status >= 500 or error.status == 429
        if not passing or self._refused.failures >= limits.LOG_REFUSALS:
            raise error
        self._api.get(self._pod_path)  # the kubelet refuses; if it is the API server, this call waits
        self._refused.wait(error.retry_after or None)


def _drop(chunk: bytes) -> None:
    """A sink that discards everything."""


def _stream(
    api: Api,
    pod_path: str,
    container: str,
    *,
    follow: bool,
    since: datetime | None = None,
    tail: int | None = None,
) -> Iterator[bytes]:
    query = {"container": container, "follow": str(follow).lower(), "timestamps": "true"}
    if since:
        query["sinceTime"] = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if tail is not None:
        query["tailLines"] = str(tail)
    with api.open(f"{pod_path}/log", query) as response:
        try:
            yield from _gathered(response)
        except urllib3.exceptions.ReadTimeoutError:
            if not follow:
                raise
            # the stage or the connection is silent: the caller reads again to find out


def _gathered(response: Any) -> Iterator[bytes]:
    """The body in larger pieces as it arrives: servers send each line separately, and each has a cost."""
    arrived = select.poll()
    arrived.register(response.fileno(), select.POLLIN)
    chunks = response.read_chunked() if response.chunked else iter(lambda: response.read1(_PIECE), b"")
    piece = bytearray()
    since = 0.0
    try:
        for chunk in chunks:
            since = since if piece else time.monotonic()
            piece += chunk
            if len(piece) < _PIECE and time.monotonic() - since < _GATHER_SECONDS:
                if arrived.poll(0):
                    continue
                time.sleep(_PAUSE_SECONDS)
                if arrived.poll(0):
                    continue
            yield bytes(piece)
            piece.clear()
    except STREAM_ENDED:
        if piece:
            yield bytes(piece)
        raise
    if piece:
        yield bytes(piece)


def _has_ended(api: Api, pod_path: str, container: str) -> bool:
    status = api.get(pod_path).get("status", {})
    if status.get("phase") in ("Succeeded", "Failed"):
        return True  # the kubelet never updates the container states of a Pod past its deadline
    for group in ("containerStatuses", "initContainerStatuses"):
        for state in status.get(group) or ():
            if state["name"] == container:
                return "terminated" in (state.get("state") or {})
    return False
