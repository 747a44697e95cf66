"""Launchers that are killed, that come back, that are two."""

from __future__ import annotations

import json
import random
import signal
import time

import pytest

from tests.support import PATIENCE, QUICK, Place
from tests.support.kubectl import Kubectl

STAGES = ("train", "eval", "infer")


def jobs(kubectl: Kubectl) -> dict[str, str]:
    return {job["metadata"]["name"]: job["metadata"]["uid"] for job in kubectl.items("jobs")}


@pytest.mark.parametrize("seed", range(3))
def test_row_46_a_launcher_that_is_killed_at_any_moment(place: Place, kubectl: Kubectl, seed: int) -> None:
    dice = random.Random(seed)
    seen: dict[str, str] = {}
    for _ in range(3):
        process = place.start("run-all", "--run", "a", *QUICK)
        time.sleep(dice.uniform(0.3, 5.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        now = jobs(kubectl) if kubectl.exists("namespace", kubectl.namespace) else {}
        assert seen.items() <= now.items()  # nothing that was there was made anew
        seen = now
    report = place.run("run-all", "--run", "a", "-o", "json", *QUICK).json()
    assert seen.items() <= jobs(kubectl).items()
    assert sorted(jobs(kubectl)) == sorted(f"a-{stage}" for stage in STAGES)
    assert [stage["verdict"]["outcome"] for stage in report["stages"]] == ["succeeded"] * 3


def test_row_48_two_launchers_follow_one_set_of_jobs(place: Place, kubectl: Kubectl) -> None:
    both = [place.start("run-all", "--run", "a", "-o", "json", "--no-fetch", *QUICK) for _ in range(2)]
    ends = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    reports = [json.loads(out) for out, _ in ends]
    verdicts = [[stage["verdict"] for stage in report["stages"]] for report in reports]
    assert verdicts[0] == verdicts[1]
    assert len(jobs(kubectl)) == 3
    assert len(kubectl.items("pods")) == 3
