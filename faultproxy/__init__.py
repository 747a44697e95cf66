"""A proxy before a Kubernetes API server that makes faults, on purpose and as often as you say.

    with FaultProxy("kind-kind", [Rule("reset", on="log", after=5000, times=3)]) as proxy:
        proxy.write_kubeconfig(path)
        ...                       # KUBECONFIG=path, whatever is to be tested
        assert proxy.struck("reset")

README.md has every fault, and the same from the command line.
"""

from __future__ import annotations

from .proxy import FaultProxy
from .records import Request
from .rules import BadRule, Rule, read_rules
from .upstream import Upstream

__all__ = ["BadRule", "FaultProxy", "Request", "Rule", "Upstream", "read_rules"]
