"""The shared volume, through a small, short-lived Pod that mounts it."""

from jobrelay.executors.cluster.volume.pod import VolumePod
from jobrelay.executors.cluster.volume.starting import Say

__all__ = ["Say", "VolumePod"]
