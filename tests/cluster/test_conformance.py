from __future__ import annotations

from tests.suites.conformance import Conformance


class TestCluster(Conformance):
    """Jobs as Jobs."""
