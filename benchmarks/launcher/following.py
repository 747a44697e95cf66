"""One process follows many Jobs at once: changes a second, memory, requests to the API.

    .venv/bin/python -m benchmarks.launcher.following --context NAME [--jobs 1000]

The follower submits the Jobs, and follows them by the launcher's own three watches until each has its
verdict. No Pod starts: the Jobs request none (parallelism 0), and this program writes what the scheduler,
kubelet and Job controller would: a Pod that is scheduled, runs, and succeeds, then Complete.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import secrets
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.report import REPOSITORY, finish
from jobrelay.executors.base import Submission
from jobrelay.executors.cluster.api import Api, collection
from jobrelay.executors.cluster.resources import collection_of, path_of
from jobrelay.executors.cluster.watch import RunUpdates
from jobrelay.kube.labels import LABEL_RUN
from jobrelay.manifests import render
from jobrelay.runs.target import Target
from jobrelay.verdicts import Patience, Verdict, judge

Object = dict[str, Any]

RUN = "many"
WRITERS = 8


class CountingApi(Api):
    """Counts the requests."""

    requests = 0

    def _request(self, *arguments: Any) -> Any:
        self.requests += 1
        return super()._request(*arguments)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--context", default=None)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--follow-in", help=argparse.SUPPRESS)  # this is the follower
    asked = parser.parse_args()
    if asked.follow_in:
        follow_all(asked.context, asked.follow_in, asked.jobs)
        return
    api = Api(asked.context)
    namespace = f"jobrelay-bench-{secrets.token_hex(3)}"
    api.create(
        "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    )
    command = [sys.executable, "-m", "benchmarks.launcher.following", "--jobs", str(asked.jobs)]
    command += ["--follow-in", namespace, *(["--context", asked.context] if asked.context else [])]
    try:
        follower = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert follower.stdout
        assert follower.stdout.readline() == "submitted\n"
        begun = time.perf_counter()
        jobs = api.get(collection("batch/v1", "jobs", namespace))["items"]
        with ThreadPoolExecutor(WRITERS) as threads:
            list(threads.map(lambda job: play(api, namespace, job), jobs))
        written = time.perf_counter() - begun
        found = json.loads(follower.communicate()[0])
    finally:
        api.delete(f"/api/v1/namespaces/{namespace}")
    assert found["succeeded"] == asked.jobs, found
    rows = [
        ("Jobs followed to Complete by one process", str(asked.jobs), ""),
        ("its peak memory, MiB", f"{found['peak_mib']:.0f}", "≤ 200"),
        ("its requests to the API, a Job", f"{found['requests'] / asked.jobs:.2f}", "≤ 5"),
        ("changes that it was told of", str(found["changes"]), ""),
        ("written in, s; changes a second", f"{written:.1f}; {found['changes'] / written:.0f}", ""),
        ("from the last one written to the last verdict, s", f"{found['ended'] - begun - written:.2f}", ""),
        ("its CPU, ms a change", f"{found['cpu_seconds'] / found['changes'] * 1000:.2f}", ""),
    ]
    finish("following", rows, found | {"written_seconds": written})


def follow_all(context: str | None, namespace: str, count: int) -> None:
    """Submit `count` Jobs and wait for the verdicts; print the cost to stdout."""
    target = Target(context=context, namespace=namespace)
    executor: Any = target.executor()
    executor.api = api = CountingApi(context)
    plan = render(target.manifests, target.config(None, []), RUN, namespace=namespace)
    with RunUpdates(api, namespace, RUN, "jobrelay") as updates:
        with ThreadPoolExecutor(WRITERS) as threads:
            names = [f"{RUN}-{number:04}" for number in range(count)]
            waiting = dict(
                zip(names, threads.map(lambda n: submit(executor, plan.jobs["train"], n), names), strict=True)
            )
        print("submitted", flush=True)
        verdicts = []
        before, changes_before = time.process_time(), updates.seen()
        while waiting:
            seen = updates.seen()
            for name, submission in list(waiting.items()):
                judged = judge(updates.view(submission), Patience())
                if isinstance(judged, Verdict):
                    verdicts.append(judged)
                    del waiting[name]
            if waiting:
                updates.wait(seen, None)
    print(
        json.dumps(
            {
                "ended": time.perf_counter(),
                "succeeded": sum(verdict.outcome == "succeeded" for verdict in verdicts),
                "requests": api.requests,
                "changes": updates.seen() - changes_before,
                "cpu_seconds": time.process_time() - before,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def submit(executor: Any, job: Object, name: str) -> Submission:
    job = copy.deepcopy(job)
    job["metadata"]["name"] = name
    job["spec"]["parallelism"] = 0
    submission: Submission = executor.submit(job)
    return submission


def play(api: Api, namespace: str, job: Object) -> None:
    """Write what happens to a Job in a cluster, as the API would show it."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{job['metadata']['name']}-{secrets.token_hex(3)}",
            "namespace": namespace,
            "labels": {LABEL_RUN: RUN},
            # no controller: the real one would delete a Pod that the Job does not request
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job"}
                | {key: job["metadata"][key] for key in ("name", "uid")}
            ],
        },
        "spec": {
            **job["spec"]["template"]["spec"],
            "schedulerName": "nobody",
            "serviceAccountName": "default",
        },
    }
    api.create(collection_of(pod), pod)
    scheduled = [{"type": "PodScheduled", "status": "True"}]
    name = job["spec"]["template"]["spec"]["containers"][0]["name"]
    base = {"name": name, "image": "", "imageID": "", "ready": False, "restartCount": 0}
    for phase, state in (
        ("Pending", {"waiting": {"reason": "ContainerCreating"}}),
        ("Running", {"running": {}}),
        ("Succeeded", {"terminated": {"exitCode": 0, "reason": "Completed"}}),
    ):
        status = {"phase": phase, "conditions": scheduled, "containerStatuses": [{**base, "state": state}]}
        api.patch(f"{path_of(pod)}/status", {"status": status})
    complete = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    api.patch(f"{path_of({**job, 'apiVersion': 'batch/v1', 'kind': 'Job'})}/status", complete)


if __name__ == "__main__":
    main()
