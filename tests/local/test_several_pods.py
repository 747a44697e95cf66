"""Stages of several Pods, as processes."""

from __future__ import annotations

from tests.nodes import SeveralPods


class TestSeveralPodsLocal(SeveralPods):
    pass
