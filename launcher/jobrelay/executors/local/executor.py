"""The executor of this machine: the same rendered Jobs, as processes."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from jobrelay.errors import BadInput, JobRelayError
from jobrelay.executors.adoption import Replace, adopt, waits_early
from jobrelay.executors.base import Finding, Sink, Submission, Updates, Volume, last_lines
from jobrelay.executors.local import contact, ending, job_folder, layout
from jobrelay.executors.local.checking import check_plan
from jobrelay.executors.local.configs import contents_of
from jobrelay.executors.local.doctor import examine_machine, has_memory_for
from jobrelay.executors.local.job_folder import on_volume
from jobrelay.executors.local.updates import LocalUpdates
from jobrelay.executors.local.volume import LocalVolume
from jobrelay.kube.labels import ANNOTATION_VERDICT, LABEL_PLAN, LABEL_RUN
from jobrelay.kube.objects import Job, Object, Pod
from jobrelay.kube.read import finished_condition
from jobrelay.manifests import Manifests, Plan, started_early, without_gate
from jobrelay.verdicts import Verdict
from jobrelay_runner.volume import safe_read
from jobrelay_runner.volume.files import write_atomically


class LocalExecutor:
    """Runs Jobs as processes in a folder that stands for the volume. See executors.base.Executor."""

    limits_resources = False

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def place(self) -> str:
        return f"this machine, volume {self.root}"

    def check(self, plan: Plan) -> None:
        """Raise BadInput for a Job that processes cannot run, or a folder that belongs to another user."""
        check_plan(plan, self.root)
        if why := job_folder.unwritable(self.root):
            raise BadInput(f"the volume {self.root} cannot be used: {why}", job_folder.OTHER_FOLDER)

    def share(self, shared: Sequence[Object]) -> None:
        with on_volume(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            for item in shared:
                if item["kind"] == "ConfigMap":
                    self.configure(item)

    def configure(self, config_map: Object) -> None:
        with on_volume(self.root):
            folder = layout.config_folder(self.root, config_map["metadata"]["name"])
            folder.mkdir(parents=True, exist_ok=True)
            job_folder.require_own(folder)
            for name, content in contents_of(config_map).items():
                # atomically: a Job that is being adopted may be reading it
                write_atomically(folder / name, content)

    def name_pods(self, service: Object) -> None:
        """Do nothing: on one machine the Pods find each other through the volume."""

    def find_run(self, plan_hash: str) -> str | None:
        runs = [job for job, _ in self.jobs() if job["metadata"]["labels"].get(LABEL_PLAN) == plan_hash]
        return str(runs[-1]["metadata"]["labels"][LABEL_RUN]) if runs else None

    def watch(self, plan: Plan) -> AbstractContextManager[Updates]:
        return contextlib.nullcontext(LocalUpdates(self.root))

    def resume(self, job: Job) -> None:
        with on_volume(self.root):
            contact.ensure_runner(layout.job_folder(self.root, job["metadata"]["name"]))

    def start_early(self, job: Job, before: Job, beside: Pod | None) -> Submission | None:
        folder = layout.job_folder(self.root, job["metadata"]["name"])
        with on_volume(self.root):
            if (beside and not has_memory_for(job)) or not job_folder.create(
                folder, started_early(job, before)
            ):
                return None
            return self._started(folder, "early")

    def withdraw(self, job: Job) -> None:
        folder = layout.job_folder(self.root, job["metadata"]["name"])
        with contextlib.suppress(FileNotFoundError), on_volume(self.root):  # it never existed
            if waits_early(job_folder.read_state(folder)["job"]):
                ending.end(folder)

    def submit(self, job: Job, replace: Replace = "if-later") -> Submission:
        job = without_gate(job)
        folder = layout.job_folder(self.root, job["metadata"]["name"])
        how: Literal["created", "replaced"] = "created"
        # one launcher at a time, or the slower one would remove what the faster has created
        with on_volume(self.root), layout.one_at_a_time(self.root):
            while True:
                if job_folder.create(folder, job):
                    return self._started(folder, how)
                try:
                    job_folder.require_own(folder)
                    if job_folder.is_torn(folder):
                        layout.remove(folder)
                        continue
                    live = job_folder.read_state(folder)["job"]
                except FileNotFoundError:
                    continue  # removed meanwhile
                if adopt(job, live, replace):
                    if not finished_condition(live):
                        contact.ensure_runner(folder)
                    return Submission(live, "adopted")
                how = "replaced"
                layout.remove(folder)

    def stop(self, submission: Submission, verdict: Verdict) -> None:
        folder = layout.job_folder(self.root, submission.name)
        annotations = {ANNOTATION_VERDICT: verdict.to_annotation()}
        with contextlib.suppress(FileNotFoundError), on_volume(self.root):  # it was deleted meanwhile
            ending.give_up(folder, annotations)

    def read_log(self, pod: Pod, container: str, sink: Sink) -> None:
        folder = layout.job_folder(self.root, _job_name(pod))
        path = folder / layout.log_name(pod, container)
        with safe_read.open_regular(path) as log:
            for state in contact.messages(folder):
                while chunk := log.read(65536):
                    sink(chunk)
                if _has_ended(state, pod, container):
                    break
            while chunk := log.read(65536):
                sink(chunk)

    def log_tail(self, pod: Pod, container: str, lines: int | None, follow: bool, sink: Sink) -> None:
        path = layout.job_folder(self.root, _job_name(pod)) / layout.log_name(pod, container)
        if not path.exists():
            raise LookupError(f"{path} is gone")
        if follow and lines is None:
            self.read_log(pod, container, sink)
            return
        with safe_read.open_regular(path) as log:
            content = log.read()
        sink(last_lines(content, lines))
        if follow:
            self.read_log(pod, container, _skipping(len(content), sink))

    def jobs(self, run: str | None = None) -> list[tuple[Job, Sequence[Pod]]]:
        states = []
        for folder in job_folder.folders(self.root):
            try:
                states.append(job_folder.read_state(folder))
            except (FileNotFoundError, NotADirectoryError):  # deleted meanwhile, or no Job
                continue
            except (OSError, JobRelayError) as error:  # another user's, or not a state of ours
                if run is not None and folder.name.rpartition("-")[0] == run:
                    raise job_folder.unreadable(folder, error) from error
        states.sort(key=lambda state: str(state["job"]["metadata"]["creationTimestamp"]))
        return [
            (state["job"], state["pods"])
            for state in states
            if run in (None, state["job"]["metadata"]["labels"].get(LABEL_RUN))
        ]

    def volume(self, run: str | None = None) -> AbstractContextManager[Volume]:
        return contextlib.nullcontext(LocalVolume(self.root))

    def examine(self, manifests: Manifests) -> list[Finding]:
        return examine_machine(self.root, manifests)

    def cancel(self, run: str) -> list[str]:
        return self._end(
            [job["metadata"]["name"] for job, _ in self.jobs(run) if not finished_condition(job)]
        )

    def expire(self, run: str, seconds: int) -> bool:
        return False  # there is no controller here; `delete` removes them

    def delete(self, run: str) -> list[str]:
        names = self._end([job["metadata"]["name"] for job, _ in self.jobs(run)])
        configs = sorted((self.root / layout.JOBS / layout.CONFIG).glob(f"{run}-config-*"))
        with on_volume(self.root):
            for config in configs:
                shutil.rmtree(config)
        return [f"Job {name}" for name in names] + [f"ConfigMap {config.name}" for config in configs]

    def _started(self, folder: Path, how: Literal["created", "early", "replaced"]) -> Submission:
        """Start the runner of a new Job; if it cannot start, remove the Job."""
        try:
            contact.start_runner(folder)
        except JobRelayError:
            layout.remove(folder)
            raise
        return Submission(job_folder.read_state(folder)["job"], how)

    def _end(self, names: Sequence[str]) -> list[str]:
        """End as many of the Jobs as possible; returns their names. Raises JobRelayError."""
        ended, failures = [], []
        for name in names:
            try:
                with (
                    contextlib.suppress(FileNotFoundError),
                    on_volume(self.root),
                ):  # another process ended it meanwhile
                    ending.end(layout.job_folder(self.root, name))
                ended.append(name)
            except JobRelayError as error:
                failures.append(error)
        if not failures:
            return ended
        done = f"\n  Job {', '.join(ended)}: stopped" if ended else ""
        raise type(failures[0])("\n  ".join(error.what for error in failures) + done, failures[0].hint)


def _job_name(pod: Pod) -> str:
    """The name of the Job that owns a Pod."""
    return str(pod["metadata"]["ownerReferences"][0]["name"])


def _has_ended(state: Object, pod: Pod, container: str) -> bool:
    for known in state.get("pods") or ():
        if known["metadata"]["name"] != pod["metadata"]["name"]:
            continue
        statuses = [*known["status"]["initContainerStatuses"], *known["status"]["containerStatuses"]]
        return any(s["name"] == container and "terminated" in s["state"] for s in statuses)
    return False


def _skipping(count: int, sink: Sink) -> Callable[[bytes], None]:
    left = count

    def give(chunk: bytes) -> None:
        nonlocal left
        skipped = min(left, len(chunk))
        left -= skipped
        if chunk[skipped:]:
            sink(chunk[skipped:])

    return give
