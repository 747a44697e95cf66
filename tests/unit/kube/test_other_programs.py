"""What is read from a Pod's containers, where they run other programs than ours, or other containers too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobrelay import manifests
from jobrelay.errors import Exit
from jobrelay.kube.ends import closing_of
from jobrelay.kube.read import container_state
from jobrelay.verdicts import (
    JobView,
    Patience,
    Verdict,
    Waiting,
    judge,
    lost_pods,
    may_resume,
    with_last_line,
)
from jobrelay.verdicts.words import exit_text
from tests.support import objects as o
from tests.support import programs, set_command

Object = dict[str, Any]

BACKOFF = o.condition("Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")


def other_program(*conditions: Object, stage: Any = "train") -> Object:
    job = o.job(stage, *conditions)
    set_command(job, ["python", "train_cats.py"])
    return job


def verdict_on(job: Object, *pods: Object) -> Verdict:
    verdict = judge(JobView(job, pods))
    assert isinstance(verdict, Verdict), verdict
    return verdict


# --- exit codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [65, 69, 75, 76, 78])
def test_row_26_an_exit_code_of_another_program_means_what_its_author_meant(code: int) -> None:
    job = other_program(BACKOFF)
    pod = o.failed(job, o.terminated(code, message="no such cat\n"))
    verdict = verdict_on(job, pod)
    assert (verdict.exit_code, verdict.outcome) == (Exit.FAILED, "failed")
    assert verdict.message == f"exit code {code}: no such cat"
    assert lost_pods(JobView(job, [pod])) == 0
    assert not may_resume(JobView(job, [pod]), verdict, Patience())


@pytest.mark.parametrize("code", [65, 69, 78])
def test_row_26_another_program_is_tried_again_whatever_its_exit_code(code: int) -> None:
    job = other_program()
    assert isinstance(judge(JobView(job, [o.failed(job, o.terminated(code))])), Waiting)
    ours = o.job()
    assert isinstance(judge(JobView(ours, [o.failed(ours, o.terminated(code))])), Verdict)


def test_row_26_a_script_that_calls_our_program_has_our_exit_codes() -> None:
    """Its termination message says so: of this stage, and with this exit code."""
    job = other_program(BACKOFF)
    said = o.closing(code=78, error="data.mirror: no answer")
    verdict = verdict_on(job, o.failed(job, o.terminated(78, message=said)))
    assert (verdict.exit_code, verdict.message) == (Exit.BAD_INPUT, "data.mirror: no answer")


@pytest.mark.parametrize(
    "said",
    [o.closing("eval", 78, "no"), o.closing("train", 1, "no")],
    ids=["of-another-stage", "another-end"],
)
def test_a_message_that_is_not_of_this_end_is_not_believed(said: str) -> None:
    job = other_program(BACKOFF)
    pod = o.failed(job, o.terminated(78, message=said))
    assert verdict_on(job, pod).exit_code == Exit.FAILED
    assert closing_of(pod) is None


@pytest.mark.parametrize("minor", [26, 29, 36])
def test_a_server_is_asked_to_heed_our_exit_codes_of_our_program_alone(minor: int, tmp_path: Path) -> None:
    plan = manifests.render(manifests.load(programs(tmp_path / "m")), o.RunConfig(), "a")
    rules = manifests.for_server(plan.jobs["train"], minor)["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore"]
    assert "onExitCodes" not in rules[0]


# --- whose state it is ---------------------------------------------------------------------------


def beside(job: Object, name: str = "a-proxy", own: str | None = None) -> Object:
    """The Job with another container, whose name comes first where a kubelet sorts them."""
    spec = job["spec"]["template"]["spec"]
    if own:
        spec["containers"][0]["name"] = own
    spec["containers"].append({"name": name, "image": "proxy:1"})
    return job


def test_the_stages_state_is_found_by_name_whatever_it_is_called() -> None:
    """Neither container is called like the stage: the first of the spec is its own, not of the status."""
    job = beside(o.job(), own="main")
    statuses = [
        o.running("a-proxy"),
        o.terminated(0, "Completed", o.closing(metrics={"accuracy": 0.5}), "main"),
    ]
    pod = o.pod(job, containerStatuses=statuses)
    assert container_state(pod)["terminated"]["exitCode"] == 0
    closing = closing_of(pod)
    assert closing
    assert closing.metrics == {"accuracy": 0.5}
    waiting = judge(JobView(job, [pod]))
    assert isinstance(waiting, Waiting)
    assert waiting.detail == "the stage has ended; still running: a-proxy"


def test_a_state_that_is_not_there_yet_is_not_anothers() -> None:
    pod = o.pod(beside(o.job(), own="main"), containerStatuses=[o.running("a-proxy")])
    assert container_state(pod) == {}
    assert container_state(pod, "main") == {}


def test_row_26_the_stage_is_the_cause_and_not_who_was_ended_with_it() -> None:
    job = beside(o.job("train", BACKOFF), own="main")
    proxy, main = o.terminated(143, name="a-proxy"), o.terminated(3, message="it broke", name="main")
    verdict = verdict_on(job, o.failed(job, proxy, main))
    assert (verdict.container_exit, verdict.message) == (3, "exit code 3: it broke")


def test_row_50_a_sidecar_that_kubernetes_ended_is_not_the_cause() -> None:
    job = o.job("train", BACKOFF)
    spec = job["spec"]["template"]["spec"]
    spec["initContainers"] = [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}]
    pod = o.failed(job, o.terminated(3), initContainerStatuses=[o.terminated(143, name="proxy")])
    assert verdict_on(job, pod).container_exit == 3


def test_row_26_another_container_that_failed_is_named() -> None:
    job = beside(o.job("train", BACKOFF))
    pod = o.failed(job, o.terminated(7, message="no upstream", name="a-proxy"), o.terminated(0, "Completed"))
    assert verdict_on(job, pod).message == "container a-proxy: exit code 7: no upstream"


def test_row_31_another_container_out_of_memory_is_told_with_its_own_limit() -> None:
    job = beside(o.job("train", BACKOFF))
    job["spec"]["template"]["spec"]["containers"][1]["resources"] = {"limits": {"memory": "32Mi"}}
    pod = o.failed(job, o.terminated(137, "OOMKilled", name="a-proxy"), o.terminated(0, "Completed"))
    verdict = verdict_on(job, pod)
    assert verdict.message == "container a-proxy: out of memory (limit 32 MiB)"
    assert "--set" not in str(verdict.hint)  # there is no such key for another container


# --- the cause, in one line ----------------------------------------------------------------------

TRACEBACK = """\
epoch 1/5
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    raise ValueError("bad batch")
ValueError: bad batch
"""


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (TRACEBACK, "ValueError: bad batch"),
        (TRACEBACK + "cleaning up\nbye\n", "ValueError: bad batch"),
        (TRACEBACK[60:] + "bye\n", "ValueError: bad batch"),  # a kubelet keeps the last 2048 bytes
        ("a\n\nlast\r\n\n", "last"),
        (
            "torch.OutOfMemoryError: CUDA out of memory\nretrying\n",
            "torch.OutOfMemoryError: CUDA out of memory",
        ),
        ("x" * 1000, "x" * 299 + "…"),
    ],
    ids=["traceback", "words-after-it", "torn-traceback", "last-line", "dotted", "long"],
)
def test_row_26_the_last_words_of_a_program_are_the_cause(message: str, told: str) -> None:
    job = other_program(BACKOFF)
    verdict = verdict_on(job, o.failed(job, o.terminated(1, message=message)))
    assert verdict.message == f"exit code 1: {told}"
    assert verdict.cause == verdict.message  # and not `Error`, which says nothing


def test_what_was_killed_is_not_explained_by_its_last_line() -> None:
    job = other_program(BACKOFF)
    verdict = verdict_on(job, o.failed(job, o.terminated(139, message="epoch 3/5 loss 0.1")))
    assert verdict.message == "exit code 139 (SIGSEGV)"


def test_the_end_of_the_log_tells_where_the_pod_does_not() -> None:
    """terminationMessagePolicy: File, and the program has written none."""
    job = other_program(BACKOFF)
    verdict = verdict_on(job, o.failed(job, o.terminated(1)))
    assert verdict.cause == "exit code 1"
    assert with_last_line(verdict, TRACEBACK).cause == "exit code 1: ValueError: bad batch"
    said = verdict_on(job, o.failed(job, o.terminated(1, message="no disk")))
    assert with_last_line(said, TRACEBACK) == said
    assert with_last_line(verdict, "") == verdict


def test_a_signal_without_a_name_has_its_number() -> None:
    assert exit_text(163) == "exit code 163 (signal 35)"
