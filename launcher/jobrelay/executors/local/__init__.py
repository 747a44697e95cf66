"""The local side: Jobs as processes, each looked after by a runner of its own."""

from jobrelay.executors.local.executor import LocalExecutor

__all__ = ["LocalExecutor"]
