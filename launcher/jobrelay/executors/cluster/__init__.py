"""The cluster side: `api` has the API as plain dicts, `login` the way to reach it."""

from jobrelay.executors.cluster.executor import ClusterExecutor

__all__ = ["ClusterExecutor"]
