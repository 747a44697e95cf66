"""The cluster side: the API as plain dicts is `api`, how it is reached `connection`."""

from jobrelay.executors.cluster.executor import ClusterExecutor

__all__ = ["ClusterExecutor"]
