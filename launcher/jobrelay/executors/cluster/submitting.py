"""Create a Job under a name that may be taken: by an equal, a failed or a disappearing Job."""

from __future__ import annotations

import time
from typing import Literal

from jobrelay.errors import BadInput, Conflict, JobRelayError
from jobrelay.executors.adoption import Replace, adopt
from jobrelay.executors.base import ChangeCounter, Submission
from jobrelay.executors.cluster import limits
from jobrelay.executors.cluster.api import Api, ApiError
from jobrelay.executors.cluster.resources import collection_of, path_of
from jobrelay.executors.cluster.watch import Watch
from jobrelay.hints import Command
from jobrelay.kube.labels import LABEL_RUN
from jobrelay.kube.objects import AnyObject, Job


def submit(api: Api, job: Job, replace: Replace = "if-later") -> Submission:
    """Create the Job, adopt an equal one, or replace one that has failed. Raises Conflict, BadInput."""
    how: Literal["created", "replaced"] = "created"
    deadline = time.monotonic() + limits.DELETION_SECONDS
    backoff = limits.Backoff()
    while True:
        try:
            return Submission(api.create(collection_of(job), job), how)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise refused(job, error) from error
        live = _get(api, job)
        if live is None:
            _check_time(job, deadline)
        elif live["metadata"].get("deletionTimestamp"):
            _wait_until_gone(api, live, deadline)
        elif adopt(job, live, replace):
            return Submission(live, "adopted")
        else:
            how = "replaced"
            api.delete(path_of(job), uid=live["metadata"]["uid"])
            _wait_until_gone(api, live, deadline)
        # the second try follows at once: the obstacle is gone
        backoff.wait(at_once=1, at_most=deadline - time.monotonic())


def refused(item: AnyObject, error: ApiError) -> JobRelayError:
    """The error for a create that the server refused."""
    title = f"{item['kind']} {item['metadata']['name']}"
    return BadInput(
        f"the API server refuses {title}: {error.message}",
        Command("render", "--run", item["metadata"]["labels"][LABEL_RUN]),
    )


def _get(api: Api, job: Job) -> Job | None:
    try:
        live: Job = api.get(path_of(job))
        return live
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def _check_time(job: Job, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise Conflict(
            f"Job {job['metadata']['name']} cannot be created: for {limits.DELETION_SECONDS:.0f} s the API "
            "server has reported by turns that it exists and that it does not",
            f"kubectl get job {job['metadata']['name']} shows whether it exists",
        )


def _wait_until_gone(api: Api, live: Job, deadline: float) -> None:
    changes = ChangeCounter()
    selector = {"fieldSelector": f"metadata.name={live['metadata']['name']}"}
    watch: Watch[Job] = Watch(api, collection_of(live), selector, changes)
    watch.start()
    try:
        while (left := deadline - time.monotonic()) > 0:
            seen = changes.seen()
            if watch.listed.is_set() and watch.get(live["metadata"]["uid"]) is None:
                return
            changes.wait(seen, left)
    finally:
        watch.stop()
    holders = ", ".join(live["metadata"].get("finalizers") or ["none"])
    raise Conflict(
        f"Job {live['metadata']['name']} is being deleted and still exists after "
        f"{limits.DELETION_SECONDS:.0f} s (finalizers: {holders})",
        f"kubectl describe job {live['metadata']['name']} shows what holds it",
    )
