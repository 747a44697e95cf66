"""The local side: Jobs as processes, each managed by its own runner."""

from jobrelay.executors.local.executor import LocalExecutor

__all__ = ["LocalExecutor"]
