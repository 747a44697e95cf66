"""What a user is told of a Job, from what the API shows. The ids are rows of the catalogue of faults.

The texts are those of real servers: Kubernetes 1.20 with containerd 1.4, and 1.36 with containerd 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrelay.errors import Exit
from jobrelay.figures import clock
from jobrelay.kube.ends import closing_of
from jobrelay.kube.labels import ANNOTATION_VERDICT
from jobrelay.kube.read import last_pod
from jobrelay.verdicts import JobView, Patience, Verdict, Waiting, judge
from tests.support import objects as o

Object = dict[str, Any]
PATIENCE = Patience()
POD = "mnist-a-train-x7k2p"
TRAIN = o.job()

COMPLETE_120 = o.condition("Complete")  # 1.20 gives neither reason nor message
COMPLETE_136 = o.condition(
    "Complete", "True", "CompletionsReached", "Reached expected number of succeeded pods"
)
CRITERIA_MET = o.condition(
    "SuccessCriteriaMet", "True", "CompletionsReached", "Reached expected number of succeeded pods"
)
BACKOFF = o.condition("Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
POLICY_TEXT = (
    f"Container train for pod jobrelay/{POD} failed with exit code 78 matching FailJob rule at index 0"
)
POLICY = o.condition("Failed", "True", "PodFailurePolicy", POLICY_TEXT)
JOB_DEADLINE = o.condition(
    "Failed", "True", "DeadlineExceeded", "Job was active longer than specified deadline"
)


def view(job: Object | None, *pods: Object, events: Sequence[Object] = ()) -> JobView:
    return JobView(job, list(pods), list(events))


def ended(seen: JobView) -> Verdict:
    verdict = judge(seen, PATIENCE)
    assert isinstance(verdict, Verdict), verdict
    return verdict


def waits(seen: JobView) -> Waiting:
    waiting = judge(seen, PATIENCE)
    assert isinstance(waiting, Waiting), waiting
    return waiting


# --- Jobs that have ended ------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """A view, and what its verdict must say. message, hint: parts of it."""

    row: str
    seen: JobView
    exit_code: Exit
    outcome: str
    reason: str
    message: str
    hint: str = ""
    pod: str | None = POD


def one(row: str, condition: Object, status: Object, *expected: Any, **more: Any) -> Ended:
    """One failed Pod with one container, and the Job's condition."""
    job = o.job("train", condition)
    return Ended(row, view(job, o.failed(job, status)), *expected, **more)


def evicted(row: str, reason: str, message: str, **status: Any) -> Ended:
    job = o.job("train", BACKOFF)
    pod = o.pod(job, "Failed", reason=reason, message=message, **status)
    hint = "the same command again"
    return Ended(row, view(job, pod), Exit.DISRUPTED, "disrupted", reason, message, hint)


DISRUPTED = [
    evicted("32-evicted-for-memory", "Evicted", "The node was low on resource: memory."),
    evicted(
        "32-evicted-with-condition", "Evicted", "Usage of EmptyDir volume \"tmp\" exceeds the limit.",
        conditions=[o.condition("DisruptionTarget", "True", "TerminationByKubelet")],
        containerStatuses=[o.terminated(137)],
    ),
    evicted("32-node-shutdown-1.20", "Shutdown", "Node is shutting, evicting pods"),
    evicted("32-node-shutdown-1.36", "Terminated",
            "Pod was terminated in response to imminent node shutdown."),
    evicted("32-node-shutting-down", "NodeShutdown", "Pod was rejected as the node is shutting down."),
    evicted("32-preempted-by-kubelet", "Preempting", "Preempted in order to admit critical pod"),
]  # fmt: skip

_SHIM = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
    'failed: unable to start container process: exec: "/nope": stat /nope: no such file or directory: unknown'
)
_DOCKER = (
    'OCI runtime create failed: container_linux.go:370: starting container process caused: exec: "/nope": '
    "permission denied: unknown"
)

ENDED = [
    one("26-exit-42", BACKOFF, o.terminated(42),
        Exit.FAILED, "failed", "Error", "exit code 42", "launcher logs mnist-a train"),
    one("26-says-why-itself", BACKOFF,
        o.terminated(1, message=o.closing(code=1, error="loss is NaN at step 7")),
        Exit.FAILED, "failed", "Error", "loss is NaN at step 7"),
    one("26-says-nothing-of-ours", BACKOFF, o.terminated(1, message="Traceback (most recent …"),
        Exit.FAILED, "failed", "Error", "exit code 1: Traceback (most recent …"),
    one("26-refuses-its-configuration", POLICY,
        o.terminated(78, message=o.closing(code=78, error="data.mirror: no answer")),
        Exit.BAD_INPUT, "failed", "Error", "data.mirror: no answer"),
    one("26-refuses-and-cannot-say-why", POLICY, o.terminated(78),
        Exit.BAD_INPUT, "failed", "Error", "refuses its configuration or data"),
    one("55-input-is-another-one", POLICY, o.terminated(65),
        Exit.INCOMPLETE, "failed", "Error", "an input differs from its record"),
    one("22-start-error-1.20", BACKOFF, o.terminated(128, "StartError", _SHIM),
        Exit.COULD_NOT_START, "could not start", "StartError", 'exec: "/nope"', "is not in the image"),
    one("22-cannot-run-126", BACKOFF, o.terminated(126, "ContainerCannotRun", _DOCKER),
        Exit.COULD_NOT_START, "could not start", "ContainerCannotRun", "permission denied",
        "is not in the image"),
    one("22-cannot-run-127", BACKOFF, o.terminated(127, "ContainerCannotRun", _DOCKER),
        Exit.COULD_NOT_START, "could not start", "ContainerCannotRun", "permission denied",
        "is not in the image"),
    one("31-main-process", BACKOFF, o.terminated(137, "OOMKilled"),
        Exit.FAILED, "failed", "OOMKilled", "out of memory (limit 2.0 GiB)", "--set train.memory=4Gi"),
    one("31-worker-killed-main-tells-the-peak", BACKOFF,  # cgroup v1 kills the worker alone
        o.terminated(1, "OOMKilled", o.closing(code=1, error="a worker died", peak_bytes=2**31)),
        Exit.FAILED, "failed", "OOMKilled", "limit 2.0 GiB, peak 2.0 GiB", "train.memory=4Gi"),
    one("31-the-stage-was-killed-and-its-supervisor-tells", BACKOFF,
        o.terminated(137, message=o.closing(code=137, error="out of memory: …", oom_kills=1)),
        Exit.FAILED, "failed", "OOMKilled", "out of memory (limit 2.0 GiB, peak 812 MiB)",
        "--set train.memory=4Gi"),
    one("34-superseded", BACKOFF,
        o.terminated(75, message=o.closing(code=75, error="another process has taken over (pod b)")),
        Exit.DISRUPTED, "disrupted", "Superseded", "taken over (pod b)", "the same command"),
    one("34-superseded-without-a-word", BACKOFF, o.terminated(75),
        Exit.DISRUPTED, "disrupted", "Superseded", "another process of this stage has taken over"),
    one("31-bare-137", BACKOFF, o.terminated(137),
        Exit.FAILED, "failed", "Error", "SIGKILL: out of memory, or killed from outside"),
    Ended("28-failed-and-its-pod-is-gone", view(o.job("train", BACKOFF)),
          Exit.FAILED, "failed", "BackoffLimitExceeded", "specified backoff limit (its Pod is gone)",
          "python launcher logs mnist-a train", pod=None),
    Ended("29-job-deadline-pods-gone", view(o.job("train", JOB_DEADLINE)),
          Exit.OUT_OF_TIME, "out of time", "DeadlineExceeded", "active longer than specified deadline",
          "--set train.timeout_seconds=", pod=None),
    Ended("29-job-deadline-pod-killed",
          view(job := o.job("train", JOB_DEADLINE), o.failed(job, o.terminated(143))),
          Exit.OUT_OF_TIME, "out of time", "DeadlineExceeded", "active longer than specified deadline",
          "the same command with --set train.timeout_seconds=28800"),
    Ended("29-pod-deadline",
          view(job := o.job("train", BACKOFF),
               o.failed(job, o.terminated(143), reason="DeadlineExceeded",
                        message="Pod was active on the node longer than the specified deadline")),
          Exit.OUT_OF_TIME, "out of time", "DeadlineExceeded", "longer than the specified deadline",
          "--set train.timeout_seconds="),
    Ended("29-pod-deadline-before-the-job-has-ended",
          view(TRAIN, o.failed(TRAIN, o.terminated(137), reason="DeadlineExceeded",
                               message="Pod was active on the node longer than the specified deadline")),
          Exit.OUT_OF_TIME, "out of time", "DeadlineExceeded", "longer than the specified deadline"),
    Ended("22-start-error-is-final-before-the-job-has-ended",
          view(TRAIN, o.failed(TRAIN, o.terminated(128, "StartError", _SHIM))),
          Exit.COULD_NOT_START, "could not start", "StartError", "/nope"),
    Ended("26-bad-configuration-is-final-where-there-is-no-failure-policy",  # before 1.26
          view(TRAIN, o.failed(TRAIN, o.terminated(78))),
          Exit.BAD_INPUT, "failed", "Error", "refuses its configuration"),
    Ended("32-deleted-by-the-eviction-api",
          view(job := o.job("train", BACKOFF),
               o.failed(job, o.terminated(143), conditions=[
                   o.condition("DisruptionTarget", "True", "EvictionByEvictionAPI",
                               "Eviction API: evicting")])),
          Exit.DISRUPTED, "disrupted", "EvictionByEvictionAPI", "Eviction API: evicting", "the same command"),
    Ended("23-refused-by-the-node",
          view(job := o.job("train", BACKOFF),
               o.pod(job, "Failed", reason="OutOfcpu", message="Pod was rejected: Node didn't have enough "
                     "resource: cpu, requested: 1000, used: 7200, capacity: 8000")),
          Exit.COULD_NOT_START, "could not start", "OutOfcpu", "requested: 1000, used: 7200"),
    one("36-node-restart-containerd", BACKOFF, o.terminated(255, "Unknown"),
        Exit.DISRUPTED, "disrupted", "Unknown", "its node does not know how it ended", "the same command"),
    one("36-node-restart-kubelet", BACKOFF,
        o.terminated(137, "ContainerStatusUnknown", "The container could not be located when the pod was …"),
        Exit.DISRUPTED, "disrupted", "ContainerStatusUnknown", "could not be located", "the same command"),
    Ended("38-deleted", view(None), Exit.DISRUPTED, "disrupted", "Deleted", "was deleted while",
          "the same command again", pod=None),
    Ended("26-the-gate-fails",  # kubectl alone: the stage before has failed
          view(job := o.job("eval", BACKOFF),
               o.pod(job, "Failed", initContainerStatuses=[o.terminated(1, name="gate")],
                     containerStatuses=[o.waiting("PodInitializing", name="eval")])),
          Exit.FAILED, "failed", "Error", "container gate: exit code 1", pod="mnist-a-eval-x7k2p"),
    *DISRUPTED,
]  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param(case, id=f"row-{case.row}") for case in ENDED])
def test_a_job_that_has_not_succeeded(case: Ended) -> None:
    verdict = ended(case.seen)

    assert (verdict.exit_code, verdict.outcome) == (case.exit_code, case.outcome)
    assert verdict.reason == case.reason
    assert case.message in verdict.message
    assert case.hint in str(verdict.hint)
    assert verdict.pod == case.pod


def test_the_plainest_failure_is_told_plainly() -> None:
    job = o.job("train", BACKOFF)
    verdict = ended(view(job, o.failed(job, o.terminated(42))))
    assert (verdict.message, verdict.container_exit) == ("exit code 42", 42)


def test_a_refusal_of_one_node_is_not_the_end() -> None:
    refused = o.pod(TRAIN, "Failed", reason="OutOfcpu", message="Pod was rejected: …")
    assert waits(view(TRAIN, refused)).phase == "finishing"


def test_what_users_are_promised() -> None:
    # the scoreboard: what is final within 15 seconds, no Pod within 35
    assert max(PATIENCE.bad_image, 0) <= 15
    assert max(PATIENCE.no_pod, PATIENCE.bad_config) <= 35
    assert PATIENCE.no_registry < PATIENCE.start


@pytest.mark.parametrize(
    "conditions",
    [[COMPLETE_120], [COMPLETE_136], [CRITERIA_MET, COMPLETE_136]],
    ids=["1.20", "1.30", "row-27-1.36"],
)
def test_a_job_that_is_complete(conditions: list[Object]) -> None:
    job = o.job("train", *conditions)
    first = o.failed(job, o.terminated(1))
    second = o.pod(
        job, "Succeeded", "b", "2026-11-21T14:30:00Z", containerStatuses=[o.terminated(0, "Completed")]
    )
    verdict = ended(view(job, second, first))

    assert (verdict.exit_code, verdict.outcome) == (Exit.SUCCEEDED, "succeeded")
    assert verdict.container_exit == 0
    assert verdict.pod == "mnist-a-train-b"


def test_a_complete_job_whose_pod_is_gone_or_was_out_of_memory_once_has_succeeded() -> None:
    job = o.job("train", COMPLETE_136)
    survived = o.pod(job, "Succeeded", containerStatuses=[o.terminated(0, "OOMKilled")])

    assert ended(view(job)).exit_code == Exit.SUCCEEDED
    assert ended(view(job, survived)).exit_code == Exit.SUCCEEDED


@pytest.mark.parametrize("row", ["38", "18-suspended", "26"], ids="row-{}".format)
def test_deletion_is_looked_for_first(row: str) -> None:
    pods = {"38": [], "18-suspended": [], "26": [o.failed(TRAIN, o.terminated(42))]}[row]
    assert ended(view(None, *pods)).reason == "Deleted"


def test_the_newest_failed_pod_tells_why() -> None:
    job = o.job("train", BACKOFF)
    old = o.failed(job, o.terminated(137, "OOMKilled"))
    new = o.pod(
        job, "Failed", "newer", "2026-11-21T15:00:00Z",
        containerStatuses=[o.terminated(1, message=o.closing(code=1, error="disk full"))],
    )  # fmt: skip
    assert ended(view(job, new, old)).message == "exit code 1: disk full"
    assert last_pod([new, old]) is new
    assert last_pod([]) is None


def test_a_job_that_was_given_up_keeps_why() -> None:
    why = Verdict(
        Exit.COULD_NOT_START, "could not start", "ImagePullBackOff", "no such image", POD, hint="load it"
    )
    job = o.job("train", JOB_DEADLINE, annotations={ANNOTATION_VERDICT: why.to_annotation()})
    assert ended(view(job)) == why


@given(st.text() | st.sampled_from(["null", "[]", "{}", '{"exit_code": 99}', '{"exit_code": 3}', "3", '"x"']))
def test_an_annotation_that_somebody_else_wrote_is_ignored(text: str) -> None:
    job = o.job("train", JOB_DEADLINE, annotations={ANNOTATION_VERDICT: text})
    assert ended(view(job)).exit_code == Exit.OUT_OF_TIME


# --- Jobs that go on -----------------------------------------------------------------------------

_REF = 'failed to resolve reference "docker.io/library/nope:1"'
_PULL_DENIED = (
    'rpc error: code = Unknown desc = failed to pull and unpack image "docker.io/library/nope:1": '
    f"{_REF}: pull access denied, repository does not exist or may require authorization: server message: "
    "insufficient_scope: authorization failed"
)
_PULL_NOT_FOUND = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/library/nope:1": '
    f"{_REF}: docker.io/library/nope:1: not found"
)
_PULL_NO_HOST = (
    'failed to pull and unpack image "registry.invalid/nope:1": failed to resolve reference '
    '"registry.invalid/nope:1": failed to do request: Head "https://registry.invalid/v2/nope/manifests/1": '
    "dial tcp: lookup registry.invalid on 10.96.0.10:53: no such host"
)
_PULL_REFUSED = (
    'failed to do request: Head "https://10.0.0.9:5000/v2/nope/manifests/1": dial tcp 10.0.0.9:5000: '
    "connect: connection refused"
)
_PULL_RATE = (
    f"{_REF}: unexpected status from HEAD request to https://registry-1.docker.io/v2/library/nope/manifests/1:"
    " 429 Too Many Requests"
)
_PULL_TLS = "failed to do request: Head …: net/http: TLS handshake timeout"
_CPU_120 = "0/1 nodes are available: 1 Insufficient cpu."
_CPU_136 = (
    "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are "
    "available: 1 No preemption victims found for incoming pod."
)
_PSA = (
    'Error creating: pods "mnist-a-train-x7k2p" is forbidden: violates PodSecurity "restricted:latest": '
    'runAsNonRoot != true (pod or container "train" must set securityContext.runAsNonRoot=true)'
)
_ACCOUNT = (
    'Error creating: pods "mnist-a-train-" is forbidden: error looking up service account '
    'jobrelay/nobody: serviceaccount "nobody" not found'
)
_QUOTA = (
    'Error creating: pods "mnist-a-train-5zflx" is forbidden: exceeded quota: q, requested: pods=1, used: '
    "pods=0, limited: pods=0"
)


@dataclass(frozen=True)
class Late:
    """A view that may last `seconds`, and what is told if it lasts longer."""

    row: str
    seen: JobView
    phase: str
    seconds: float
    reason: str
    message: str
    hint: str = ""
    exit_code: Exit = Exit.COULD_NOT_START


def no_pod(row: str, message: str, seconds: float) -> Late:
    seen = view(TRAIN, events=[o.event(TRAIN, "FailedCreate", message)])
    return Late(
        row, seen, "starting", seconds, "FailedCreate", message, "change the manifest, the quota or the"
    )


def blocked(
    row: str, reason: str, message: str, seconds: float, said: str, hint: str = "", pulled: str = ""
) -> Late:
    """A container that waits. pulled: the event beside a waiting message that says nothing."""
    pod = o.pending(TRAIN, o.waiting(reason, message))
    events = [
        o.event(pod, "Scheduled", f"Successfully assigned jobrelay/{POD} to {o.NODE}", "Normal"),
        o.event(pod, "Pulling", 'Pulling image "nope:1"', "Normal"),
        *([o.event(pod, "Failed", f'Failed to pull image "nope:1": {pulled}')] if pulled else []),
        o.event(pod, "Failed", f"Error: {reason}"),
    ]
    return Late(row, view(TRAIN, pod, events=events), "starting", seconds, reason, said, hint)


def unscheduled(row: str, message: str, said: str, *events: Object, hint: str = "", reason: str = "") -> Late:
    why = o.condition("PodScheduled", "False", reason or "Unschedulable", message)
    pod = o.pod(TRAIN, "Pending", conditions=[why])
    seen = view(TRAIN, pod, events=[o.event(pod, "FailedScheduling", message), *events])
    return Late(row, seen, "scheduling", PATIENCE.schedule, reason or "Unschedulable", said, hint)


def stuck(row: str, reason: str, message: str) -> Late:
    pod = o.pending(TRAIN, o.waiting("ContainerCreating"))
    return Late(
        row,
        view(TRAIN, pod, events=[o.event(pod, reason, message)]),
        "starting",
        PATIENCE.start,
        reason,
        message,
    )


_SUSPENDED = o.condition("Suspended", "True", "JobSuspended", "Job suspended")
_IMAGE_HINT = "build and load the image"

LATE = [
    no_pod("15-pod-security", _PSA, PATIENCE.no_pod),
    no_pod("16-service-account", _ACCOUNT, PATIENCE.no_pod),
    no_pod("17-quota", _QUOTA, PATIENCE.start),
    Late("15-no-event-at-all", view(TRAIN), "starting", PATIENCE.no_pod, "NoPod", "Job controller running?"),
    Late("32-the-next-pod-takes-its-time", JobView(TRAIN, [], [], [o.pod(TRAIN)]), "starting",
         PATIENCE.next_pod, "NoPod", "to replace the one that is gone"),
    Late("32-re-attached-between-two-pods", view(TRAIN, events=[
             o.event(TRAIN, "FailedCreate", _QUOTA), o.event(TRAIN, "SuccessfulCreate", "Created pod: a")]),
         "starting", PATIENCE.next_pod, "NoPod", "to replace the one that is gone"),
    Late("32-the-next-pod-is-refused", JobView(TRAIN, [], [
             o.event(TRAIN, "SuccessfulCreate", "Created pod: a"), o.event(TRAIN, "FailedCreate", _ACCOUNT)],
             [o.pod(TRAIN)]),
         "starting", PATIENCE.no_pod, "FailedCreate", _ACCOUNT),
    Late("18-suspended-1.20", view(o.job(suspend=True)), "queued", PATIENCE.queue, "Suspended", "a queue"),
    Late("18-suspended-1.36", view(o.job("train", _SUSPENDED, suspend=True)), "queued", PATIENCE.queue,
         "Suspended", "has not admitted the Job", "kubectl describe job"),
    Late("18-suspended-again-while-a-pod-ends", view(job := o.job("train", _SUSPENDED), o.pod(job)), "queued",
         PATIENCE.queue, "Suspended", "a queue"),
    Late("18-another-controller",
         view(o.job(status={"startTime": None}, managedBy="kueue.x-k8s.io/multikueue")),
         "queued", PATIENCE.queue, "Suspended", "kueue.x-k8s.io/multikueue has not admitted the Job"),
    Late("18-a-gate-holds-the-pod",
         view(TRAIN, {**(gated := o.pod(TRAIN, "Pending", conditions=[
             o.condition("PodScheduled", "False", "SchedulingGated", "Scheduling is blocked")])),
             "spec": {**gated["spec"], "schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}}),
         "queued", PATIENCE.queue, "Suspended", "scheduling gate kueue.x-k8s.io/admission has not admitted"),
    blocked("19-not-found", "ErrImagePull", _PULL_NOT_FOUND, PATIENCE.bad_image, "nope:1: not found",
            _IMAGE_HINT),
    blocked("19-access-denied", "ErrImagePull", _PULL_DENIED, PATIENCE.bad_image, "pull access denied"),
    blocked("19-back-off-1.20", "ImagePullBackOff", 'Back-off pulling image "nope:1"', PATIENCE.bad_image,
            "nope:1: not found", _IMAGE_HINT, pulled=_PULL_NOT_FOUND),
    blocked("19-back-off-1.36", "ImagePullBackOff",
            f'Back-off pulling image "nope:1": ErrImagePull: {_PULL_NOT_FOUND}', PATIENCE.bad_image,
            "nope:1: not found"),
    blocked("19-unreachable-registry", "ErrImagePull", _PULL_NO_HOST, PATIENCE.no_registry, "no such host"),
    blocked("19-unreachable-back-off-1.20", "ImagePullBackOff", 'Back-off pulling image "registry.invalid/x"',
            PATIENCE.no_registry, "no such host", pulled=_PULL_NO_HOST),
    blocked("19-registry-refuses", "ErrImagePull", _PULL_REFUSED, PATIENCE.no_registry, "connection refused"),
    blocked("19-transient-rate-limit", "ErrImagePull", _PULL_RATE, PATIENCE.start, "429 Too Many Requests"),
    blocked("19-transient-tls", "ErrImagePull", _PULL_TLS, PATIENCE.start, "TLS handshake timeout"),
    blocked("19-transient-back-off-without-event", "ImagePullBackOff", 'Back-off pulling image "nope:1"',
            PATIENCE.start, "Back-off pulling image"),
    blocked("20-invalid-name", "InvalidImageName",
            'Failed to apply default image tag "A:B": couldn\'t parse image reference "A:B": invalid '
            "reference format: repository name must be lowercase", 0, "must be lowercase", _IMAGE_HINT),
    blocked("20-never-pull", "ErrImageNeverPull",
            'Container image "nothing:1" is not present with pull policy of Never', 0, "pull policy of Never",
            _IMAGE_HINT),
    blocked("21-no-secret", "CreateContainerConfigError", 'secret "no-such-secret" not found',
            PATIENCE.bad_config, 'secret "no-such-secret" not found', "create the object that the message"),
    blocked("21-no-key", "CreateContainerConfigError", "couldn't find key k in Secret jobrelay/s",
            PATIENCE.bad_config, "couldn't find key k in Secret jobrelay/s"),
    blocked("21-no-container", "CreateContainerError", 'failed to reserve container name "train_mnist"',
            PATIENCE.bad_config, "failed to reserve container name"),
    unscheduled("23-cpu-1.20", _CPU_120, "1 Insufficient cpu", hint="--set train.cpu="),
    unscheduled("23-cpu-1.36", _CPU_136, "No preemption victims", hint="--set train.cpu="),
    Late("23-no-scheduler", view(TRAIN, o.pod(TRAIN, "Pending")), "scheduling", PATIENCE.schedule,
         "Unschedulable", "no scheduler has placed the Pod"),
    Late("23-said-in-an-event-alone",
         view(TRAIN, pod := o.pod(TRAIN, "Pending"), events=[o.event(pod, "FailedScheduling", _CPU_120)]),
         "scheduling", PATIENCE.schedule, "Unschedulable", "1 Insufficient cpu", "--set train.cpu="),
    unscheduled("24-no-claim-1.20", 'persistentvolumeclaim "jobrelay" not found', '"jobrelay" not found',
                hint="create the PersistentVolumeClaim"),
    unscheduled("24-no-claim-1.36", '0/1 nodes are available: persistentvolumeclaim "jobrelay" not found. '
                "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
                '"jobrelay" not found', hint="create the PersistentVolumeClaim"),
    unscheduled("24-unbound-claim",
                "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: …",
                'PersistentVolumeClaim jobrelay: storageclass.storage.k8s.io "fast" not found',
                o.event("jobrelay", "ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found'),
                hint="kubectl get storageclass"),
    stuck("25-no-config-map", "FailedMount",
          'MountVolume.SetUp failed for volume "x" : configmap "no-such-map" not found'),
    stuck("25-attach", "FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already …'),
    stuck("25-sandbox", "FailedCreatePodSandBox", "Failed to create pod sandbox: rpc error: code = …"),
    Late("25-nothing-is-said", view(TRAIN, o.pending(TRAIN, o.waiting("ContainerCreating"))), "starting",
         PATIENCE.start, "ContainerCreating", "the containers were not started"),
    Late("29-node-does-not-enforce-the-deadline", view(TRAIN, o.pod(TRAIN, containerStatuses=[o.running()])),
         "running", 14400 + PATIENCE.overrun, "DeadlineExceeded", "still running after 14400 s",
         "--set train.timeout_seconds=", Exit.OUT_OF_TIME),
]  # fmt: skip


def test_a_mount_that_failed_once_is_not_the_reason_of_a_later_wait() -> None:
    slow = o.event(POD, "FailedMount", "failed to sync configmap cache: timed out waiting for the condition")
    pulling = o.waiting("ErrImagePull", "503 Service Unavailable")
    for seen in (
        view(TRAIN, o.pending(TRAIN, pulling), events=[slow]),
        view(
            TRAIN,
            o.pending(TRAIN, o.waiting("ContainerCreating")),
            events=[slow, o.event(POD, "Pulling", "")],
        ),
    ):
        state = waits(seen)
        assert "configmap" not in state.detail
        assert all("configmap" not in deadline.verdict.message for deadline in state.deadlines)


@pytest.mark.parametrize("case", [pytest.param(case, id=f"row-{case.row}") for case in LATE])
def test_a_job_that_does_not_come_on(case: Late) -> None:
    waiting = waits(case.seen)
    first = min(waiting.deadlines, key=lambda deadline: deadline.seconds)

    assert waiting.phase == case.phase
    assert first.seconds == case.seconds
    assert first.verdict.exit_code == case.exit_code
    assert first.verdict.reason == case.reason
    assert case.message in first.verdict.message
    assert case.hint in str(first.verdict.hint)


INTERIM = {
    "row-27-success-criteria-met": (
        job := o.job("train", CRITERIA_MET),
        [o.pod(job, "Running", containerStatuses=[o.running()])],
    ),
    "row-27-failure-target": (
        job := o.job("train", o.condition("FailureTarget", "True", "BackoffLimitExceeded", "…")),
        [o.pod(job, "Running", containerStatuses=[o.running()])],
    ),
    "row-27-complete-is-false": (
        job := o.job("train", o.condition("Complete", "False"), o.condition("Failed", "False")),
        [o.pod(job, "Running", containerStatuses=[o.running()])],
    ),
}


@pytest.mark.parametrize(("job", "pods"), INTERIM.values(), ids=INTERIM.keys())
def test_only_complete_and_failed_end_a_job(job: Object, pods: list[Object]) -> None:
    assert waits(view(job, *pods)).phase == "running"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
@pytest.mark.parametrize("conditions", [[], [CRITERIA_MET]], ids=["row-27", "row-27-announced"])
def test_a_pod_that_has_ended_does_not_end_its_job(phase: str, conditions: list[Object]) -> None:
    job = o.job("train", *conditions)
    pod = o.pod(job, phase, containerStatuses=[o.terminated(0 if phase == "Succeeded" else 1)])
    assert waits(view(job, pod)).phase == "finishing"


def test_a_retry_is_followed_after_a_failed_attempt() -> None:
    old = o.failed(TRAIN, o.terminated(1))
    new = o.pod(TRAIN, "Running", "newer", "2026-11-21T15:00:00Z", containerStatuses=[o.running()])
    waiting = waits(view(TRAIN, new, old))
    assert (waiting.phase, waiting.pod) == ("running", "mnist-a-train-newer")


def test_row_50_a_sidecar_that_never_ends_is_named() -> None:
    pod = o.pod(TRAIN, containerStatuses=[o.running("istio-proxy"), o.terminated(0, "Completed")])
    waiting = waits(view(TRAIN, pod))
    assert "still running: istio-proxy" in waiting.detail
    assert waiting.deadlines[0].verdict.exit_code == Exit.OUT_OF_TIME


def test_row_50_a_sidecar_beside_a_running_stage_is_nothing_to_tell() -> None:
    pod = o.pod(TRAIN, containerStatuses=[o.running("istio-proxy"), o.running()])
    assert waits(view(TRAIN, pod)).detail == ""


def test_row_50_at_the_deadline() -> None:
    job = o.job("train", BACKOFF)
    statuses = [o.terminated(137, name="istio-proxy"), o.terminated(0, "Completed")]
    assert ended(view(job, o.failed(job, *statuses, reason="DeadlineExceeded"))).exit_code == Exit.OUT_OF_TIME


def test_row_35_a_node_that_does_not_answer_is_told_and_waited_for() -> None:
    not_ready = o.condition("Ready", "False")  # its node controller says so, and why only in an event
    pod = o.pod(TRAIN, conditions=[o.SCHEDULED, not_ready], containerStatuses=[o.running()])
    pod["spec"]["nodeName"] = "node-2"
    waiting = waits(view(TRAIN, pod, events=[o.event(pod, "NodeNotReady", "Node is not ready")]))
    since, until = (clock(datetime(2026, 11, 21, 14, minute, 33, tzinfo=UTC)) for minute in (22, 27))
    assert waiting.phase == "running"
    assert waiting.detail == (
        f"its node node-2 does not answer since {since}; Kubernetes waits for it until {until}, then the Job "
        "starts another Pod (if it is gone for good: kubectl delete node node-2)"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tolerations": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute",
                           "tolerationSeconds": 60}]},
         f"until {clock(datetime(2026, 11, 21, 14, 23, 33, tzinfo=UTC))}"),
        ({"tolerations": [{"operator": "Exists"}]}, "the Pod waits for it without limit"),
    ],
    ids=["a-minute", "for-ever"],
)  # fmt: skip
def test_row_35_a_pod_may_say_how_long_it_waits_for_its_node(change: Object, told: str) -> None:
    pod = o.pod(
        TRAIN, conditions=[o.SCHEDULED, o.condition("Ready", "False")], containerStatuses=[o.running()]
    )
    pod["spec"] |= {"nodeName": "node-2", **change}
    waiting = waits(view(TRAIN, pod, events=[o.event(pod, "NodeNotReady", "Node is not ready")]))
    assert told in waiting.detail
    assert "kubectl delete node node-2" in waiting.detail


def test_row_35_a_pod_that_is_deleted_on_a_node_that_is_gone_waits_for_the_node() -> None:
    pod = o.pod(
        TRAIN, conditions=[o.SCHEDULED, o.condition("Ready", "False")], containerStatuses=[o.running()]
    )
    pod["spec"]["nodeName"] = "node-2"
    pod["metadata"] |= {"deletionTimestamp": "2026-11-21T14:28:03Z", "deletionGracePeriodSeconds": 30}
    waiting = waits(view(TRAIN, pod, events=[o.event(pod, "NodeNotReady", "Node is not ready")]))
    assert "the Pod is being deleted, which only its node can confirm" in waiting.detail


def test_row_35_a_node_that_answers_again() -> None:
    pod = o.pod(TRAIN, conditions=[o.SCHEDULED, o.condition("Ready")], containerStatuses=[o.running()])
    waiting = waits(view(TRAIN, pod, events=[o.event(pod, "NodeNotReady", "Node is not ready")]))
    assert (waiting.phase, waiting.detail) == ("running", "")


def test_row_35_a_pod_whose_state_is_unknown() -> None:
    assert "does not answer" in waits(view(TRAIN, o.pod(TRAIN, "Unknown"))).detail


def test_row_24_an_unbound_claim_is_normal_until_the_schedule_timeout() -> None:
    pod = o.pod(TRAIN, "Pending")
    normal = o.event("jobrelay", "WaitForFirstConsumer", "waiting for first consumer to be created", "Normal")
    waiting = waits(view(TRAIN, pod, events=[normal]))
    assert [limit.seconds for limit in waiting.deadlines] == [PATIENCE.schedule]


def test_an_init_container_at_work_has_no_start_deadline() -> None:
    job = o.job("eval")
    pod = o.pod(
        job, "Pending", conditions=[o.SCHEDULED], initContainerStatuses=[o.running("gate")],
        containerStatuses=[o.waiting("PodInitializing", name="eval")],
    )  # fmt: skip
    waiting = waits(view(job, pod))
    assert (waiting.phase, waiting.deadlines) == ("starting", ())


def _with_sidecar(pod: Object) -> Object:
    sidecar = {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}
    return {**pod, "spec": {**pod["spec"], "initContainers": [sidecar]}}


def test_row_50_a_sidecar_that_has_started_is_no_start_of_the_stage() -> None:
    pod = o.pod(
        TRAIN, "Pending", conditions=[o.SCHEDULED], initContainerStatuses=[o.running("proxy")],
        containerStatuses=[o.waiting("PodInitializing")],
    )  # fmt: skip
    assert [limit.seconds for limit in waits(view(TRAIN, _with_sidecar(pod))).deadlines] == [PATIENCE.start]


def test_row_50_a_sidecar_that_kubernetes_itself_ends_is_nothing_to_tell() -> None:
    pod = o.pod(
        TRAIN, initContainerStatuses=[o.running("proxy")], containerStatuses=[o.terminated(0, "Completed")]
    )
    assert waits(view(TRAIN, _with_sidecar(pod))).detail == ""


def test_row_19_an_image_may_be_called_anything() -> None:
    job = o.job()
    job["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.org/denied/not-found:1"
    text = _PULL_TLS + ' "registry.example.org/denied/not-found:1"'
    pod = o.pending(job, o.waiting("ErrImagePull", text))
    assert [limit.seconds for limit in waits(view(job, pod)).deadlines] == [PATIENCE.start]


def test_an_init_container_whose_image_is_not_there() -> None:
    pod = o.pod(
        TRAIN, "Pending", conditions=[o.SCHEDULED],
        initContainerStatuses=[o.waiting("ErrImagePull", _PULL_NOT_FOUND, "fetch")],
        containerStatuses=[o.waiting("PodInitializing")],
    )  # fmt: skip
    assert min(limit.seconds for limit in waits(view(TRAIN, pod)).deadlines) == PATIENCE.bad_image


def test_events_of_other_objects_are_not_told() -> None:
    event = o.event("mnist-b-train", "FailedCreate", "exceeded quota")
    assert waits(view(TRAIN, events=[event])).detail == ""


def test_the_newest_refusal_is_told() -> None:
    events = [o.event(TRAIN, "FailedCreate", _ACCOUNT), o.event(TRAIN, "FailedCreate", _PSA)]
    assert waits(view(TRAIN, events=events)).detail == _PSA


def test_patience_is_what_the_user_says() -> None:
    patience = replace(PATIENCE, schedule=7)
    judged = judge(view(TRAIN, o.pod(TRAIN, "Pending")), patience)
    assert isinstance(judged, Waiting)
    assert judged.deadlines[0].seconds == 7


@given(st.none() | st.text() | st.just(o.closing(metrics={"accuracy": 0.5})))
def test_what_a_stage_said_last(message: str | None) -> None:
    pod = o.failed(TRAIN, o.terminated(0, "Completed", message or ""))
    closing = closing_of(pod)
    assert closing is None or closing.metrics == {"accuracy": 0.5}
    assert (closing is None) == (message != o.closing(metrics={"accuracy": 0.5}))


# --- whatever a server may send ------------------------------------------------------------------

_texts = st.sampled_from(["", "not found", "no such host", "OOMKilled", "Completed", "x"])
_states = (
    st.just({})
    | st.builds(lambda reason: {"waiting": {"reason": reason}}, _texts | st.sampled_from(["ErrImagePull"]))
    | st.just({"waiting": {}})
    | st.just({"running": {}})
    | st.builds(
        lambda code, reason: {"terminated": {"exitCode": code, "reason": reason}}, st.integers(0, 255), _texts
    )
    | st.just({"terminated": {"exitCode": 1}})
)
_statuses = st.lists(
    st.builds(
        lambda name, state: {"name": name, "state": state}, st.sampled_from(["train", "proxy"]), _states
    ),
    max_size=2,
)
_conditions = st.lists(
    st.builds(
        lambda kind, value: {"type": kind, "status": value},
        st.sampled_from(["PodScheduled", "Ready", "DisruptionTarget"]),
        st.sampled_from(["True", "False", "Unknown"]),
    ),
    max_size=3,
)
_pod_statuses = st.fixed_dictionaries(
    {},
    optional={
        "phase": st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
        "reason": st.sampled_from(["Evicted", "DeadlineExceeded", "OutOfcpu", "NodeLost"]),
        "containerStatuses": _statuses,
        "initContainerStatuses": _statuses,
        "conditions": _conditions,
    },
)
_job_conditions = st.lists(
    st.builds(
        lambda kind, value: {"type": kind, "status": value},
        st.sampled_from(["Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"]),
        st.sampled_from(["True", "False"]),
    ),
    max_size=3,
)
_reasons = st.sampled_from(["FailedCreate", "FailedScheduling", "FailedMount", "Failed", "NodeNotReady"])


@settings(max_examples=300)
@given(st.lists(_pod_statuses, max_size=3), _job_conditions, st.lists(_reasons, max_size=3))
def test_every_sparse_status_is_judged_and_only_complete_is_success(
    statuses: list[Object], conditions: list[Object], reasons: list[str]
) -> None:
    job = o.job("train", *conditions)
    pods = [{**o.pod(job), "status": status} for status in statuses]
    # the message of an event may be absent, and so may what it is about
    events = [{**o.event(job, reason, ""), "involvedObject": {"name": POD}} for reason in reasons]
    for event in events:
        del event["message"]
    judged = judge(view(job, *pods, events=[*events, {"metadata": {"name": "e"}}]), PATIENCE)

    complete = {"type": "Complete", "status": "True"} in conditions
    failed = {"type": "Failed", "status": "True"} in conditions
    succeeded = isinstance(judged, Verdict) and judged.exit_code == Exit.SUCCEEDED
    if succeeded:
        assert complete
    if complete or failed:
        assert isinstance(judged, Verdict)
    if complete and not failed:
        assert succeeded


def test_a_pod_that_is_made_and_not_seen_yet_is_not_said_to_be_gone() -> None:
    judged = judge(view(TRAIN, events=[o.event(TRAIN, "SuccessfulCreate", "Created pod: a", "Normal")]))
    assert isinstance(judged, Waiting)
    assert (judged.phase, judged.detail) == ("starting", "")
