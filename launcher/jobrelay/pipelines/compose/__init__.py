"""A docker-compose file as a pipeline: services that end become stages, one after the other."""

from jobrelay.pipelines.compose.reader import read

__all__ = ["read"]
