"""How the containers of a Pod ended, and the stage's closing message."""

from __future__ import annotations

from dataclasses import dataclass

from jobrelay.kube.objects import Container, ContainerStatus, Pod, TerminatedState
from jobrelay.kube.read import (
    container_state,
    container_statuses,
    containers,
    created,
    is_supervised,
    main_container,
    sidecars,
    stage_of,
)
from jobrelay_runner.volume.record import Closing, parse_closing


@dataclass(frozen=True)
class End:
    """How a container of a Pod ended.

    state: its terminated state. contract: whether the container ran JobRelay's own program, or one that
    left its closing message; only then is the exit code one of jobrelay_runner.exit_codes.
    """

    container: str
    state: TerminatedState
    contract: bool

    @property
    def code(self) -> int | None:
        """The exit code; None where no container ran."""
        return self.state.get("exitCode")

    @property
    def contract_code(self) -> int | None:
        """The exit code, if it is one of jobrelay_runner.exit_codes."""
        return self.code if self.contract else None

    @property
    def message(self) -> str:
        return self.state.get("message") or ""

    @property
    def closing(self) -> Closing | None:
        """The stage's closing message."""
        return parse_closing(self.message) if self.contract else None


def stage_end(pod: Pod) -> End:
    """How the stage's own container ended; its state is empty if it has not."""
    name = main_container(pod)["name"]
    return _end(pod, name, container_state(pod, name).get("terminated") or {})


def closing_of(pod: Pod) -> Closing | None:
    """The stage's closing message, from its Pod's termination message."""
    return stage_end(pod).closing


def ended(pod: Pod) -> str:
    """When a Pod ended, as far as that is known; a time to compare with those of other Pods."""
    state = failed_container(pod).state
    conditions = pod.get("status", {}).get("conditions") or ()
    changed = max((c.get("lastTransitionTime") or "" for c in conditions), default="")
    return state.get("finishedAt") or changed or created(pod)


def failed_container(pod: Pod) -> End:
    """How the container that failed the Pod ended.

    It is the stage's own, or an initContainer that kept it from starting, or else the one that ended first:
    Kubernetes ends the others with it.
    """
    status = pod.get("status", {})
    failed = {s["name"]: s["state"]["terminated"] for s in container_statuses(pod) if _has_failed(s)}
    beside = sidecars(pod)
    init = [s["name"] for s in status.get("initContainerStatuses") or () if s["name"] not in beside]
    first = sorted(failed, key=lambda name: failed[name].get("finishedAt") or "")
    for name in (main_container(pod)["name"], *init, *first):
        if name in failed:
            return _end(pod, name, failed[name])
    nothing: TerminatedState = {"reason": status.get("reason", "Error"), "message": status.get("message", "")}
    return End(main_container(pod)["name"], nothing, contract=False)


def _has_failed(status: ContainerStatus) -> bool:
    return bool(((status.get("state") or {}).get("terminated") or {}).get("exitCode"))


def _end(pod: Pod, name: str, state: TerminatedState) -> End:
    none: Container = {}
    spec = next((c for c in containers(pod["spec"]) if c["name"] == name), none)
    closing = parse_closing(state.get("message"))
    # a script that calls JobRelay's program: the closing message shows it
    own = (stage_of(pod), state.get("exitCode"))
    wrapped = closing is not None and (closing.stage, closing.exit_code) == own
    return End(name, state, contract=is_supervised(spec) or wrapped)
