"""`import jobrelay`: a run on a cluster, from a program."""

from __future__ import annotations

import os
from pathlib import Path

import jobrelay
from tests.conftest import IMAGE
from tests.support import programs
from tests.support.kubectl import Kubectl


def test_a_run_from_a_program(kubectl: Kubectl, tmp_path: Path) -> None:
    folder = programs(tmp_path / "m", train="print('trained', flush=True)")
    image = IMAGE if "JOBRELAY_TEST_IMAGE" in os.environ else None
    where = jobrelay.Cluster(kubectl.context, namespace=kubectl.namespace)
    relay = jobrelay.Relay(folder, on=where, image=image, folder=tmp_path / "results")

    started = relay.start("a", fetch=False)
    events = list(started)

    assert jobrelay.LogLine("train", "trained") in events
    assert any(isinstance(event, jobrelay.Waiting) for event in events)
    run = started.result()
    assert run.exit_code == 0, run["train"].verdict
    assert [state.state for state in relay.status("a")] == ["succeeded"] * 3
    assert len(kubectl.items("jobs")) == 3
    assert relay.logs("a", "train") == "trained\n"
    relay.delete("a")
    assert kubectl.wait_until(lambda: not kubectl.items("jobs"), seconds=60)
