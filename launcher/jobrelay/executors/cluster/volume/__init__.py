"""The shared volume, through a small Pod that mounts it for a moment."""

from jobrelay.executors.cluster.volume.pod import VolumePod
from jobrelay.executors.cluster.volume.starting import Say

__all__ = ["Say", "VolumePod"]
