"""Which image reads the volume: that of a run on it, which its nodes have, before the default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobrelay.executors.cluster import ClusterExecutor
from jobrelay.kube.read import job_that_ran, main_container
from jobrelay.runs.target import Target
from tests.support import objects as o
from tests.support.apiserver import kubeconfig, ok, refusal, serving

Object = dict[str, Any]
CLAIM = "jobrelay"


def job(run: str, image: str, stage: str = "train", claim: str = CLAIM, second: int = 0) -> Object:
    made = o.job(stage)
    made["metadata"]["labels"]["jobrelay.dev/run"] = run
    made["metadata"]["creationTimestamp"] = f"2026-11-21T14:00:{second:02}Z"
    spec = made["spec"]["template"]["spec"]
    spec["containers"][0]["image"] = image
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            volume["persistentVolumeClaim"]["claimName"] = claim
    return made


JOBS = [job("a", "a:1"), job("a", "a:eval", "eval"), job("b", "b:1"), job("c", "c:1", claim="other")]


@pytest.mark.parametrize(
    ("run", "jobs", "image"),
    [
        ("a", JOBS, "a:1"),
        ("b", JOBS, "b:1"),
        (None, JOBS, "b:1"),
        ("gone", JOBS, "b:1"),
        ("c", JOBS, "b:1"),
        ("a", [], None),
    ],
    ids=["its-own", "another", "newest", "gone", "another-volume", "none"],
)
def test_the_image_that_ran(run: str | None, jobs: list[Object], image: str | None) -> None:
    found = job_that_ran(jobs, run, CLAIM)
    assert (main_container(found)["image"] if found else None) == image


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


def image_of(target: Target, run: str | None) -> str:
    executor = target.executor()
    assert isinstance(executor, ClusterExecutor)
    return executor.volume(run)._reader.image  # what the Pod will be made with


def test_the_volume_is_read_with_it(context: Path) -> None:
    with serving(ok({"kind": "JobList", "items": JOBS})) as server:
        kubeconfig(context, server.url)
        assert image_of(Target(), "a") == "a:1"
        assert image_of(Target(), None) == "b:1"
        assert image_of(Target(image="asked:1"), "a") == "asked:1"


@pytest.mark.parametrize(
    "answer",
    [ok({"kind": "JobList", "items": []}), refusal(403, "Forbidden", "no")],
    ids=["no-jobs", "no-right"],
)
def test_else_it_is_the_default(context: Path, answer: Any) -> None:
    with serving(answer) as server:
        kubeconfig(context, server.url)
        assert image_of(Target(), "a") == "jobrelay:0.1.0"
