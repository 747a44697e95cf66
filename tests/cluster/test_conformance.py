from __future__ import annotations

from tests.conformance import Conformance


class TestCluster(Conformance):
    """Jobs as Jobs."""
