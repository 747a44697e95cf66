"""A log comes out byte for byte, however often and wherever its stream is cut (rows 40, 41, 43, 44)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import urllib3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobrelay.errors import ApiLost
from jobrelay.executors.cluster.api import ApiError
from jobrelay.executors.cluster.logs import reading as logs
from jobrelay.executors.cluster.logs.assembler import LogAssembler

BEGIN = datetime(2026, 11, 21, 14, 22, 33, tzinfo=UTC)

Line = tuple[int, bytes]  # nanoseconds since BEGIN, and what was printed, with its newline


@dataclass
class Kubelet:
    """A container's log as the kubelet has it. `zone`: how it writes its stamps."""

    lines: list[Line]
    zone: str = "Z"

    @property
    def content(self) -> bytes:
        return b"".join(text for _, text in self.lines)

    def read(self, since: datetime | None, printed: int | None = None) -> bytes:
        """The stamped lines of the first `printed`, from the whole second `since` on."""
        lines = self.lines[:printed]
        return b"".join(
            self._stamp(nanos) + text for nanos, text in lines if not since or self._at(nanos) >= since
        )

    def _at(self, nanos: int) -> datetime:
        return BEGIN + timedelta(microseconds=nanos // 1000)

    def _stamp(self, nanos: int) -> bytes:
        at = self._at(nanos)
        fraction = f"{nanos % 10**9:09}"
        if self.zone != "Z":
            at += timedelta(hours=2)
            # RFC3339Nano, which some runtimes write, drops zeros at the end
            fraction = fraction.rstrip("0")
        point = "." if fraction else ""
        return f"{at:%Y-%m-%dT%H:%M:%S}{point}{fraction}{self.zone} ".encode()


def whole_second(since: datetime | None) -> datetime | None:
    return since.replace(microsecond=0) if since else None


_bytes = st.binary(max_size=8) | st.sampled_from(
    [b"", b"\0", b"\r", b"50%\r100%\r", b"\xe2\x96", b"x" * 300, b"a"]
)
_text = _bytes.map(lambda line: line.replace(b"\n", b"") + b"\n")
#: Pauses between lines: mostly none, so that stamps and even lines are equal; and some back in time, as two
#: streams are written by two threads.
_pause = st.sampled_from([0, 0, 0, 1, 1000, 10**8, 10**9, 3 * 10**9, 7 * 10**9, -(10**8), -(10**9)])


@st.composite
def kubelets(draw: st.DrawFn) -> Kubelet:
    lines: list[Line] = []
    now = latest = draw(st.integers(0, 10**9))
    for pause, text in draw(st.lists(st.tuples(_pause, _text), max_size=15)):
        now = max(now + pause, latest - 10**9, 0)
        latest = max(latest, now)
        lines.append((now, text))
    if lines and draw(st.booleans()):  # no newline at the end
        nanos, text = lines[-1]
        if text != b"\n":
            lines[-1] = (nanos, text[:-1])
    return Kubelet(lines, draw(st.sampled_from(["Z", "+02:00"])))


#: One read: how much was printed by then, where it is cut (in thousandths), in pieces of how many bytes.
_reads = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 1000), st.integers(1, 50)), max_size=6)


@settings(max_examples=400)
@given(kubelets(), _reads, st.integers(1, 50))
@example(Kubelet([(0, b"same\n")] * 3), [(2, 1000, 7), (3, 900, 7)], 5)
def test_any_log_cut_anywhere_is_whole(
    kubelet: Kubelet, reads: list[tuple[int, int, int]], size: int
) -> None:
    assembler = LogAssembler()
    written = b""
    printed = 0
    for more, cut, piece in reads:
        printed = min(max(printed, more), len(kubelet.lines))
        visible = kubelet.read(whole_second(assembler.begin()), printed)
        visible = visible[: len(visible) * cut // 1000]
        for start in range(0, len(visible), piece):
            written += assembler.take(visible[start : start + piece])
        assert kubelet.content.startswith(written)
    last = kubelet.read(whole_second(assembler.begin()))
    for start in range(0, len(last), size):
        written += assembler.take(last[start : start + size])
    assert written + assembler.end() == kubelet.content


@given(kubelets())
def test_a_read_asks_for_no_more_than_the_overlap(kubelet: Kubelet) -> None:
    assembler = LogAssembler()
    assert assembler.begin() is None
    assembler.take(kubelet.read(None))
    since = assembler.begin()
    whole = [nanos for nanos, text in kubelet.lines if text.endswith(b"\n")]
    if whole:
        newest = BEGIN + timedelta(microseconds=max(whole) // 1000)
        assert since
        assert timedelta(seconds=2) <= newest - since <= timedelta(seconds=4)
        assert since.microsecond == 0


@pytest.mark.parametrize(
    "line",
    [
        b"failed to watch file: no space left on device\n",
        b"unable to retrieve container logs for containerd://6f1c\n",
        b"\n",
        b" \n",
        b"2026-11-21 not a stamp\n",
        b"2026-13-41T99:99:99Z text\n",
        b"\xff\xfe text\n",
        b"x" * 5000 + b"\n",
    ],
    ids=ascii,
)
def test_what_has_no_stamp_is_kept_as_it_is(line: bytes) -> None:
    kubelet = Kubelet([(0, b"one\n"), (1, b"two\n")])
    assembler = LogAssembler()
    assembler.begin()
    assert assembler.take(kubelet.read(None) + line) == b"one\ntwo\n" + line
    assembler.begin()  # and it does not confuse what comes after it
    kubelet.lines.append((2, b"three\n"))
    assert assembler.take(kubelet.read(None)) == b"three\n"


# --- lines of many parts -------------------------------------------------------------------------


@dataclass
class PartsKubelet(Kubelet):
    """A line longer than 10 bytes comes in parts, `slowness` nanoseconds apart, each with a stamp.

    old: kubelets before 1.26 show every stamp, later ones only a line's first.
    """

    old: bool = False
    slowness: int = 0

    def read(self, since: datetime | None, printed: int | None = None) -> bytes:
        shown = b""
        late = 0
        for nanos, text in self.lines[:printed]:
            parts = [text[at : at + 10] for at in range(0, len(text), 10)]
            if len(parts) > 1 and parts[-1] == b"\n":  # a newline is no part of its own
                parts[-2:] = [b"".join(parts[-2:])]
            for number, part in enumerate(parts):
                late += self.slowness if number else 0
                if not since or self._at(nanos + late) >= since:
                    stamp = self._stamp(nanos + late) if self.old or not number else b""
                    shown += stamp + part
        return shown


_long_text = st.integers(0, 45).map(lambda length: b"abcdefghijklmnopqrstuvwxyz"[: length % 27] * 2 + b"\n")


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.sampled_from([1, 10**8, 10**9, 7 * 10**9]), _long_text), max_size=10),
    _reads, st.booleans(), st.sampled_from([0, 10**8, 2 * 10**9, 60 * 10**9]),
)  # fmt: skip
@example([(1, b"a" * 40 + b"\n"), (1, b"b\n")], [(2, 1000, 7)], True, 3 * 10**9)
@example([(1, b"a" * 40 + b"\n"), (1, b"b\n")], [(2, 1000, 7)], False, 3 * 10**9)
def test_row_44_a_line_of_many_parts_cut_anywhere_is_whole(
    pauses: list[tuple[int, bytes]], reads: list[tuple[int, int, int]], old: bool, slowness: int
) -> None:
    lines, now = [], 0
    for pause, text in pauses:
        now += pause
        lines.append((now, text))
    kubelet = PartsKubelet(lines, old=old, slowness=slowness)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobrelay.executors.cluster.logs.assembler._PART", 10)
        assembler = LogAssembler()
        written = b""
        printed = 0
        for more, cut, _ in reads:
            printed = min(max(printed, more), len(lines))
            visible = kubelet.read(whole_second(assembler.begin()), printed)
            written += assembler.take(visible[: len(visible) * cut // 1000])
            assert kubelet.content.startswith(written)
        written += assembler.take(kubelet.read(whole_second(assembler.begin())))
        assert written + assembler.end() == kubelet.content


def test_row_44_a_very_long_line_is_taken_in_linear_time() -> None:
    assembler = LogAssembler()
    begun = time.perf_counter()
    assembler.take(b"2026-11-21T14:22:33.123456789Z ")
    for _ in range(4000):
        assembler.take(b"x" * 16384)
    assert len(assembler.end()) == 4000 * 16384
    assert time.perf_counter() - begun < 10  # if every piece were copied again and again: minutes


@given(st.binary())
def test_whatever_comes_is_taken(data: bytes) -> None:
    assembler = LogAssembler()
    assembler.begin()
    assert len(assembler.take(data) + assembler.end()) <= len(data)


# --- reading to the end --------------------------------------------------------------------------

_NOTHING_YET, _ = os.pipe()
CUT = urllib3.exceptions.ProtocolError("Connection broken", ConnectionResetError())
STALL = urllib3.exceptions.ReadTimeoutError(None, "", "Read timed out.")  # type: ignore[arg-type]


@dataclass
class Stream:
    """A body: so many bytes, then its end or an error."""

    data: bytes
    error: Exception | None = None
    chunked: bool = False

    def fileno(self) -> int:
        """Of something that has nothing to read yet: every piece is taken by itself."""
        return _NOTHING_YET

    def read1(self, amount: int) -> bytes:
        chunk, self.data = self.data[:37], self.data[37:]
        if not chunk and self.error:
            raise self.error
        return chunk


@dataclass
class FakeApi:
    """The API server before a kubelet. script: one entry a read: (lines printed, bytes, how it ends)."""

    kubelet: Kubelet
    script: list[tuple[int, int | None, Exception | None]]
    gets: int = 0
    follows: list[bool] = field(default_factory=list)
    lost: bool = False

    @contextmanager
    def open(self, path: str, query: Mapping[str, str]) -> Iterator[Stream]:
        printed, length, error = self.script.pop(0) if self.script else (10**6, None, None)
        self.follows.append(query["follow"] == "true")
        if isinstance(error, ApiError):
            raise error
        since = (
            datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00"))
            if "sinceTime" in query
            else None
        )
        stamped = self.kubelet.read(since, printed).splitlines(keepends=True)
        if "tailLines" in query:
            stamped = stamped[len(stamped) - int(query["tailLines"]) :]
        yield Stream(b"".join(stamped)[:length], error)

    def get(self, path: str) -> dict[str, Any]:
        self.gets += 1
        state = {"running": {}} if self.script else {"terminated": {"exitCode": 0}}
        return {"status": {"containerStatuses": [{"name": "train", "state": state}]}}

    def check_patience(self, error: Exception) -> None:
        if self.lost:
            raise ApiLost("the API server does not answer") from error


def read(api: FakeApi) -> bytes:
    chunks: list[bytes] = []
    logs.read_log(api, "/pod", "train", chunks.append)  # type: ignore[arg-type]
    return b"".join(chunks)


@pytest.mark.parametrize("lacking", [0, 1, 900, 1500])
def test_row_40_what_a_stream_that_ended_well_has_lacked_is_read(lacking: int) -> None:
    """More than the last lines, too: then they do not join on, and all of the overlap is read."""
    kubelet = Kubelet([(number * 1000, f"line {number}\n".encode()) for number in range(3000)])
    api = FakeApi(kubelet, [(3000 - lacking, None, None)])
    assert read(api) == kubelet.content
    assert api.follows == [True, False, False][: 3 if lacking > 1000 else 2]


def test_row_36_a_container_that_its_node_has_forgotten_has_no_log() -> None:
    refused = ApiError(400, b'{"message": "container train in pod a is terminated"}', {})
    api = FakeApi(Kubelet([(0, b"never to be had\n")]), [(0, None, refused)] * 5)
    gone = {"status": {"containerStatuses": [{"name": "train", "state": {"terminated": {}}}]}}
    api.get = lambda path: gone  # type: ignore[method-assign]

    with pytest.raises(ApiError, match="is terminated"):
        read(api)
    assert len(api.follows) == 2


def tail(api: FakeApi, lines: int | None, follow: bool = False) -> bytes:
    chunks: list[bytes] = []
    logs.tail_log(api, "/pod", "train", lines, follow, chunks.append)  # type: ignore[arg-type]
    return b"".join(chunks)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs.time, "sleep", lambda seconds: None)


LOG = Kubelet([(n * 10**7, f"line {n}\n".encode()) for n in range(600)] + [(6 * 10**9, b"no newline")])

SCRIPTS: dict[str, Sequence[tuple[int, int | None, Exception | None]]] = {
    "nothing-happens": [],
    "row-2-cut": [(300, 5000, CUT), (600, 20, CUT)],
    "row-1-stall": [(300, 5000, STALL), (500, None, STALL)],
    "row-41-ends-in-good-order-and-goes-on": [(300, None, None), (301, None, None)],
    "row-45-asked-for-too-early": [(0, 0, ApiError(400, b"waiting to start", {})), (10, None, None)],
    "row-43-cut-in-a-line": [(300, 5003, CUT)],
    "row-6-the-kubelet-is-away": [(10, None, CUT), *[(0, 0, ApiError(502, b"", {}))] * 20, (20, None, CUT)],
    "row-5-busy": [(10, None, CUT), (0, 0, ApiError(429, b"", {"Retry-After": "1"})), (20, None, CUT)],
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_a_log_is_read_to_its_end(script: Sequence[tuple[int, int | None, Exception | None]]) -> None:
    api = FakeApi(LOG, list(script))
    assert read(api) == LOG.content
    assert (api.follows[0], api.follows[-1]) == (True, False)


@pytest.mark.parametrize("error", [CUT, STALL, ConnectionResetError()], ids=["cut", "stall", "reset"])
@pytest.mark.parametrize("length", [0, 100, 20000])
def test_row_40_the_last_read_is_cut_too(length: int, error: Exception) -> None:
    class Late(FakeApi):
        def get(self, path: str) -> dict[str, Any]:
            return {"status": {"phase": "Succeeded"}}

    # the container has ended when the first read does; the next one is the last
    assert read(Late(LOG, [(300, None, None), (10**6, length, error)])) == LOG.content


def test_a_pod_that_is_gone_is_told() -> None:
    api = FakeApi(
        LOG, [(0, 0, ApiError(404, b'{"reason": "NotFound", "message": "pods \\"x\\" not found"}', {}))]
    )
    with pytest.raises(ApiError, match="not found"):
        read(api)


def test_row_6_a_kubelet_that_stays_away_is_told() -> None:
    with pytest.raises(ApiError, match="502"):
        read(FakeApi(LOG, [(0, 0, ApiError(502, b"no kubelet", {}))] * 40))


LINES = LOG.content.splitlines(keepends=True)


@pytest.mark.parametrize("ending", [None, CUT, STALL], ids=["whole", "cut", "stall"])
@pytest.mark.parametrize("count", [None, 0, 1, 5], ids=str)
def test_the_last_lines(count: int | None, ending: Exception | None) -> None:
    api = FakeApi(LOG, [(10**6, 50, ending)] if ending else [])
    expected = LINES if count is None else LINES[len(LINES) - count :]
    assert tail(api, count) == b"".join(expected)


@pytest.mark.parametrize("count", [None, 0, 1, 5], ids=str)
def test_the_last_lines_and_what_comes(count: int | None) -> None:
    first = [] if count is None else [(300, None, None)]
    api = FakeApi(LOG, [*first, (300, None, STALL), (400, 3000, CUT), (500, None, STALL)])
    expected = LINES if count is None else LINES[300 - count :]
    assert tail(api, count, follow=True) == b"".join(expected)


def test_row_6_a_server_that_is_away_for_long_is_waited_for() -> None:
    class Away(FakeApi):
        """A real Api's get tries again until there is an answer: the API server is back by then."""

        def get(self, path: str) -> dict[str, Any]:
            while self.script and isinstance(self.script[0][2], ApiError):
                self.script.pop(0)
            return super().get(path)

    assert read(Away(LOG, [(10, None, CUT), *[(0, 0, ApiError(503, b"", {}))] * 40, (20, None, CUT)])) == (
        LOG.content
    )


def test_an_api_that_is_lost_is_told() -> None:
    with pytest.raises(ApiLost):
        read(FakeApi(LOG, [(10, None, CUT)], lost=True))
