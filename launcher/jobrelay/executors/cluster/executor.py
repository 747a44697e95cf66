"""The executor of a Kubernetes cluster."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from jobrelay import manifests
from jobrelay.errors import BadInput, Conflict, JobRelayError
from jobrelay.executors.adoption import Replace, waits_early
from jobrelay.executors.base import Finding, Sink, Submission, Updates, Volume
from jobrelay.executors.cluster import capacity, logs, preflight, submitting
from jobrelay.executors.cluster.api import Api, ApiError, collection
from jobrelay.executors.cluster.doctor import examine_cluster
from jobrelay.executors.cluster.prerequisites import check_prerequisites
from jobrelay.executors.cluster.resources import Resources, collection_of, path_of
from jobrelay.executors.cluster.shared import SharedObjects
from jobrelay.executors.cluster.submitting import refused
from jobrelay.executors.cluster.volume import Say, VolumePod
from jobrelay.executors.cluster.watch import RunUpdates
from jobrelay.kube.labels import ANNOTATION_VERDICT, LABEL_PART_OF, LABEL_PLAN, LABEL_RUN
from jobrelay.kube.objects import AnyObject, Job, Object, Pod
from jobrelay.kube.read import finished_condition, job_that_ran, main_container
from jobrelay.manifests import Manifests, Plan, Reader
from jobrelay.verdicts import Verdict


class ClusterExecutor:
    """Runs Jobs in one namespace of one context. See executors.base.Executor."""

    limits_resources = True

    def __init__(
        self,
        context: str | None,
        namespace: str,
        claim: str,
        image: str,
        api_timeout: float | None = None,
        say: Say = lambda text: None,
        *,
        may_choose_image: bool = False,
        like: Job | None = None,
    ) -> None:
        """say: reports what the launcher waits for while it follows no stage.

        may_choose_image: `image` is a default; the image of a run on the volume can replace it as the
        reader. like: a Job whose container has that image.
        """
        self._say = say
        self.api = Api(context, api_timeout)
        self.namespace = namespace
        self._claim = claim
        self._image = image
        self._like = like
        self._may_choose_image = may_choose_image
        self._minor = 0
        self._resources = Resources(self.api)

    def place(self) -> str:
        return f"context {self.api.context}, namespace {self.namespace}"

    def check(self, plan: Plan) -> None:
        self._may_choose_image = False  # an image that is to run now must be there anyway
        self._minor = preflight.minor_version(self.api)  # not in parallel: it finds out if the API answers
        preflight.check_version(plan, self._minor)
        check_prerequisites(self.api, plan)
        if preflight.may_do_everything(self.api):
            return
        rights = (*preflight.RIGHTS, *(preflight.SERVICE_RIGHTS if plan.services else ()))
        preflight.check_rights(self.api, plan.namespace, rights)
        preflight.check_absent(self.api, self._resources, plan.shared, plan.namespace)

    def share(self, shared: Sequence[Object]) -> None:
        SharedObjects(self.api, self._resources, self.namespace).share(shared)

    def configure(self, config_map: Object) -> None:
        try:
            self.api.create(collection_of(config_map), config_map)
        except ApiError as error:
            # its name has the hash of its content, and it is immutable: an equal one exists
            if error.reason != "AlreadyExists":
                raise refused(config_map, error) from error

    def name_pods(self, service: Object) -> None:
        try:
            self.api.create(collection_of(service), service)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise refused(service, error) from error
            name, run = service["metadata"]["name"], service["metadata"]["labels"][LABEL_RUN]
            if name not in {known["metadata"]["name"] for known in self._services(run)}:
                raise Conflict(
                    f"Service {name} exists and was not created by this launcher", "choose another --run"
                ) from error

    def find_run(self, plan_hash: str) -> str | None:
        jobs = self._jobs(f"{LABEL_PLAN}={plan_hash}")
        return str(jobs[-1]["metadata"]["labels"][LABEL_RUN]) if jobs else None

    def watch(self, plan: Plan) -> AbstractContextManager[Updates]:
        return RunUpdates(self.api, plan.namespace, plan.run, self._claim)

    def submit(self, job: Job, replace: Replace = "if-later") -> Submission:
        job = manifests.for_server(manifests.without_gate(job), self._minor)
        return submitting.submit(self.api, job, replace)

    def resume(self, job: Job) -> None:
        """Do nothing: the cluster runs its Jobs."""

    def start_early(self, job: Job, before: Job, beside: Pod | None) -> Submission | None:
        try:
            if beside and not capacity.is_free_beside(self.api, job, beside, self._claim):
                return None
            early = manifests.for_server(manifests.started_early(job, before), self._minor)
            return Submission(self.api.create(collection_of(early), early), "early")
        except ApiError:
            return None

    def withdraw(self, job: Job) -> None:
        live = self._get(job)
        if live and waits_early(live):
            self.api.delete(path_of(job), uid=live["metadata"]["uid"])

    def stop(self, submission: Submission, verdict: Verdict) -> None:
        patch = {
            "metadata": {"annotations": {ANNOTATION_VERDICT: verdict.to_annotation()}},
            # in the past for every Job that has started: its controller fails it and ends its Pods
            "spec": {"activeDeadlineSeconds": 1},
        }
        live = self._get(submission.job)
        if (
            live is None
            or live["metadata"]["uid"] != submission.job["metadata"]["uid"]
            or finished_condition(live)
        ):
            return
        if not live.get("status", {}).get("startTime"):
            self._delete(live)  # its controller has not picked it up
            return
        self._patch_if_there(live, patch)

    def read_log(self, pod: Pod, container: str, sink: Sink) -> None:
        try:
            logs.read_log(self.api, self._pod_path(pod), container, sink)
        except ApiError as error:
            raise _log_error(error) from error

    def log_tail(self, pod: Pod, container: str, lines: int | None, follow: bool, sink: Sink) -> None:
        try:
            logs.tail_log(self.api, self._pod_path(pod), container, lines, follow, sink)
        except ApiError as error:
            raise _log_error(error) from error

    def jobs(self, run: str | None = None) -> list[tuple[Job, Sequence[Pod]]]:
        selector = f"{LABEL_RUN}={run}" if run else f"{LABEL_PART_OF}=jobrelay,{LABEL_RUN}"
        jobs = self._jobs(selector)
        pods = self._list("v1", "pods", selector)
        owned: dict[str, list[Pod]] = {}
        for pod in pods:
            for owner in pod["metadata"].get("ownerReferences") or ():
                owned.setdefault(owner["uid"], []).append(pod)
        return [(job, owned.get(job["metadata"]["uid"], [])) for job in jobs]

    def volume(self, run: str | None = None) -> AbstractContextManager[Volume]:
        if not self._claim:
            raise BadInput(
                "the Jobs mount no PersistentVolumeClaim: there is no volume to read",
                "add one to spec.template.spec.volumes; the logs are complete without it",
            )
        return VolumePod(self.api, self.namespace, self._claim, self._reader(run), self.share, self._say)

    def _reader(self, run: str | None) -> Reader:
        """What reads the volume: the image of the run, else of any run on the volume, else the default.

        Runs are searched only if you named no image and this launcher has no plan that determines it.
        """
        default = Reader(self._image, self._like)
        if not self._may_choose_image:
            return default
        try:
            jobs = self._jobs(f"{LABEL_PART_OF}=jobrelay,{LABEL_RUN}")
        except BadInput:
            return default  # users who may not list Jobs may still read the volume
        job = job_that_ran(jobs, run, self._claim)
        return Reader(main_container(job)["image"], job) if job else default

    def examine(self, manifests: Manifests) -> list[Finding]:
        return examine_cluster(self.api, manifests, self.namespace, self._image)

    def cancel(self, run: str) -> list[str]:
        alive = [job for job in self._jobs(f"{LABEL_RUN}={run}") if not finished_condition(job)]
        return [job["metadata"]["name"] for job in alive if self._delete(job)]

    def expire(self, run: str, seconds: int) -> bool:
        patch = {"spec": {"ttlSecondsAfterFinished": seconds}}
        answers = [self._patch_if_there(job, patch) for job in self._jobs(f"{LABEL_RUN}={run}")]
        # a server without the feature drops the field: it is behind a gate, off by default before 1.21
        return all(job is None or job["spec"].get("ttlSecondsAfterFinished") == seconds for job in answers)

    def delete(self, run: str) -> list[str]:
        items: list[AnyObject] = list(self._jobs(f"{LABEL_RUN}={run}"))
        items += self._list("v1", "configmaps", f"{LABEL_RUN}={run}")
        items += self._services(run)
        return [f"{item['kind']} {item['metadata']['name']}" for item in items if self._delete(item)]

    def _get(self, job: Job) -> Job | None:
        try:
            live: Job = self.api.get(path_of(job))
            return live
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _patch_if_there(self, job: Job, patch: AnyObject) -> Job | None:
        try:
            patched: Job = self.api.patch(path_of(job), patch)
            return patched
        except ApiError as error:
            if error.status != 404:
                raise
        return None

    def _jobs(self, selector: str) -> list[Job]:
        return self._list("batch/v1", "jobs", selector)

    def _services(self, run: str) -> list[Object]:
        try:
            return self._list("v1", "services", f"{LABEL_RUN}={run}")
        except BadInput:
            return []  # a user who may not list Services created none: only multi-Pod stages need them

    def _list(self, version: str, resource: str, selector: str) -> list[Any]:
        try:
            answer = self.api.get(collection(version, resource, self.namespace), labelSelector=selector)
        except ApiError as error:
            raise BadInput(
                f"{resource} in namespace {self.namespace} cannot be listed: {error.message}"
            ) from error
        kind = answer["kind"].removesuffix("List")
        items = [{**item, "apiVersion": version, "kind": kind} for item in answer.get("items") or ()]
        return sorted(items, key=lambda item: str(item["metadata"]["creationTimestamp"]))

    def _delete(self, item: AnyObject) -> bool:
        return self.api.delete(path_of(item), uid=item["metadata"]["uid"])

    def _pod_path(self, pod: Pod) -> str:
        return f"{collection('v1', 'pods', self.namespace)}/{pod['metadata']['name']}"


def _log_error(error: ApiError) -> Exception:
    if error.status == 404:
        return LookupError(error.message)
    return JobRelayError(f"the log cannot be read: {error.message}")
