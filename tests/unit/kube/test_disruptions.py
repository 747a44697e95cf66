"""Pods that are lost through nobody's fault have a budget of their own."""

from __future__ import annotations

from typing import Any

import pytest

from jobrelay.errors import Exit
from jobrelay.kube.labels import ANNOTATION_DISRUPTIONS
from jobrelay.manifests import with_disruptions
from jobrelay.verdicts import JobView, Patience, Verdict, Waiting, judge, lost_pods, may_resume
from jobrelay_train.config.loading import resolve
from jobrelay_train.config.schema import RunConfig
from tests.support import objects as o

Object = dict[str, Any]

TRAIN = o.job()
BACKOFF = o.condition("Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
#: asked for at 14:30:00, with 30 s of grace
DELETED = {"deletionTimestamp": "2026-11-21T14:30:30Z", "deletionGracePeriodSeconds": 30}


def gone(suffix: str = "x7k2p", of: Object = TRAIN, **status: Any) -> Object:
    """A Pod that was deleted, as it was seen last."""
    pod = o.pod(of, suffix=suffix, **{"containerStatuses": [o.running()], **status})
    pod["metadata"] |= DELETED
    return pod


def ended_at(time: str, code: int = 143) -> Object:
    status = o.terminated(code)
    status["state"]["terminated"]["finishedAt"] = time
    return status


def evicted(of: Object, suffix: str) -> Object:
    return o.pod(of, "Failed", suffix, reason="Evicted", message="The node was low on resource: memory.")


def test_row_32_and_33_pods_that_are_lost_are_counted() -> None:
    lost = [gone("a"), gone("b", containerStatuses=[ended_at("2026-11-21T14:30:02Z")], phase="Failed")]
    assert lost_pods(JobView(TRAIN, [evicted(TRAIN, "c"), gone("d")], lost=lost)) == 4


def test_row_33_a_pod_whose_kubelet_has_deleted_it_at_last_is_counted() -> None:
    """Kubernetes 1.36: the last that is seen of it is deleted after its end, with no grace."""
    pod = gone(containerStatuses=[ended_at("2026-11-21T14:30:02Z")], phase="Failed")
    pod["metadata"] |= {"deletionTimestamp": "2026-11-21T14:30:04Z", "deletionGracePeriodSeconds": 0}
    assert lost_pods(JobView(TRAIN, lost=[pod])) == 1


@pytest.mark.parametrize(
    "pod",
    [
        o.failed(TRAIN, o.terminated(1)),
        gone(phase="Failed", containerStatuses=[ended_at("2026-11-21T14:22:33Z", 1)]),
        gone(phase="Succeeded", containerStatuses=[ended_at("2026-11-21T14:30:02Z", 0)]),
        o.pod(TRAIN, containerStatuses=[o.running()]),
    ],
    ids=["failed", "failed-and-removed-later", "succeeded-while-deleted", "at-work"],
)
def test_pods_that_ended_by_themselves_are_not(pod: Object) -> None:
    assert lost_pods(JobView(TRAIN, lost=[pod])) == 0


def test_row_32_a_job_goes_on_while_its_budget_lasts() -> None:
    patience = Patience(disruptions=2)
    lost = [gone("a"), gone("b")]
    assert isinstance(judge(JobView(TRAIN, [o.pod(TRAIN)], lost=lost), patience), Waiting)
    verdict = judge(JobView(TRAIN, [o.pod(TRAIN)], lost=[*lost, gone("c")]), patience)
    assert isinstance(verdict, Verdict)
    assert (verdict.exit_code, verdict.reason) == (Exit.DISRUPTED, "DisruptionLimitExceeded")
    assert "3 Pods were lost, the limit is 2" in verdict.message
    assert verdict.pod == "mnist-a-train-c"


def test_row_32_a_job_that_failed_for_disruptions_alone_goes_on_anew() -> None:
    job = o.job("train", BACKOFF)
    view = JobView(job, [evicted(job, suffix) for suffix in "abc"])
    verdict = judge(view)
    assert isinstance(verdict, Verdict)
    assert (verdict.exit_code, verdict.reason) == (Exit.DISRUPTED, "Evicted")
    assert may_resume(view, verdict, Patience())
    assert not may_resume(view, verdict, Patience(disruptions=2))

    again = with_disruptions(job, lost_pods(view))
    assert again["metadata"]["annotations"][ANNOTATION_DISRUPTIONS] == "3"
    assert lost_pods(JobView(again, [evicted(again, "d")])) == 4


def test_what_failed_by_itself_does_not_go_on_anew() -> None:
    job = o.job("train", BACKOFF)
    view = JobView(job, [o.failed(job, o.terminated(1))])
    verdict = judge(view)
    assert isinstance(verdict, Verdict)
    assert not may_resume(view, verdict, Patience())


def test_row_38_a_job_that_was_deleted_does_not_go_on_anew() -> None:
    view = JobView(None, lost=[gone()])
    verdict = judge(view)
    assert isinstance(verdict, Verdict)
    assert verdict.reason == "Deleted"
    assert not may_resume(view, verdict, Patience())


def test_an_annotation_that_is_no_number_counts_nothing() -> None:
    job = o.job(annotations={ANNOTATION_DISRUPTIONS: "many"})
    assert lost_pods(JobView(job)) == 0


def test_patience_of_a_stage_is_what_its_configuration_says() -> None:
    config = resolve(
        {},
        ["train.disruption_limit=3", "train.queue_timeout_seconds=7", "eval.start_timeout_seconds=9",
         "infer.schedule_timeout_seconds=11"],
    )  # fmt: skip
    asked = Patience(queue=1, schedule=2, start=3)
    assert asked.of(config.placement("train")) == Patience(disruptions=3, queue=7, schedule=2, start=3)
    assert asked.of(config.placement("eval")) == Patience(queue=1, schedule=2, start=9)
    assert asked.of(config.placement("infer")) == Patience(queue=1, schedule=11, start=3)
    assert config.stage_hash("infer") == RunConfig().stage_hash("infer")  # patience changes no result
