"""A watch, whatever the server or the way to it does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobrelay.errors import ApiLost, BadInput
from jobrelay.executors.base import ChangeCounter, Submission
from jobrelay.executors.cluster.api import Api, ApiError
from jobrelay.executors.cluster.watch import RunUpdates, Watch
from tests.support import PATIENCE
from tests.support.apiserver import Answer, Server, kubeconfig, ok, refusal, serving

Object = dict[str, Any]
Watching = Callable[..., tuple[Watch, ChangeCounter, Server]]

JOBS = "/apis/batch/v1/namespaces/a/jobs"
SILENT = Answer(body=b" " * 100, cut=0)  # a watch that ends at once, in the middle


def job(name: str = "a-train", version: int = 5, uid: str = "u1", **more: Any) -> Object:
    metadata = {"name": name, "uid": uid, "resourceVersion": str(version), **more}
    return {"kind": "Job", "apiVersion": "batch/v1", "metadata": metadata, "spec": {}, "status": {}}


def listed(*items: Object, version: int = 9) -> Answer:
    return ok({"kind": "JobList", "apiVersion": "batch/v1", "items": list(items),
               "metadata": {"resourceVersion": str(version)}})  # fmt: skip


def events(*lines: tuple[str, Object] | bytes, cut: bool = False) -> Answer:
    body = b"".join(
        line if isinstance(line, bytes) else json.dumps({"type": line[0], "object": line[1]}).encode() + b"\n"
        for line in lines
    )
    return Answer(body=body + b" " * 10 * cut, cut=len(body) if cut else None)


@pytest.fixture
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    """A watch on Jobs that has begun, and the server that it watches."""
    path = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr("jobrelay.executors.cluster.limits.pause", lambda failures: 0.01)
    monkeypatch.setattr("jobrelay.executors.cluster.limits.OPENING_SECONDS", 0.01)
    open_now: list[Any] = []

    def begin(*answers: Answer, give_up: float = 300) -> tuple[Watch, ChangeCounter, Server]:
        server = (manager := serving(*answers)).__enter__()
        kubeconfig(path, server.url)
        counter = ChangeCounter()
        watch = Watch(Api(None, give_up), JOBS, {"labelSelector": "x=y"}, counter)
        open_now.extend([manager, watch])
        watch.start()
        return watch, counter, server

    yield begin
    for item in reversed(open_now):
        item.stop() if isinstance(item, Watch) else item.__exit__(None, None, None)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def names(watch: Watch) -> list[str]:
    return sorted(item["metadata"]["name"] for item in watch.objects())


def test_what_is_there_and_what_comes(watching: Watching) -> None:
    watch, counter, server = watching(
        listed(job()),
        events(
            ("ADDED", job("b", 10, "u2")), ("MODIFIED", job("a-train", 11)), ("DELETED", job("b", 12, "u2"))
        ),
        SILENT,
    )
    until(lambda: len(server.requests) > 3)
    assert names(watch) == ["a-train"]
    assert watch.is_deleted(job("b", 10, "u2"))
    assert counter.seen() == 4
    assert "resourceVersion=9" in server.requests[1].path
    assert "resourceVersion=12" in server.requests[3].path  # goes on where it was
    assert all("labelSelector=x%3Dy" in request.path for request in server.requests)


def test_row_3_nobody_sees_half_of_a_new_list() -> None:
    seen: list[bool] = []

    class Asked(list[Object]):
        """Somebody else asks after every item, in a thread."""

        def __iter__(self) -> Iterator[Object]:
            for item in super().__iter__():
                yield item
                asking = threading.Thread(target=lambda: seen.append(watch.is_deleted(job())))
                asking.start()
                asking.join(0.05)

    items = [job("b", 6, "u2"), job()]
    lists = iter([items, Asked(items)])
    answer = {"kind": "JobList", "apiVersion": "batch/v1", "metadata": {"resourceVersion": "9"}}
    api: Any = SimpleNamespace(get=lambda path, **query: {**answer, "items": next(lists)})
    watch = Watch(api, JOBS, {}, ChangeCounter())

    watch.refresh()
    watch.refresh()

    until(lambda: len(seen) == 3 * len(items))
    assert not any(seen)


GONE_EVENT = ("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})


@pytest.mark.parametrize(
    "gone", [events(GONE_EVENT), refusal(410, "Expired", "too old resource version")], ids=["event", "http"]
)
def test_row_3_410_is_a_new_list(watching: Watching, gone: Answer) -> None:
    watch, _, server = watching(
        listed(job(), job("b", 6, "u2")), gone, listed(job(), job("c", 20, "u3"), version=21), SILENT
    )
    until(lambda: names(watch) == ["a-train", "c"])
    assert watch.is_deleted(job("b", 6, "u2"))  # it went while nobody looked
    until(lambda: len(server.requests) > 4)
    assert "resourceVersion=21" in server.requests[3].path


@pytest.mark.parametrize(
    "line",
    [b"{\n", b"null\n", b"[1]\n", b'"text"\n', b"\xff\xfe\n", b'{"type": "ADDED"}\n',
     b'{"type": "ADDED", "object": {}}\n', b'{"type": "ADDED", "object": []}\n',
     b'{"type": 1, "object": null}\n', b'{"type": "ERROR", "object": null}\n',
     b'{"type": "ADDED", "object": {"kind": "Job", "metadata": {}}}\n', b"[" * 100_000 + b"\n"],
    ids=lambda line: repr(line[:40]),
)  # fmt: skip
def test_row_4_what_is_no_event_is_a_new_list(watching: Watching, line: bytes) -> None:
    # what the line was to tell would be hidden for ever behind the version of the event after it
    watch, _, server = watching(
        listed(job()),
        events(("ADDED", job("b", 10, "u2")), line, ("ADDED", job("c", 12, "u3"))),
        listed(job("b", 11, "u2"), job("c", 12, "u3"), version=12),
        SILENT,
    )
    until(lambda: names(watch) == ["b", "c"])
    until(lambda: len(server.requests) > 3)
    assert "resourceVersion=12" in server.requests[3].path


def test_row_4_an_empty_line_is_none(watching: Watching) -> None:
    watch, _, server = watching(listed(), events(b"\n", ("ADDED", job("b", 10, "u2"))), SILENT)
    until(lambda: names(watch) == ["b"])
    until(lambda: len(server.requests) > 2)
    assert "resourceVersion=10" in server.requests[2].path


def test_row_2_a_cut_in_the_middle_of_an_event(watching: Watching) -> None:
    half = json.dumps({"type": "ADDED", "object": job("half", 11, "u3")}).encode()[:40]
    watch, _, server = watching(
        listed(), events(("ADDED", job("b", 10, "u2")), half, cut=True),
        events(("ADDED", job("c", 12, "u4"))), SILENT,
    )  # fmt: skip
    until(lambda: names(watch) == ["b", "c"])
    assert "resourceVersion=10" in server.requests[2].path


def test_row_6_a_watch_that_nobody_answers_any_more_is_lost(watching: Watching) -> None:
    _, counter, _ = watching(listed(), refusal(503, "ServiceUnavailable", "no etcd"), give_up=0.05)
    with pytest.raises(ApiLost, match="does not answer"):
        counter.wait(10**6, 10)


@pytest.mark.parametrize(
    ("answer", "error"),
    [(refusal(403, "Forbidden", "may not watch"), BadInput), (refusal(401, "Unauthorized", "who?"), ApiLost)],
    ids=["row-9-403", "row-8-401"],
)
def test_a_watch_that_is_refused_is_told(watching: Watching, answer: Answer, error: type[Exception]) -> None:
    _, counter, _ = watching(listed(), answer)
    with pytest.raises(error):
        counter.wait(10**6, 10)


def test_a_watch_that_always_ends_at_once_does_not_run_in_circles(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrelay.executors.cluster.limits.pause", lambda failures: 0.1 * failures)
    _, _, server = watching(listed(), Answer(body=b""))
    time.sleep(1)
    assert len(server.requests) < 10


def test_row_38_a_job_that_was_deleted_before_it_was_ever_listed(watching: Watching) -> None:
    watch, _, _ = watching(listed(job("b", 20, "u2"), version=30), SILENT)
    until(watch.listed.is_set)
    assert watch.is_deleted(job("a-train", 25))
    assert not watch.is_deleted(job("made-after-the-list", 31))
    assert not watch.is_deleted(job("b", 20, "u2"))
    assert not watch.is_deleted(job("a", "opaque"))  # type: ignore[arg-type]


def test_row_32_pods_that_are_gone_are_kept_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(path))
    with serving(SILENT) as server:
        kubeconfig(path, server.url)
        updates = RunUpdates(Api(None), "a", "run", "claim")
    owner = {"ownerReferences": [{"uid": "u1"}]}
    pod = {**job("pod", 7, "p1", **owner), "kind": "Pod", "apiVersion": "v1"}
    updates._pods._take(json.dumps({"type": "ADDED", "object": pod}).encode())
    last = {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-11-21T14:30:00Z"}}
    updates._pods._take(json.dumps({"type": "DELETED", "object": last}).encode())
    view = updates.view(Submission(job(), "created"))
    assert (view.pods, view.lost) == ([], [last])


class _Quiet:
    """An API that has only what it is told to list. since: what its patience was asked with."""

    def __init__(self, *lists: list[Object], version: int = 9) -> None:
        self.lists = list(lists)
        self.version = version
        self.since: list[float] = []

    def get(self, path: str, **query: str) -> Object:
        metadata = {"resourceVersion": str(self.version)}
        return {"kind": "JobList", "apiVersion": "batch/v1", "metadata": metadata, "items": self.lists.pop(0)}

    def was_good(self) -> None: ...

    def check_patience(self, error: Exception, since: float) -> None:
        self.since.append(since)
        raise ApiLost("enough")


def told(watch: Watch, kind: str, item: Object) -> None:
    watch._take(json.dumps({"type": kind, "object": item}).encode())


def test_row_6_news_are_a_sign_of_life_also_when_the_watch_is_cut_after_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api: Any = _Quiet([])
    watch = Watch(api, JOBS, {}, ChangeCounter())

    def one_busy_watch() -> None:
        time.sleep(0.1)
        told(watch, "ADDED", job())
        raise ApiError(503, b"", {})

    monkeypatch.setattr(watch, "_read", one_busy_watch)
    begun = time.monotonic()
    with pytest.raises(ApiLost):
        watch._watch()

    assert api.since[0] - begun > 0.1


def test_a_list_does_not_undo_what_the_watch_has_told_meanwhile() -> None:
    api: Any = _Quiet([job(version=5), job("b", 6, "u2")], [job(version=5)], version=9)
    watch = Watch(api, JOBS, {}, ChangeCounter())
    watch.refresh()
    told(watch, "MODIFIED", job(version=10, labels={"new": "yes"}))
    told(watch, "ADDED", job("c", 11, "u3"))
    watch.refresh()

    assert names(watch) == ["a-train", "c"]
    newest = watch.get("u1")
    assert newest
    assert newest["metadata"]["labels"] == {"new": "yes"}
    assert watch.is_deleted(job("b", 6, "u2"))


def test_row_32_what_is_deleted_does_not_come_back_by_late_news() -> None:
    owner = {"ownerReferences": [{"uid": "u1"}]}
    pod = {**job("pod", 7, "p1", **owner), "kind": "Pod", "apiVersion": "v1"}
    api: Any = _Quiet([pod], [])
    watch = Watch(api, JOBS, {}, ChangeCounter())
    watch.refresh()
    watch.refresh()
    told(watch, "MODIFIED", {**pod, "metadata": {**pod["metadata"], "resourceVersion": "8"}})

    assert watch.parts("u1") == ([], [pod])


def test_nothing_is_left_running(watching: Watching) -> None:
    watch, _, _ = watching(listed(), SILENT)
    until(watch.listed.is_set)
    watch.stop()
    until(lambda: not any(t.name.startswith("watch ") for t in threading.enumerate()))


def test_a_server_that_ends_every_watch_after_an_event_is_not_asked_without_a_pause(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrelay.executors.cluster.limits.OPENING_SECONDS", 1.0)
    error = ("ERROR", {"kind": "Status", "code": 410, "metadata": {}})
    rounds = [(listed(job()), events(("MODIFIED", job(version=10 + n)), error)) for n in range(500)]
    begun = time.monotonic()
    _, _, server = watching(*(answer for each in rounds for answer in each), SILENT)
    while len(server.requests) < 60:  # a list and a watch each time
        assert time.monotonic() < begun + PATIENCE
        time.sleep(0.01)
    assert len(server.requests) / 2 <= 5 * (1 + time.monotonic() - begun) + 1
