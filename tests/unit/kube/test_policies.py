"""Whether a NetworkPolicy in the cluster is the one of the manifests."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from jobrelay.errors import Conflict
from jobrelay.executors.cluster.shared import check_policy
from tests.support import objects as o

Object = dict[str, Any]

POLICIES = [item for item in o.base().shared if item["kind"] == "NetworkPolicy"]
DENY = next(item for item in POLICIES if item["metadata"]["name"] == "jobrelay-deny")


@pytest.mark.parametrize("policy", POLICIES, ids=lambda item: item["metadata"]["name"])
def test_row_59_a_policy_as_a_server_gives_it_back_is_the_same(policy: Object) -> None:
    live = copy.deepcopy(policy)
    live["metadata"].update(uid="1", resourceVersion="2", generation=1)
    live["status"] = {}
    for rule in live["spec"].get("egress") or ():
        for port in rule.get("ports") or ():
            port.setdefault("protocol", "TCP")
    check_policy(policy, live)


def test_what_a_server_fills_in_is_no_difference() -> None:
    bare = {**DENY, "spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}}
    ports = [{"protocol": "TCP", "port": 53}]
    filled = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{"ports": ports}]}
    check_policy(bare, {**DENY, "spec": filled})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"egress": [{}]}, "spec.egress[0]: {} there"),
        ({"ingress": [{"from": [{"namespaceSelector": {}}]}]}, "spec.ingress[0].from[0].namespaceSelector"),
        ({"policyTypes": ["Ingress"]}, "spec.policyTypes"),
        ({"podSelector": {"matchLabels": {"app.kubernetes.io/name": "other"}}}, "spec.podSelector"),
    ],
    ids=["egress-to-all", "ingress-from-all", "no-egress", "other-pods"],
)
def test_row_59_a_policy_that_was_opened_is_noticed(change: Object, told: str) -> None:
    live = copy.deepcopy(DENY)
    live["spec"].update(change)
    with pytest.raises(Conflict, match="jobrelay-deny in the cluster differs from the manifest") as error:
        check_policy(DENY, live)
    assert told in error.value.what
