"""When what happened to a stage, from what everybody has told."""

from __future__ import annotations

from jobrelay.runs.timeline import LABELS, rows, timeline
from jobrelay.verdicts import JobView
from tests.support import objects as o

MOMENTS = {"begun": "2026-11-21T14:22:35.500Z", "working": "2026-11-21T14:22:37.250Z"}


def test_everybody_s_words_in_one_order() -> None:
    job = o.job("train", o.condition("Complete"))
    message = o.closing().replace('"moments":{}', f'"moments":{MOMENTS}'.replace("'", '"'))
    pod = o.pod(
        job, "Succeeded", conditions=[o.SCHEDULED], containerStatuses=[o.terminated(0, "Completed", message)]
    )
    pulled = o.event(pod, "Pulled", "already present on machine", "Normal")
    found = timeline(
        JobView(job, [pod], [pulled]), pod, {"first_line": None, "seen": "2026-11-21T14:22:40.001Z"}
    )

    assert list(found) == [name for name in LABELS if name in found]
    assert found == MOMENTS | {"seen": "2026-11-21T14:22:40.001Z"} | dict.fromkeys(
        ("created", "pod_created", "scheduled", "image_ready", "started", "ended", "finished"), o.T0
    )


def test_what_nobody_has_told_is_left_out() -> None:
    assert timeline(JobView(None), None, {"seen": None}) == {}
    job = o.job()
    assert timeline(JobView(job, [o.pod(job, "Pending")]), o.pod(job, "Pending"), {}) == {
        "created": o.T0,
        "pod_created": o.T0,
    }


def test_a_row_a_moment_and_a_column_a_stage() -> None:
    train = {
        "created": "2026-11-21T14:22:33Z",
        "started": "2026-11-21T14:22:35Z",
        "working": MOMENTS["working"],
    }
    test = {"created": "2026-11-21T14:22:33Z", "started": "2026-11-21T14:22:33Z"}
    assert rows({"train": train, "eval": test}) == [
        ["container started", "2", "0"],
        ["work starts", "4.25", ""],
    ]
    assert rows({"train": MOMENTS}) == [["python is up", ""], ["work starts", ""]]  # from a record alone
