"""What may last so long: deadlines run from when a state was first seen, whatever else changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay.errors import ApiLost, Exit
from jobrelay.executors.base import Submission
from jobrelay.executors.follow import follow
from jobrelay.verdicts import JobView, Patience, Verdict, Waiting
from tests.support import objects as o

Object = dict[str, Any]

TRAIN = o.job()
SUBMISSION = Submission(TRAIN, "created")
NO_POD = JobView(TRAIN)
BAD_IMAGE = JobView(TRAIN, [o.pending(TRAIN, o.waiting("ErrImagePull", "nope:1: not found"))])
BAD_IMAGE_BACK_OFF = JobView(TRAIN, [o.pending(TRAIN, o.waiting("ImagePullBackOff", "nope:1: not found"))])
SLOW_PULL = JobView(TRAIN, [o.pending(TRAIN, o.waiting("ErrImagePull", "429 Too Many Requests"))])
CREATING = JobView(TRAIN, [o.pending(TRAIN, o.waiting("ContainerCreating"))])
RUNNING = JobView(TRAIN, [o.pod(TRAIN, containerStatuses=[o.running()])])
SUSPENDED = JobView(o.job(suspend=True))
UNSCHEDULED = JobView(TRAIN, [o.pod(TRAIN, "Pending")])
COMPLETE = JobView(o.job("train", o.condition("Complete")))
GONE = JobView(None)


class Updates:
    """A script of (second, view): time passes only while somebody waits."""

    def __init__(self, *script: tuple[float, JobView], behind: float = 0) -> None:
        self._behind = behind  # seconds that the watches are late, until a refresh
        self.now = 0.0
        self.waits: list[float | None] = []
        self._script = list(script)

    def clock(self) -> float:
        return self.now

    def seen(self) -> int:
        return sum(second <= self.now - self._behind for second, _ in self._script)

    def view(self, submission: Submission) -> JobView:
        late = self.now - self._behind
        return [view for second, view in self._script if second <= max(late, 0)][-1]

    def refresh(self) -> None:
        self._behind = 0

    def wait(self, seen: int, seconds: float | None) -> None:
        self.waits.append(seconds)
        changes = [second + self._behind for second, _ in self._script if second + self._behind > self.now]
        until = min([*changes, *([] if seconds is None else [self.now + seconds])], default=None)
        assert until is not None, "it would wait for ever"
        self.now = until


def end_of(*script: tuple[float, JobView]) -> tuple[float, Verdict]:
    updates = Updates(*script)
    verdict, _ = follow(updates, SUBMISSION, Patience(), lambda view, judged: None, updates.clock)
    return updates.now, verdict


@pytest.mark.parametrize(
    ("view", "seconds", "code"),
    [
        (NO_POD, 30, Exit.COULD_NOT_START),
        (BAD_IMAGE, 5, Exit.COULD_NOT_START),
        (SLOW_PULL, 600, Exit.COULD_NOT_START),
        (UNSCHEDULED, 300, Exit.COULD_NOT_START),
        (SUSPENDED, 3600, Exit.COULD_NOT_START),
        (RUNNING, 14460, Exit.OUT_OF_TIME),
        (COMPLETE, 0, Exit.SUCCEEDED),
        (GONE, 0, Exit.DISRUPTED),
    ],
    ids=["no-pod", "bad-image", "slow-pull", "unscheduled", "suspended", "running", "complete", "gone"],
)
def test_a_state_that_lasts_ends_at_its_time(view: JobView, seconds: float, code: Exit) -> None:
    now, verdict = end_of((0, view))
    assert (now, verdict.exit_code) == (seconds, code)


def test_a_state_that_ends_in_time_is_no_verdict() -> None:
    now, verdict = end_of((0, NO_POD), (29, CREATING), (620, RUNNING), (700, COMPLETE))
    assert (now, verdict.exit_code) == (700, Exit.SUCCEEDED)


def test_row_1_a_watch_that_is_late_is_no_verdict() -> None:
    script = [(0.0, NO_POD), (2, CREATING), (5, RUNNING), (100, COMPLETE)]
    updates = Updates(*script, behind=60)
    verdict, _ = follow(updates, SUBMISSION, Patience(), lambda view, judged: None, updates.clock)
    assert (updates.now, verdict.exit_code) == (100, Exit.SUCCEEDED)


def test_a_state_that_comes_back_begins_anew() -> None:
    now, verdict = end_of((0, BAD_IMAGE), (4, CREATING), (17, BAD_IMAGE))
    assert (now, verdict.reason) == (22, "ErrImagePull")


def test_a_state_that_goes_on_under_another_name_does_not_begin_anew() -> None:
    script = [(second, (BAD_IMAGE, BAD_IMAGE_BACK_OFF)[second % 2]) for second in range(0, 60, 3)]
    now, verdict = end_of(*script)
    assert (now, verdict.exit_code) == (5, Exit.COULD_NOT_START)


def test_a_change_that_concerns_another_deadline_does_not_reset_this_one() -> None:
    # the start of the containers has 600 seconds, of which the bad minutes of the registry are a part
    now, verdict = end_of((0, CREATING), (500, SLOW_PULL), (550, CREATING))
    assert (now, verdict.exit_code) == (600, Exit.COULD_NOT_START)


def test_the_newest_words_are_told() -> None:
    _, verdict = end_of((0, CREATING), (500, SLOW_PULL))
    assert "429 Too Many Requests" in verdict.message


def test_each_pod_has_its_own_time() -> None:
    second = o.pod(TRAIN, "Running", "newer", "2026-11-21T15:00:00Z", containerStatuses=[o.running()])
    failed = o.failed(TRAIN, o.terminated(1))
    now, verdict = end_of((0, RUNNING), (14000, JobView(TRAIN, [failed, second])))
    assert (now, verdict.exit_code) == (14000 + 14460, Exit.OUT_OF_TIME)


def test_a_suspended_job_has_no_other_clock() -> None:
    now, verdict = end_of((0, NO_POD), (20, SUSPENDED), (3000, NO_POD), (3025, RUNNING), (3100, COMPLETE))
    assert (now, verdict.exit_code) == (3100, Exit.SUCCEEDED)


def test_nothing_is_asked_for_at_intervals() -> None:
    updates = Updates((0, NO_POD), (5, CREATING), (6, RUNNING), (100, COMPLETE))
    follow(updates, SUBMISSION, Patience(), lambda view, judged: None, updates.clock)
    assert updates.waits == [30, 600, 14460]


def test_whoever_is_told_hears_every_view_and_the_verdict() -> None:
    heard = []
    updates = Updates((0, NO_POD), (5, RUNNING), (6, COMPLETE))
    follow(updates, SUBMISSION, Patience(), lambda view, judged: heard.append((view, judged)), updates.clock)

    assert [view for view, _ in heard] == [NO_POD, RUNNING, COMPLETE]
    assert [isinstance(judged, Waiting) for _, judged in heard] == [True, True, False]


def test_a_wait_that_raises_ends_it() -> None:
    class Lost(Updates):
        def wait(self, seen: int, seconds: float | None) -> None:
            raise ApiLost("the API server does not answer")

    with pytest.raises(ApiLost):
        follow(Lost((0, RUNNING)), SUBMISSION, Patience(), lambda view, judged: None)


_views = st.sampled_from([NO_POD, BAD_IMAGE, SLOW_PULL, CREATING, UNSCHEDULED, SUSPENDED, RUNNING])


@given(st.lists(st.tuples(st.floats(0.1, 500), _views), max_size=12))
def test_it_always_ends_and_never_after_the_longest_patience(steps: list[tuple[float, JobView]]) -> None:
    script, second = [(0.0, NO_POD)], 0.0
    for pause, view in steps:
        second += pause
        script.append((second, view))
    now, verdict = end_of(*script)

    assert verdict.exit_code in (Exit.COULD_NOT_START, Exit.OUT_OF_TIME)
    assert now <= second + 14460
