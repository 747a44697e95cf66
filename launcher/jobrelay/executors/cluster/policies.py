"""Whether the NetworkPolicies in the cluster are those of the manifests.

Server-side apply changes only what a manifest says: a rule that somebody has added beside it stays, and
lets the stages speak to others. And who may not apply them takes them as they are.
"""

from __future__ import annotations

from jobrelay.errors import Conflict
from jobrelay.kube.objects import Object
from jobrelay.manifests import differing_paths

KIND = "NetworkPolicy"


def check_policy(wanted: Object, live: Object) -> None:
    """Raise Conflict, naming every field, where the policy in the cluster is not the one that is wanted."""
    differences = differing_paths(_canonical(wanted.get("spec") or {}), _canonical(live.get("spec") or {}))
    if differences:
        listed = "".join(f"\n    {difference}" for difference in differences)
        name = wanted["metadata"]["name"]
        raise Conflict(
            f"NetworkPolicy {name} in the cluster differs from the manifest:{listed}",
            "restore it (kubectl replace -f FILE, or delete it and run again); if the change is "
            "intended, make it in the manifests of -k too",
        )


def _canonical(spec: Object) -> Object:
    """With what a server adds to it, and without what means nothing."""
    rules = {
        direction: [_rule(rule, peers) for rule in spec.get(direction) or ()]
        for direction, peers in (("ingress", "from"), ("egress", "to"))
    }
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if rules["egress"] else [])]
    return {"podSelector": _selector(spec.get("podSelector")), "policyTypes": sorted(types), **rules}


def _rule(rule: Object, peers: str) -> Object:
    ports = [{"protocol": "TCP", **port} for port in rule.get("ports") or ()]
    selected = [
        {key: _selector(value) if key.endswith("Selector") else value for key, value in peer.items()}
        for peer in rule.get(peers) or ()
    ]
    return {**({"ports": ports} if ports else {}), **({peers: selected} if selected else {})}


def _selector(selector: Object | None) -> Object:
    return {key: value for key, value in (selector or {}).items() if value}
