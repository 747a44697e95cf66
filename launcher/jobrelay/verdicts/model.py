"""The state of a Job: a verdict, or what it still waits for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from jobrelay.errors import Exit
from jobrelay.hints import Hint, as_json, from_json
from jobrelay.kube.objects import Event, Job, Pod
from jobrelay_train.config.placement import Placement


@dataclass(frozen=True)
class Patience:
    """How long each state may last, in seconds, and how many Pods may be lost to disruptions."""

    disruptions: int = 10
    no_pod: float = 30
    #: for the Pod after a lost one: its controller doubles the wait each time, up to six minutes
    next_pod: float = 600
    queue: float = 3600
    schedule: float = 300
    start: float = 600
    bad_image: float = 5
    no_registry: float = 30
    bad_config: float = 30
    #: beyond activeDeadlineSeconds, when the kubelet is not there to enforce it
    overrun: float = 60

    def of(self, placement: Placement) -> Patience:
        """These limits, overridden by those in the configuration of a stage."""
        asked = {
            "disruptions": placement.disruption_limit,
            "queue": placement.queue_timeout_seconds,
            "schedule": placement.schedule_timeout_seconds,
            "start": placement.start_timeout_seconds,
        }
        return replace(self, **{key: value for key, value in asked.items() if value is not None})


@dataclass(frozen=True)
class Verdict:
    """How a stage ended."""

    exit_code: Exit
    outcome: str  # succeeded | failed | could not start | out of time | disrupted
    reason: str  # as the API reports it
    message: str  # as the API reports it
    pod: str | None = None
    container_exit: int | None = None
    hint: Hint = ""

    @property
    def cause(self) -> str:
        """Reason and message in one. `Error` is left out: it only means that the exit code is not 0."""
        reason = "" if self.reason == "Error" and self.message else self.reason
        return ": ".join(filter(None, (reason, self.message)))

    def to_annotation(self) -> str:
        """JSON for `from_annotation`: a Job that was stopped keeps the reason."""
        return json.dumps({**asdict(self), "hint": as_json(self.hint)})

    @classmethod
    def from_annotation(cls, text: str) -> Verdict | None:
        try:
            tree = json.loads(text)
            hint = from_json(tree.get("hint", ""))
            return cls(**{**tree, "exit_code": Exit(tree["exit_code"]), "hint": hint})
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


@dataclass(frozen=True)
class Deadline:
    """A limit of `seconds` for a state, identified by `key`, and the verdict if the state lasts longer."""

    key: str
    seconds: float
    verdict: Verdict


@dataclass(frozen=True)
class Waiting:
    """A Job that has not ended.

    phase: queued, scheduling, starting, running, finishing. detail: what is not as it should be.
    """

    phase: str
    detail: str = ""
    pod: str | None = None
    deadlines: tuple[Deadline, ...] = ()


@dataclass(frozen=True)
class JobView:
    """All that is known of one Job at one moment. `job` is None once it has been deleted.

    lost: its Pods that were deleted while it was followed, as last seen.
    """

    job: Job | None
    pods: Sequence[Pod] = ()
    events: Sequence[Event] = ()
    lost: Sequence[Pod] = ()
