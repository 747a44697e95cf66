"""When a stage is started before its turn, and when it is not, or taken back."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest

from jobrelay import manifests
from jobrelay.errors import ApiLost
from jobrelay.executors.base import Submission
from jobrelay.executors.cluster import capacity
from jobrelay.kube.labels import ANNOTATION_EARLY, ANNOTATION_HASH
from jobrelay.manifests import can_wait, started_early
from jobrelay.runs import status
from jobrelay.runs.stage import early_start as early
from jobrelay.runs.stage.early_start import EarlyStart, When
from jobrelay.verdicts import JobView, Verdict, Waiting, judge
from jobrelay_runner.text.outlook import seconds_left
from jobrelay_train.training.loop import tell
from tests.support import objects as o

Object = dict[str, Any]

TRAIN, EVAL = o.plan().jobs["train"], o.plan().jobs["eval"]
RUNNING = JobView(o.job(), [o.pod(o.job(), containerStatuses=[o.running()])])
NEAR_THE_END = b"epoch 4/5  loss 0.2595  acc 0.9095  0.7 s  8.0k images/s  lr 0.0000\n"


class Executor:
    """Notes what is asked of it. refuse: what start_early raises."""

    def __init__(self, room: bool = True, refuse: Exception | None = None) -> None:
        self.asked: list[str] = []
        self._room = room
        self._refuse = refuse

    def start_early(self, job: Object, before: Object, beside: Object | None) -> Submission | None:
        self.asked.append(f"start {job['metadata']['name']}" + (" if there is room" if beside else ""))
        if self._refuse:
            raise self._refuse
        return Submission(job, "early") if self._room else None

    def withdraw(self, job: Object) -> None:
        self.asked.append(f"withdraw {job['metadata']['name']}")


def start(executor: Any, when: When = "auto", job: Object | None = EVAL) -> EarlyStart:
    return EarlyStart(executor, TRAIN, job, when)


def hear(early: EarlyStart, *chunks: bytes, view: JobView = RUNNING) -> None:
    with early:
        early.notice(view, judge(view))
        listen = early.listener()
        for chunk in chunks:
            listen(chunk)
        if early._timer and early._timer.interval == 0:
            early._timer.join()


# --- what a line says ---


def test_the_lines_that_train_prints_say_how_long_it_still_works() -> None:
    row = {"epoch": 2.0, "loss": 0.5, "accuracy": 0.9, "seconds": 7.5, "images_per_second": 8e3}
    assert seconds_left(tell(row | {"learning_rate": 0.1}, 5).encode()) == 22.5
    assert seconds_left(tell(row | {"learning_rate": 0.1}, 2, "points").encode()) == 0


@pytest.mark.parametrize(
    "line", [b"", b"saved model.pt (0.8 MB)", b"epoch 1", b"an epoch 1/2  1.0 s", b"epoch \xff/2  0.5 s"]
)
def test_other_lines_say_nothing(line: bytes) -> None:
    assert seconds_left(line) is None


def test_eval_ends_with_its_one_pass() -> None:
    assert seconds_left(b"testing cnn on 1,000 images of fashion-mnist-mini, cpu, 2 threads") == 0


# --- when ---


def test_it_is_started_when_the_end_is_near() -> None:
    executor = Executor()
    hear(early := start(executor), NEAR_THE_END[:9], NEAR_THE_END[9:])
    assert early.submission
    assert executor.asked == ["start mnist-a-eval if there is room"]


def test_it_is_not_started_while_the_end_is_far() -> None:
    executor = Executor()
    early_start = start(executor)
    with early_start:
        early_start.notice(RUNNING, judge(RUNNING))
        early_start.listener()(b"epoch 1/5  loss 0.9  acc 0.5  100.0 s  1.0k images/s\n")
        assert early_start._timer
        assert early_start._timer.interval == 400 - early._SECONDS
    assert executor.asked == []


def test_a_later_word_replaces_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = Executor()
    hear(start(executor), b"epoch 1/5  loss 0.9  acc 0.5  100.0 s  1.0k\n", NEAR_THE_END)
    assert executor.asked == ["start mnist-a-eval if there is room"]


def test_room_is_looked_for_once() -> None:
    executor = Executor(room=False)
    early_start = start(executor)
    hear(early_start, NEAR_THE_END)
    hear(early_start, NEAR_THE_END)
    assert not early_start.submission
    assert len(executor.asked) == 1


@pytest.mark.parametrize(("when", "asked"), [("on", ["start mnist-a-eval"]), ("off", [])])
def test_what_is_asked_for(when: When, asked: list[str]) -> None:
    executor = Executor()
    hear(start(executor, when), NEAR_THE_END)
    assert executor.asked == asked


def test_what_goes_wrong_is_left_to_the_stage_s_turn() -> None:
    hear(early_start := start(Executor(refuse=ApiLost("nobody answers"))), NEAR_THE_END)
    assert not early_start.submission


def test_nothing_starts_once_the_wait_is_over() -> None:
    executor = Executor()
    early_start = start(executor)
    with early_start:
        early_start.notice(RUNNING, judge(RUNNING))
    early_start.listener()(NEAR_THE_END)
    time.sleep(0.05)
    assert executor.asked == []


# --- taken back ---


def test_a_stage_that_begins_anew_has_the_room_to_itself() -> None:
    executor = Executor()
    hear(early_start := start(executor), NEAR_THE_END)
    lost = JobView(o.job(), [o.pending(o.job(), o.waiting("ContainerCreating"))])
    early_start.notice(lost, judge(lost))
    early_start.notice(lost, judge(lost))
    assert executor.asked[1:] == ["withdraw mnist-a-eval"]


@pytest.mark.parametrize("gone", [[], [o.failed(o.job(), o.terminated(137))]], ids=["lost", "failed"])
def test_a_launcher_that_was_not_there_makes_room_too(gone: list[Object]) -> None:
    executor = Executor()
    waits = o.pod(o.job(), "Pending", suffix="2", created="2026-11-22T00:00:00Z")
    view = JobView(o.job(), [*gone, waits], [], [] if gone else [o.pod(o.job())])
    early_start = start(executor)
    for _ in range(2):
        early_start.notice(view, judge(view))
    assert executor.asked == ["withdraw mnist-a-eval"]


def test_the_first_pod_of_a_stage_takes_nothing_back() -> None:
    executor = Executor()
    view = JobView(o.job(), [o.pod(o.job(), "Pending")])
    start(executor).notice(view, judge(view))
    assert executor.asked == []


def test_the_words_of_a_pod_that_is_no_more_start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "_SECONDS", 0.55)  # the line says 0.7 s
    executor = Executor()
    early_start = start(executor)
    with early_start:
        early_start.notice(RUNNING, judge(RUNNING))
        early_start.listener()(NEAR_THE_END)
        lost = JobView(o.job(), [o.pod(o.job(), "Pending")], [], [o.pod(o.job())])
        early_start.notice(lost, judge(lost))
        time.sleep(0.4)
    assert executor.asked == ["withdraw mnist-a-eval"]


def test_a_stage_that_has_just_ended_has_not_begun_anew() -> None:
    executor = Executor()
    hear(early_start := start(executor), NEAR_THE_END)
    ended = JobView(o.job(), [o.pod(o.job(), "Succeeded", containerStatuses=[o.terminated(0)])])
    judged = judge(ended)
    assert isinstance(judged, Waiting)
    early_start.notice(ended, judged)
    assert executor.asked == ["start mnist-a-eval if there is room"]


def test_what_another_launcher_has_started_is_taken_back_too() -> None:
    executor = Executor()
    start(executor).withdraw()
    assert executor.asked == ["withdraw mnist-a-eval"]


# --- which Jobs ---


def changed(change: Callable[[Object, Object], object]) -> Object:
    job = copy.deepcopy(EVAL)
    change(job["spec"], job["spec"]["template"]["spec"])
    return job


@pytest.mark.parametrize(
    "job",
    [
        changed(lambda spec, pod: pod.pop("initContainers")),
        changed(lambda spec, pod: pod["containers"][0].update(command=["python", "mine.py"])),
        changed(lambda spec, pod: pod["containers"][0].update(args=["train"])),
        changed(lambda spec, pod: pod["containers"][0].update(image="mine:1")),
        changed(lambda spec, pod: spec.update(suspend=True)),
        TRAIN,
    ],
    ids=["no-gate", "another-program", "another-stage", "another-image", "for-a-queue", "the-first"],
)
def test_a_job_that_would_not_wait_is_not_started_early(job: Object) -> None:
    assert not can_wait(job)
    executor = Executor()
    hear(start(executor, "on", job), NEAR_THE_END)
    assert executor.asked == []


def test_the_wait_is_in_the_stage_and_no_part_of_its_time() -> None:
    assert can_wait(EVAL)
    job = started_early(EVAL, TRAIN)
    pod = job["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    assert {"name": "JOBRELAY_AFTER", "value": "train"} in pod["containers"][0]["env"]
    limits = [j["spec"]["template"]["spec"]["activeDeadlineSeconds"] for j in (EVAL, TRAIN)]
    assert pod["activeDeadlineSeconds"] == sum(limits)
    assert job["metadata"]["annotations"][ANNOTATION_EARLY] == str(limits[0])
    for noted in (item["metadata"]["annotations"] for item in (EVAL, job)):
        assert noted[ANNOTATION_HASH] == EVAL["metadata"]["annotations"][ANNOTATION_HASH]
    assert ANNOTATION_EARLY not in EVAL["metadata"]["annotations"]


@pytest.mark.parametrize("without", [["eval"], ["train"], ["eval", "train"]])
def test_a_stage_without_a_limit_of_its_own_has_none_early_either(without: list[str]) -> None:
    jobs = {"eval": copy.deepcopy(EVAL), "train": copy.deepcopy(TRAIN)}
    for stage in without:
        del jobs[stage]["spec"]["template"]["spec"]["activeDeadlineSeconds"]
    pod = started_early(jobs["eval"], jobs["train"])["spec"]["template"]["spec"]
    assert "activeDeadlineSeconds" not in pod  # if only the wait has none, the launcher's own clock is left


def test_row_29_a_stage_that_was_started_early_has_its_own_time_once_it_is_followed() -> None:
    job = started_early(EVAL, TRAIN)
    job["metadata"].update(uid="uid-eval", creationTimestamp=o.T0)
    job["metadata"]["annotations"][ANNOTATION_EARLY] = "100"
    judged = judge(JobView(job, [o.pod(job, containerStatuses=[o.container("eval", running={})])]))
    assert not isinstance(judged, Verdict)
    (deadline,) = judged.deadlines
    assert deadline.seconds == 160
    assert "timeout_seconds=200" in str(deadline.verdict.hint)


def test_it_is_adopted_as_the_job_that_it_would_have_been() -> None:
    live = started_early(EVAL, TRAIN)
    assert manifests.differing_keys(manifests.without_gate(EVAL), live) == []  # nobody asked for longer


@pytest.mark.parametrize(
    ("before", "state"),
    [(o.running(), "waiting"), (o.terminated(0, "Completed"), "running")],
    ids=["train-works", "train-is-done"],
)
def test_status_says_that_it_waits(before: Object, state: str) -> None:
    train = o.job("train", *([o.condition("Complete")] if state == "running" else ()))
    test = started_early(EVAL, TRAIN)
    test["metadata"].update(uid="uid-eval", creationTimestamp=o.T0)
    jobs = [
        (train, [o.pod(train, containerStatuses=[before])]),
        (test, [o.pod(test, containerStatuses=[o.running("eval")])]),
    ]

    class Jobs:
        def jobs(self, run: str | None) -> Any:
            return jobs

    found = status.stages_of(Jobs(), None)  # type: ignore[arg-type]

    assert [one.state for one in found] == ["running" if state == "waiting" else "succeeded", state]
    assert ("waits for train" in found[1].reason) is (state == "waiting")


# --- room ---


class Api:
    """Answers with what a cluster has. nodes: free CPU and memory of each."""

    def __init__(self, *nodes: tuple[str, str], modes: str = "ReadWriteOnce", quotas: int = 0) -> None:
        self._answers: dict[str, Object] = {
            "nodes": {
                "items": [
                    {"metadata": {"name": f"n{i}"}, "spec": {}, "status": {"allocatable": _quantities(*node)}}
                    for i, node in enumerate(nodes)
                ]
            },
            "pods": {
                "items": [_pod("n0", "1", "2Gi"), _pod("n0", "0", "0", limit="500m"), _pod("", "9", "9Gi")]
            },
            "resourcequotas": {"items": [{}] * quotas},
            "jobrelay": {"spec": {"accessModes": [modes]}},
        }

    def get(self, path: str, **query: str) -> Object:
        return self._answers[path.rpartition("/")[2]]


def _quantities(cpu: str, memory: str) -> Object:
    return {"cpu": cpu, "memory": memory, "pods": "110"}


def _pod(node: str, cpu: str, memory: str, limit: str = "") -> Object:
    resources: Object = {"requests": {"memory": memory} | ({} if limit else {"cpu": cpu})}
    resources |= {"limits": {"cpu": limit}} if limit else {}
    return {"spec": {"nodeName": node, "containers": [{"resources": resources}]}}


@pytest.mark.parametrize(
    ("api", "yes"),
    [
        (Api(("2", "4Gi")), True),
        (Api(("1900m", "4Gi")), False),
        (Api(("2", "2500Mi")), False),
        (Api(("2", "4Gi"), ("2", "4Gi")), False),
        (Api(("2", "4Gi"), ("2", "4Gi"), modes="ReadWriteMany"), True),
        (Api(("1", "4Gi"), ("2", "4Gi"), modes="ReadWriteMany"), False),
        (Api(("2", "4Gi"), quotas=1), False),
    ],
    ids=["room", "no-cpu", "no-memory", "it-may-come-elsewhere", "shared", "room-elsewhere", "quota"],
)
def test_room_is_what_nobody_has_asked_for_where_the_volume_is(api: Any, yes: bool) -> None:
    beside = {"metadata": {"namespace": "a"}, "spec": {"nodeName": "n0"}}
    assert capacity.is_free_beside(api, EVAL, beside, "jobrelay") == yes
    assert not capacity.is_free_beside(api, EVAL, beside | {"spec": {}}, "jobrelay")  # it has no node yet
