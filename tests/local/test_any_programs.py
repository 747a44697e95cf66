from __future__ import annotations

from tests.suites.any_programs import AnyPrograms


class TestLocal(AnyPrograms):
    """Programs as processes."""
