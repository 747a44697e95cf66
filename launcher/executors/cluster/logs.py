"""A container's log, byte for byte, whatever happens to the connection.

The kubelet stamps each line with nanoseconds, but resumes only at whole seconds: a stream that was
cut is asked for again from some seconds before the last line, and the lines that were there already
are taken out by stamp, bytes and count. A last read without follow closes the log.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import urllib3

from launcher.executors.base import Sink
from launcher.executors.cluster.api import STREAM_ENDED, Api, ApiError

Object = dict[str, Any]

#: sinceTime is in whole seconds, and a stamp may be a little older than the one before it.
OVERLAP_SECONDS: Final = 3.0
#: 2026-11-21T14:22:33.123456789Z
_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
#: 5xx and 429 in a row, after which a log is given up: about a minute.
_REFUSALS: Final = 22


class LogAssembler:
    """Lines of overlapping reads → each line once, in order.

    `begin` a read, then `take` its stamped bytes; what is new comes out without stamps.
    tailing: the first read begins somewhere in the log, and nothing older is wanted.
    """

    def __init__(self, tailing: bool = False) -> None:
        self._tailing = tailing
        self._oldest: datetime | None = None
        self.last_second: datetime | None = None
        self._recent: list[tuple[datetime, bytes]] = []  # written out, within the overlap
        self._expected: Counter[bytes] = Counter()
        self._rest = b""

    def begin(self) -> datetime | None:
        """Start a read; returns from when on the log is to be asked for (None: from its start)."""
        self._rest = b""
        if self.last_second is None:
            return None
        since = self.last_second - timedelta(seconds=OVERLAP_SECONDS)
        self._expected = Counter(line for stamp, line in self._recent if stamp >= since)
        return since

    def take(self, chunk: bytes) -> bytes:
        """The new lines in `chunk`; a line that is not whole yet is kept for the next call."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        return b"".join(self._line(line + b"\n") for line in whole)

    def end(self) -> bytes:
        """The last line, if the log does not end with a newline. Only after a read without follow."""
        rest, self._rest = self._rest, b""
        return self._line(rest) if rest else b""

    def _line(self, stamped: bytes) -> bytes:
        if self._expected[stamped] > 0:
            self._expected[stamped] -= 1
            return b""
        stamp, space, text = stamped.partition(b" ")
        when = _parse(stamp) if space else None
        if when is None:
            return stamped  # the kubelet's own words, unstamped: better twice than never
        self._oldest = self._oldest or when
        if self._tailing and when < self._oldest:
            return b""
        self._recent.append((when, stamped))
        if self.last_second is None or when > self.last_second:
            self.last_second = when.replace(microsecond=0)
            horizon = self.last_second - timedelta(seconds=2 * OVERLAP_SECONDS)
            if self._recent[0][0] < horizon:
                self._recent = [item for item in self._recent if item[0] >= horizon]
        return text


def read_log(api: Api, pod_path: str, container: str, sink: Sink, tail: int | None = None) -> None:
    """Follow a container's log to its end. Raises ApiLost; ApiError 404 when the Pod is gone.

    tail: begin with only so many of the lines that are there.
    """
    assembler = LogAssembler(tailing=tail is not None)
    if tail is not None:
        _read_once(api, pod_path, container, assembler, sink if tail else _drop, max(tail, 1))
    refused = _Refused(api)
    while True:
        try:
            for chunk in _stream(api, pod_path, container, follow=True, since=assembler.begin()):
                refused.times = 0
                if new := assembler.take(chunk):
                    sink(new)
            # a stream that ended in good order may still lack what was written at the very end,
            # and one that was cut looks the same: only the Pod tells
            if _has_ended(api, pod_path, container):
                break
            time.sleep(0.2)
        except (ApiError, *STREAM_ENDED) as error:
            refused.wait(error, may_be_starting=True)
    _read_once(api, pod_path, container, assembler, sink)
    if new := assembler.end():
        sink(new)


def tail_log(api: Api, pod_path: str, container: str, lines: int | None, follow: bool, sink: Sink) -> None:
    """As `kubectl logs`: what the kubelet has now, and with `follow` what comes."""
    if follow:
        read_log(api, pod_path, container, sink, lines)
    elif lines != 0:
        assembler = LogAssembler(tailing=lines is not None)
        _read_once(api, pod_path, container, assembler, sink, lines)
        if new := assembler.end():
            sink(new)


def _read_once(
    api: Api, pod_path: str, container: str, assembler: LogAssembler, sink: Sink, tail: int | None = None
) -> None:
    """All that is there now; a read that was cut or stood still is made again."""
    refused = _Refused(api)
    while True:
        try:
            since = assembler.begin()
            last = None if since else tail
            for chunk in _stream(api, pod_path, container, follow=False, since=since, tail=last):
                if new := assembler.take(chunk):
                    sink(new)
            return
        except (ApiError, *STREAM_ENDED) as error:
            refused.wait(error)


class _Refused:
    """The pause between two reads, as long as there is hope."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.times = 0

    def wait(self, error: Exception, may_be_starting: bool = False) -> None:
        """Sleep. Raises ApiLost, or `error` if it will stay so."""
        pause = None
        if not isinstance(error, ApiError):
            self._api.check_patience(error)
        elif error.status != 400 or not may_be_starting:  # 400: not started yet, or just being set up
            self.times += 1
            passing = error.status >= 500 or error.status == 429  # the server's state, or the kubelet's
            if not passing or self.times > _REFUSALS:
                raise error
            pause = error.retry_after
        time.sleep(pause or 0.2 * (1 + self.times))


def _drop(chunk: bytes) -> None:
    """A sink that keeps nothing."""


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
        while True:
            try:
                chunk = response.read1(1024 * 1024)
            except urllib3.exceptions.ReadTimeoutError:
                if follow:
                    return  # silent for long: is it the stage, or the connection? Ask again
                raise
            if not chunk:
                return
            yield chunk


def _has_ended(api: Api, pod_path: str, container: str) -> bool:
    status = api.get(pod_path).get("status", {})
    if status.get("phase") in ("Succeeded", "Failed"):
        return True  # of a Pod past its deadline, the containers' states are never brought up to date
    for group in ("containerStatuses", "initContainerStatuses"):
        for state in status.get(group) or ():
            if state["name"] == container:
                return "terminated" in (state.get("state") or {})
    return False


def _parse(stamp: bytes) -> datetime | None:
    """A stamp's time, to the microsecond (the nanoseconds count as bytes only); None if it is none."""
    match = _STAMP.fullmatch(stamp)
    if not match:
        return None
    second, fraction, zone = (part.decode() if part else "" for part in match.groups())
    try:
        return datetime.fromisoformat(f"{second}.{fraction[:6]:0<6}{zone.replace('Z', '+00:00')}")
    except ValueError:  # a 13th month
        return None
