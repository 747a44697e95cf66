"""Logs of containers, as the kubelet returns them."""

from jobrelay.executors.cluster.logs.reading import read_log, tail_log

__all__ = ["read_log", "tail_log"]
