"""The cluster side: the only import of the Kubernetes client is in `api`."""

from launcher.executors.cluster.executor import ClusterExecutor

__all__ = ["ClusterExecutor"]
