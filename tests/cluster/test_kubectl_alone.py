"""The manifests without the launcher."""

from __future__ import annotations

import pytest
import yaml

from jobrelay.manifests import INDEXED_SINCE
from tests.suites.several_pods import NODES
from tests.support import PATIENCE, QUICK, REPOSITORY, Place
from tests.support.kubectl import Kubectl


def test_kubectl_alone_runs_the_stages_in_order(place: Place, kubectl: Kubectl) -> None:
    rendered = place.run("render", "--run", "alone", *QUICK).out
    kubectl.apply_text(rendered)
    assert kubectl.wait_until(lambda: kubectl.complete("alone-infer"), seconds=PATIENCE)
    ends = [
        kubectl.get("job", f"alone-{stage}")["status"]["completionTime"]
        for stage in ("train", "eval", "infer")
    ]
    assert ends == sorted(ends)
    place.run("fetch", "alone")
    assert (place.folder / "runs/alone/eval_results.json").exists()


def test_kubectl_alone_ends_when_a_stage_fails(place: Place, kubectl: Kubectl) -> None:
    rendered = place.run(
        "render", "--run", "alone", "--set", "data.name=mnist", "--set", "data.mirror=http://127.0.0.1:9/"
    ).out
    kubectl.apply_text(rendered)
    assert kubectl.wait_until(lambda: kubectl.failed("alone-eval"), seconds=PATIENCE)
    assert not kubectl.complete("alone-infer")


@pytest.mark.parametrize("overlay", ["base", "overlays/kind", "overlays/gpu"])
def test_the_api_server_takes_every_overlay(kubectl: Kubectl, overlay: str) -> None:
    kubectl.make_namespace()
    objects = list(yaml.safe_load_all(kubectl("kustomize", str(REPOSITORY / "k8s" / overlay))))
    for item in objects:
        if item["kind"] == "Namespace":
            item["metadata"]["name"] = kubectl.namespace
        else:
            item["metadata"]["namespace"] = kubectl.namespace
    answer = kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(objects))
    assert answer.count("server dry run") == len(objects) == 12


def test_the_api_server_takes_a_training_on_several_nodes(place: Place, kubectl: Kubectl) -> None:
    kubectl.needs(INDEXED_SINCE, "Indexed Jobs")
    kubectl.make_namespace()
    rendered = place.run("render", "--run", "2026-a", *NODES).out
    answer = kubectl("apply", "--dry-run=server", "-f", "-", stdin=rendered)
    assert "service/train-2026-a created (server dry run)" in answer
    assert "job.batch/2026-a-train created (server dry run)" in answer
