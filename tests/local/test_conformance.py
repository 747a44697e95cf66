from __future__ import annotations

from tests.suites.conformance import Conformance


class TestLocal(Conformance):
    """Jobs as processes."""
