"""A proxy in front of a Kubernetes API server that injects faults, as often as you configure.

    with FaultProxy("kind-kind", [Rule("reset", on="log", after=5000, times=3)]) as proxy:
        proxy.write_kubeconfig(path)
        ...                       # KUBECONFIG=path, whatever is to be tested
        assert proxy.struck("reset")

README.md lists every fault, and the command line.
"""

from __future__ import annotations

from .proxy import FaultProxy
from .records import Request
from .rules import BadRule, Rule, read_rules
from .upstream import Upstream

__all__ = ["BadRule", "FaultProxy", "Request", "Rule", "Upstream", "read_rules"]
