from __future__ import annotations

from tests.conformance import Conformance


class TestLocal(Conformance):
    """Jobs as processes."""
