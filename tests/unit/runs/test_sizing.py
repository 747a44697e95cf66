"""Requests against use: what is suggested, what is not, and what --set STAGE.autosize=true makes of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay import manifests
from jobrelay.console import Console
from jobrelay.kube.quantities import parse_quantity
from jobrelay.kube.read import main_container
from jobrelay.manifests import Plan
from jobrelay.runs.sizing import Size, autosized, requests_against_use, suggest
from jobrelay_runner.volume.record import Closing, Cost, LogDigest
from jobrelay_train.config.loading import load_config, validate
from jobrelay_train.config.schema import STAGES
from tests.support import objects as o

Object = dict[str, Any]
MI = 2**20
ASKED: Object = {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}}


def _said(
    peak: float = 400 * MI,
    cpu: float = 19.0,
    wall: float = 10.0,
    measure: Any = "cgroup",
    waited: float | None = 0.0,
    **others: Any,
) -> Closing:
    return Closing(
        stage="train",
        exit_code=others.pop("exit_code", 0),
        log=LogDigest(sha256="0" * 64, bytes=0, lines=0, file="logs/x.log"),
        cost=Cost(
            wall_seconds=wall,
            cpu_seconds=cpu,
            cpu_waited_seconds=waited,
            peak_memory_bytes=int(peak),
            peak_memory_from=measure,
        ),
        **others,
    )


@pytest.mark.parametrize(
    ("said", "size"),
    [
        (_said(), Size("1900m", "640Mi")),
        (_said(cpu=20.0), Size("2", "640Mi")),
        (_said(cpu=0.1), Size("100m", "640Mi")),
        (_said(peak=10 * MI), Size("1900m", "64Mi")),
        (_said(peak=1700 * MI), Size("1900m", "2Gi")),  # 2560 Mi would be more than it has lived within
        (_said(measure="process"), Size("1900m", None)),
        (_said(skipped=True), Size()),
        (_said(exit_code=1), Size()),
        (None, Size()),
    ],
    ids=[
        "rounded-up", "whole-cores", "hardly-any-cpu", "hardly-any-memory", "within-its-limit",
        "one-process-was-measured", "nothing-to-do", "failed", "said-nothing",
    ],
)  # fmt: skip
def test_what_is_suggested(said: Closing | None, size: Size) -> None:
    assert suggest(ASKED, said) == size


@pytest.mark.parametrize(
    ("cpu", "waited", "suggested"),
    [
        (3.0, 0.4, "300m"), (3.0, 0.6, None), (3.0, None, None), (19.0, 9.0, "1900m"), (19.0, None, "1900m"),
        (10.0, 9.0, "1"),
    ],
    ids=["had-enough", "crowded", "nobody-tells", "more", "more-and-nobody-tells", "as-it-was"],
)  # fmt: skip
def test_less_cpu_is_suggested_only_where_there_was_enough(
    cpu: float, waited: float | None, suggested: str | None
) -> None:
    assert suggest(ASKED, _said(cpu=cpu, waited=waited)).cpu == suggested


def test_without_a_limit_the_peak_decides() -> None:
    assert suggest({}, _said(peak=3000 * MI)) == Size("1900m", "4544Mi")


@pytest.mark.parametrize("said", [None, _said(exit_code=137)])
def test_what_died_of_memory_should_have_more(said: Closing | None) -> None:
    assert suggest(ASKED, said, out_of_memory=True) == Size(memory="4Gi")
    assert suggest({}, said, out_of_memory=True) == Size()


@given(
    st.floats(1, 2**40), st.floats(0, 1e5), st.floats(1, 1e5), st.sampled_from(["256Mi", "2Gi", "3G", None])
)
def test_never_less_than_was_used(peak: float, cpu: float, wall: float, limit: str | None) -> None:
    resources = {"limits": {"memory": limit}} if limit else {}
    size = suggest(resources, _said(peak, cpu, wall))

    assert size.cpu
    assert size.memory
    assert parse_quantity(size.memory) >= int(peak)
    assert parse_quantity(size.cpu) >= cpu / wall - 0.002
    # and it is what the configuration takes
    assert validate({"train": {"cpu": size.cpu, "memory": size.memory}}).train.memory == size.memory


def test_requests_stand_beside_what_was_used() -> None:
    assert requests_against_use(ASKED, _said().cost) == ["1.9 of 1", "400 MiB of 1.0 GiB (limit 2.0 GiB)"]
    assert requests_against_use({}, _said(measure="process").cost) == [
        "1.9 of nothing", "400 MiB (largest process) of nothing",
    ]  # fmt: skip


def test_a_suggestion_is_told_as_it_is_typed() -> None:
    assert Size("1900m", "640Mi").settings("train") == "--set train.cpu=1900m --set train.memory=640Mi"
    assert Size("1", "1024Mi").beyond(ASKED) == Size()  # it has that


# --- autosize ---


class _Place:
    """An executor that knows these Jobs, oldest first."""

    limits_resources = True

    def __init__(self, *known: tuple[Object, Sequence[Object]]) -> None:
        self.known = known

    def jobs(self, run: str | None = None) -> Sequence[tuple[Object, Sequence[Object]]]:
        return self.known


def _plan(*overrides: str, run: str = "new") -> Plan:
    return manifests.render(o.base(), load_config(None, overrides), run)


def _ended(
    plan: Plan, said: Closing | None = None, reason: str = "Completed"
) -> tuple[Object, Sequence[Object]]:
    """The plan's training, as it stands in a cluster after its end."""
    failed = reason != "Completed"
    job = manifests.without_gate(plan.jobs["train"])
    condition = o.condition("Failed", reason="BackoffLimitExceeded") if failed else o.condition("Complete")
    job["metadata"]["uid"] = f"uid-{plan.run}"
    job["status"] = {"conditions": [condition]}
    state = o.terminated(137 if failed else 0, reason, said.message() if said else "")
    return job, [o.pod(job, "Failed" if failed else "Succeeded", containerStatuses=[state])]


def _autosized(known: Sequence[tuple[Object, Sequence[Object]]], plan: Plan) -> tuple[Plan, str]:
    """The plan with what is suggested, and what was said of it."""
    said = io.StringIO()
    place: Any = _Place(*known)
    return autosized(place, plan, STAGES, Console(stderr=said)), said.getvalue()


def _resources(known: Sequence[tuple[Object, Sequence[Object]]], plan: Plan) -> tuple[Object, str]:
    sized, told = _autosized(known, plan)
    return main_container(sized.jobs["train"])["resources"], told


def test_the_last_run_of_the_same_work_decides() -> None:
    first, last = _plan(run="first"), _plan(run="last")
    other = _plan("train.epochs=6", run="other")
    known = [_ended(first, _said(peak=900 * MI)), _ended(last, _said()), _ended(other, _said(peak=MI))]

    resources, told = _resources(known, _plan("train.autosize=true"))

    assert resources == {"requests": {"cpu": "1900m", "memory": "640Mi"}, "limits": {"memory": "640Mi"}}
    assert "train: autosize: cpu 1900m, memory 640Mi, after run last" in told


def test_what_is_given_stays() -> None:
    resources, _ = _resources(
        [_ended(_plan(run="old"), _said())], _plan("train.autosize=true", "train.memory=3Gi")
    )

    assert resources == {"requests": {"cpu": "1900m", "memory": "3Gi"}, "limits": {"memory": "3Gi"}}


def test_more_placement_is_the_same_work() -> None:
    known = [_ended(_plan("train.cpu=4", "train.memory=8Gi", "train.backoff_limit=5", run="a"), _said())]

    assert "after run a" in _resources(known, _plan("train.autosize=true"))[1]


def test_after_death_of_memory_there_is_more() -> None:
    known = [_ended(_plan(run="good"), _said()), _ended(_plan(run="dead"), None, "OOMKilled")]

    resources, told = _resources(known, _plan("train.autosize=true"))

    assert resources["limits"] == {"memory": "4Gi"}
    assert "memory 4Gi, after run dead" in told


@pytest.mark.parametrize(
    "known", [[], [_ended(_plan("seed=1", run="old"), _said())], [_ended(_plan(run="old"), None, "Error")]]
)
def test_without_such_a_run_the_manifest_decides_and_that_is_told(known: Any) -> None:
    plan = _plan("train.autosize=true")

    resources, told = _resources(known, plan)

    assert resources == main_container(plan.jobs["train"])["resources"]
    assert "no earlier run of this work reported its use" in told


def test_without_autosize_nothing_is_changed() -> None:
    plan = _plan()

    assert _autosized([_ended(_plan(run="old"), _said())], plan) == (plan, "")


def test_a_job_of_this_run_keeps_what_it_has() -> None:
    plan = _plan("train.autosize=true", run="mine")

    resources, told = _resources([_ended(_plan(run="a"), _said()), _ended(plan, _said())], plan)

    assert (resources, told) == (main_container(plan.jobs["train"])["resources"], "")


def test_whatever_is_suggested_the_same_command_finds_its_run_again() -> None:
    plan = _plan("train.autosize=true")
    small, large = (
        _autosized([_ended(_plan(run="old"), said)], plan)[0]
        for said in (_said(peak=MI), _said(peak=1000 * MI))
    )

    assert small.jobs["train"]["spec"] != large.jobs["train"]["spec"]
    assert small.hash == large.hash == plan.hash != _plan().hash
    annotations = [p.jobs["train"]["metadata"]["annotations"] for p in (small, large)]
    assert annotations[0] == annotations[1]
