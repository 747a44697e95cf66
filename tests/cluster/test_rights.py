"""The launcher with the rights of k8s/base/rbac.yaml, and with fewer."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
import yaml

from faultproxy import FaultProxy, Request
from jobrelay.executors.cluster.api import Api
from jobrelay.executors.cluster.preflight import RIGHTS, SERVICE_RIGHTS, SHARED_RIGHTS, Right, missing_rights
from jobrelay.manifests import INDEXED_SINCE
from tests.suites.several_pods import NODES
from tests.support import BASE, LITTLE, QUICK, Object, Place, programs
from tests.support.kubectl import Kubectl

RULES: list[Object] = yaml.safe_load((BASE / "rbac.yaml").read_text())["rules"]


@pytest.fixture
def somebody(place: Place, kubectl: Kubectl) -> Path:
    """The kubeconfig of somebody who has the launcher's Role, and nothing else anywhere."""
    kubectl.make_namespace()
    path = kubectl.restricted_context(RULES, place.folder.parent / "kubeconfig")
    place.environment["KUBECONFIG"] = str(path)
    return path


def test_row_59_everything_works_with_exactly_the_role(place: Place, somebody: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_text("x")

    report = place.run("run-all", "--run", "a", "-o", "json", *QUICK).json()
    assert report["exit_code"] == 0
    assert place.run("run-all", "-o", "json", *QUICK).json()["run"] == "a"  # found again by its plan
    assert "training" in place.run("logs", "a", "train").out
    assert len(place.run("status", "a", "-o", "json").json()) == 3
    assert "a" in place.run("list", "--recorded").out
    place.run("fetch", "a", "--all")
    place.run("put", str(data), "mine")
    place.run("cancel", "a")
    assert "runs/a on the volume deleted" in place.run("delete", "a", "--data").out

    found = {f["check"]: f["state"] for f in place.run("doctor", "-o", "json", expect=None).json()}
    assert found["rights"] == "ok"


def test_row_59_a_deny_policy_that_was_opened_ends_the_run_before_a_job_is_made(
    place: Place, kubectl: Kubectl, somebody: Path
) -> None:
    place.run("run-all", "--run", "a", *QUICK, "--no-fetch")
    opened = json.dumps({"spec": {"egress": [{}]}})
    kubectl("patch", "networkpolicy", "jobrelay-deny", "--type=merge", "-p", opened)
    result = place.run("run-all", "--run", "b", *QUICK, "--no-fetch", expect=6)
    assert "NetworkPolicy jobrelay-deny in the cluster differs from the manifest" in result.err
    assert "spec.egress[0]: {} there, nothing wanted" in result.err
    assert not kubectl("get", "jobs", "-l", "jobrelay.dev/run=b", "-o", "name")


def test_row_9_every_right_that_is_missing_is_named(
    place: Place, kubectl: Kubectl, somebody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as asked:  # kubectl stays an administrator
        asked.setenv("KUBECONFIG", str(somebody))
        api = Api(None)
    assert missing_rights(api, kubectl.namespace) == []
    for right in RIGHTS:
        patch = json.dumps({"rules": _without(right)})
        kubectl("patch", "role", "some", "--type=merge", "-p", patch)
        assert kubectl.wait_until(lambda right=right: missing_rights(api, kubectl.namespace) == [right])


def test_row_9_services_are_asked_for_by_a_training_on_several_nodes_alone(
    place: Place, kubectl: Kubectl
) -> None:
    kubectl.needs(INDEXED_SINCE, "Indexed Jobs")
    kubectl.make_namespace()
    rules = [rule for rule in RULES if rule["resources"] != ["services"]]
    context = kubectl.restricted_context(rules, place.folder.parent / "kubeconfig")
    place.environment["KUBECONFIG"] = str(context)
    arguments = ("run", "train", "-k", str(programs(place.folder / "m")), "--no-fetch")
    place.run(*arguments, "--run", "a", *LITTLE)
    assert "Job a-train deleted" in place.run("delete", "a").out
    result = place.run(*arguments, "--run", "b", *NODES, expect=2)
    assert "create services, list services, delete services" in result.err
    assert not kubectl.items("jobs")


def test_row_9_a_right_that_is_missing(place: Place, kubectl: Kubectl) -> None:
    kubectl.make_namespace()
    rules = _without(Right("get", "pods/log"))
    context = kubectl.restricted_context(rules, place.folder.parent / "kubeconfig")
    place.environment["KUBECONFIG"] = str(context)
    result = place.run("run-all", "--run", "a", expect=2)
    assert "get pods/log" in result.err
    assert not kubectl.items("jobs")


VERBS = {"POST": "create", "GET": "get", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACED = re.compile(r"/apis?/(?:(?P<group>[^/]+\.[^/]+|batch)/)?v1/namespaces/[^/]+/(?P<rest>.+)")


def asked_for(request: Request) -> Right | None:
    """The right that a request in a namespace needs; None for what everybody may do."""
    match = _NAMESPACED.fullmatch(request.path)
    if not match:
        return None
    resource, _, rest = match["rest"].partition("/")
    subresource = rest.partition("/")[2]
    verb = VERBS[request.method]
    if verb == "get" and not rest:
        verb = "watch" if request.kind == "watch" else "list"
    return Right(verb, f"{resource}/{subresource}" if subresource else resource, match["group"] or "")


def test_row_59_the_role_has_nothing_that_is_never_asked_for(
    place: Place, kubectl: Kubectl, proxy: FaultProxy
) -> None:
    folder = programs(place.folder / "m", eval="import time; print('on', flush=True); time.sleep(60)")
    place.run("run-all", "--run", "a", "--ttl", "3600", *QUICK)
    place.run("run-all", "--run", "a", *QUICK)  # finds its Jobs there
    place.run("run-all", "--run", "a", "--set", "seed=1", *QUICK, expect=6)
    place.interrupt_when("eval │ on", signal.SIGINT, "run-all", "--run", "b", "-k", str(folder), "--no-fetch")
    place.run("cancel", "b")
    place.run("delete", "b")
    granted = {*RIGHTS, *SHARED_RIGHTS, Right("list", "services")}
    if kubectl.minor >= INDEXED_SINCE:
        granted |= set(SERVICE_RIGHTS)
        place.run("run", "train", "--run", "c", "-k", str(folder), "--no-fetch", *NODES)
        place.run("delete", "c")

    used = {right for request in proxy.requests if (right := asked_for(request))}
    # an apply asks for it where there is nothing yet; newer servers ask for it at every exec
    hidden = {right for right in granted if right.verb == "create" and right not in used}
    assert {str(right) for right in hidden} == {
        "create persistentvolumeclaims", "create serviceaccounts", "create pods/exec",
        "create networkpolicies.networking.k8s.io",
    }  # fmt: skip
    looked_at = {right for right in SHARED_RIGHTS if right.verb == "get"}  # by who is no administrator
    # for an early start: whoever may not ask for these goes without
    room = {Right("list", "nodes"), Right("list", "resourcequotas")}
    assert used - granted <= room
    assert granted - used - hidden - looked_at == set()


def _without(right: Right) -> list[Object]:
    def verbs(rule: Object) -> list[str]:
        same = right.group in rule["apiGroups"] and right.resource in rule["resources"]
        return [verb for verb in rule["verbs"] if not (same and verb == right.verb)]

    return [{**rule, "verbs": kept} for rule in RULES if (kept := verbs(rule))]
