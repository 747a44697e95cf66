from __future__ import annotations

from tests.suites.any_programs import AnyPrograms


class TestCluster(AnyPrograms):
    """Programs as Jobs."""
