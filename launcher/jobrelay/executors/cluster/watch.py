"""Watches on Jobs, Pods and Events: one of each kind for everything that is followed.

A watch is read until it is cut or silent for READ_SECONDS, then opened again at the same version; that call
also proves that the API still answers. The launcher never polls.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, TypeVar, cast

import urllib3

from jobrelay.errors import BadInput, JobRelayError
from jobrelay.executors.base import ChangeCounter, Submission
from jobrelay.executors.cluster import limits
from jobrelay.executors.cluster.api import STREAM_ENDED, Api, ApiError, collection
from jobrelay.kube.labels import LABEL_RUN
from jobrelay.kube.objects import AnyObject, Event, Job, Pod
from jobrelay.kube.read import finished_condition
from jobrelay.verdicts import JobView

Item = TypeVar("Item", bound=AnyObject)

_GONE: Final = 410
_EVENTS_KEPT: Final = 1000


class Watch(Generic[Item]):
    """The live objects of one kind, by uid, kept up to date by a thread."""

    def __init__(self, api: Api, path: str, selector: Mapping[str, str], counter: ChangeCounter) -> None:
        self._api = api
        self._path = path
        self._selector = selector
        self._counter = counter
        self._lock = threading.Lock()
        self._objects: dict[str, Item] = {}
        self._of: dict[str, dict[str, Item]] = {}  # the same objects, by what each belongs to
        self._deleted: dict[str, Item] = {}
        self._listed_version = 0
        self._version: str | None = None
        self._good = 0.0  # time.monotonic() of the last successful exchange
        self._opened: deque[float] = deque(maxlen=limits.OPENINGS)  # time.monotonic() of the latest openings
        self._stopped = threading.Event()
        self._backoff = limits.Backoff(self._stopped.wait)  # consecutive failures with no event between them
        #: set once the existing objects are known
        self.listed = threading.Event()
        #: time.monotonic() when the change that finished a Job arrived, by uid
        self.finished_at: dict[str, float] = {}

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"watch {self._path}", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def refresh(self) -> None:
        """List now, since the watch may be half open without noticing. Raises ApiLost."""
        with contextlib.suppress(ApiError):  # the watch reports a lasting failure itself
            self._list()

    def objects(self) -> list[Item]:
        with self._lock:
            return list(self._objects.values())

    def of(self, whole: str) -> list[Item]:
        """Objects that belong to `whole`: Pods by their Job's uid, Events by the name of their object."""
        return self.parts(whole)[0]

    def parts(self, whole: str) -> tuple[list[Item], list[Item]]:
        """Objects that belong to `whole`, and deleted ones that did, as last seen; none is in both lists.

        Each list is in the order of the objects' last changes.
        """
        with self._lock:
            gone = [item for item in self._deleted.values() if _whole(item) == whole]
            return list(self._of.get(whole, {}).values()), gone

    def is_deleted(self, item: Item) -> bool:
        """Whether an object that existed is gone, even if it never appeared in this watch."""
        uid = item["metadata"]["uid"]
        with self._lock:
            if uid in self._deleted:
                return True
            # created before the list and not in it: deleted in between
            return uid not in self._objects and 0 < _number(item) < self._listed_version

    def get(self, uid: str) -> Item | None:
        with self._lock:
            return self._objects.get(uid)

    def _run(self) -> None:
        try:
            self._watch()
        except JobRelayError as error:
            self._counter.failed(error)
        except Exception as error:  # a follower must not wait for a thread that is gone
            self._counter.failed(JobRelayError(f"the watch on {self._path} broke: {error!r}"))

    def _watch(self) -> None:
        self._good = time.monotonic()
        while not self._stopped.is_set():
            try:
                self._pace()
                if self._version is None:
                    self._list()
                opened = time.monotonic()
                self._read()
                self._good = time.monotonic()
                if self._good - opened > 1:
                    self._backoff.reset()
                else:  # something on the way ends watches at once: do not loop without a pause
                    self._backoff.wait()
            except ApiError as error:
                if error.status == _GONE:
                    self._version = None
                    self._backoff.wait(at_once=1)
                    continue
                if error.status == 401:
                    raise self._api.not_accepted_any_more() from error
                if error.status in (403, 404):
                    raise BadInput(f"cannot watch {self._path}: {error.message}") from error
                self._api.check_patience(error, self._good)
                self._backoff.wait(error.retry_after or None)
            except STREAM_ENDED as error:
                if self._stopped.is_set():
                    return
                self._api.check_patience(error)
                self._backoff.wait(at_once=1)

    def _pace(self) -> None:
        if len(self._opened) == limits.OPENINGS:
            self._stopped.wait(max(self._opened[0] + limits.OPENING_SECONDS - time.monotonic(), 0))
        self._opened.append(time.monotonic())

    def _list(self) -> None:
        answer = self._api.get(self._path, **self._selector)
        items = answer.get("items") or []
        for item in items:  # the items of a list lack these fields
            item.setdefault("kind", answer["kind"].removesuffix("List"))
            item.setdefault("apiVersion", answer["apiVersion"])
        with self._lock:  # in one step: after half a list, the other half would seem deleted
            left = {item["metadata"]["uid"] for item in items}
            others = [item for uid, item in self._objects.items() if uid not in left]
            # the watch may have delivered objects newer than the list while it was in transit
            newer = [item for item in others if _number(item) > _number(answer)]
            for item in others:
                self._forget(item["metadata"]["uid"])
                if item not in newer:
                    self._drop(item["metadata"]["uid"], item)
            for item in (*items, *newer):
                self._keep(item)
            self._listed_version = _number(answer)
        self._version = answer["metadata"]["resourceVersion"]
        self.listed.set()
        self._counter.changed()

    def _read(self) -> None:
        query = {
            **self._selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version or "",
        }
        with self._api.open(self._path, query) as response:
            for line in _lines(response):
                if self._stopped.is_set():
                    return
                self._take(line)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            event = json.loads(line)
            kind, item = event["type"], event["object"]
            if kind == "ERROR":
                raise ApiError(int(item.get("code") or 500), json.dumps(item).encode(), {})
            version = item["metadata"]["resourceVersion"]
            uid = item["metadata"]["uid"] if kind != "BOOKMARK" else ""
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            # an event is lost, and the next version would skip it: start again with a list
            raise ApiError(_GONE, line, {}) from None
        self._api.was_good()
        self._good = time.monotonic()
        self._backoff.reset()
        with self._lock:
            if kind in ("ADDED", "MODIFIED"):
                self._keep(item)
            elif kind == "DELETED":
                self._forget(uid)
                self._drop(uid, item)
        self._version = version
        if kind != "BOOKMARK":
            self._counter.changed()

    def _drop(self, uid: str, item: Item) -> None:
        if item["kind"] != "Event":  # events expire by the hour, and nobody reads deleted ones
            self._deleted[uid] = item

    def _keep(self, item: Item) -> None:
        uid = item["metadata"]["uid"]
        if uid in self._deleted or _number(item) < _number(self._objects.get(uid, item)):
            return  # outdated: lists and the watch overtake each other
        if item["kind"] == "Job" and uid not in self.finished_at and finished_condition(cast(Job, item)):
            self.finished_at[uid] = time.monotonic()
        self._forget(uid)  # move it to the end: the latest change comes last
        self._objects[uid] = item
        self._of.setdefault(_whole(item), {})[uid] = item
        if item["kind"] == "Event" and len(self._objects) > _EVENTS_KEPT:
            self._forget(next(iter(self._objects)))

    def _forget(self, uid: str) -> None:
        item = self._objects.pop(uid, None)
        if item:
            parts = self._of[_whole(item)]
            del parts[uid]
            if not parts:
                del self._of[_whole(item)]


class RunUpdates(ChangeCounter):
    """Updates (see executors.base) on one run, from three watches."""

    def __init__(self, api: Api, namespace: str, run: str, claim: str) -> None:
        super().__init__()
        mine = {"labelSelector": f"{LABEL_RUN}={run}"}
        self._run = run
        self._claim = claim
        self._jobs: Watch[Job] = Watch(api, collection("batch/v1", "jobs", namespace), mine, self)
        self._pods: Watch[Pod] = Watch(api, collection("v1", "pods", namespace), mine, self)
        self._events: Watch[Event] = Watch(api, collection("v1", "events", namespace), {}, self)

    def view(self, submission: Submission) -> JobView:
        uid = submission.job["metadata"]["uid"]
        if submission.how == "adopted":  # its Pods existed before these watches
            self._pods.listed.wait(limits.READ_SECONDS)
        job = None if self._jobs.is_deleted(submission.job) else (self._jobs.get(uid) or submission.job)
        pods, lost = self._pods.parts(uid)
        names = dict.fromkeys((submission.name, self._claim, *(pod["metadata"]["name"] for pod in pods)))
        events = [event for name in names for event in self._events.of(name)]
        return JobView(job, pods, events, lost)

    def refresh(self) -> None:
        for watch in (self._jobs, self._pods, self._events):
            watch.refresh()

    def finished_times(self, name: str) -> list[float]:
        """time.monotonic() when the event arrived that reported the end of the Job of that name."""
        times = self._jobs.finished_at
        return [times[j["metadata"]["uid"]] for j in self._jobs.objects() if j["metadata"]["name"] == name]

    def __enter__(self) -> RunUpdates:
        for watch in (self._jobs, self._pods, self._events):
            watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for watch in (self._jobs, self._pods, self._events):
            watch.stop()


def _number(item: AnyObject) -> int:
    """resourceVersion as a number: officially opaque, in practice a growing number; 0 if it is none."""
    version = str(item["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdigit() else 0


def _whole(item: AnyObject) -> str:
    """What an object belongs to: an Event to an object's name, a Pod to its Job's uid, a Job to nothing."""
    if item["kind"] == "Event":
        return str(item.get("involvedObject", {}).get("name"))
    owners = item["metadata"].get("ownerReferences") or ()
    return str(owners[0].get("uid")) if owners else ""


def _lines(response: Any) -> Iterator[bytes]:
    """Yield the lines of a streamed body as each completes; a long silence ends them."""
    rest = b""
    with contextlib.suppress(urllib3.exceptions.ReadTimeoutError):
        while chunk := response.read1(65536):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
