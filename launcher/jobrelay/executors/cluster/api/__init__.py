"""The Kubernetes API: one client, its errors, and commands in running containers."""

from jobrelay.executors.cluster.api.client import Api, collection
from jobrelay.executors.cluster.api.errors import STREAM_ENDED, ApiError
from jobrelay.executors.cluster.api.execution import Execution

__all__ = ["STREAM_ENDED", "Api", "ApiError", "Execution", "collection"]
