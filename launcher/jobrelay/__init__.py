"""Train, evaluate and infer with PyTorch as Kubernetes Jobs that share one volume.

The library is `Relay` (see jobrelay.api). It is imported on first use, so that the command line starts fast.
"""

from typing import TYPE_CHECKING, Any

from jobrelay_runner import __version__

if TYPE_CHECKING:
    from jobrelay.api import Cluster, Local, Relay
    from jobrelay.errors import (
        ApiLost,
        BadInput,
        Conflict,
        EvidenceIncomplete,
        Exit,
        JobRelayError,
        StageEnded,
        UnknownRun,
    )
    from jobrelay.resources import data_home
    from jobrelay.runs.events import Ended, Event, LogLine, Started, Submitted, Waiting
    from jobrelay.runs.report import RunReport, StageReport
    from jobrelay.runs.results import Fetched
    from jobrelay.runs.status import StageState

_PLACES = {
    "jobrelay.api": ("Cluster", "Local", "Relay"),
    "jobrelay.resources": ("data_home",),
    "jobrelay.errors": (
        "ApiLost", "BadInput", "Conflict", "EvidenceIncomplete", "Exit", "JobRelayError", "StageEnded",
        "UnknownRun",
    ),
    "jobrelay.runs.events": ("Ended", "Event", "LogLine", "Started", "Submitted", "Waiting"),
    "jobrelay.runs.report": ("RunReport", "StageReport"),
    "jobrelay.runs.results": ("Fetched",),
    "jobrelay.runs.status": ("StageState",),
}  # fmt: skip

__all__ = [
    "ApiLost",
    "BadInput",
    "Cluster",
    "Conflict",
    "Ended",
    "Event",
    "EvidenceIncomplete",
    "Exit",
    "Fetched",
    "JobRelayError",
    "Local",
    "LogLine",
    "Relay",
    "RunReport",
    "StageEnded",
    "StageReport",
    "StageState",
    "Started",
    "Submitted",
    "UnknownRun",
    "Waiting",
    "__version__",
    "data_home",
]


def __getattr__(name: str) -> Any:
    import importlib

    for module, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'jobrelay' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
