"""One Pod as processes: init containers in order, then the others in parallel, sidecars throughout."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from jobrelay.executors.local.pod.container import Container, StatusGroup
from jobrelay.executors.local.pod.state import JobState
from jobrelay.kube.labels import PREPARE
from jobrelay.kube.objects import Container as ContainerSpec
from jobrelay.kube.objects import Pod

#: Seconds before an ended sidecar restarts, doubled each time. Kubernetes starts with 10.
_AGAIN_SECONDS: Final = 1.0
_AGAIN_AT_MOST: Final = 300.0
#: The reason of a Pod that ended because its runner had to end, through no fault of its own.
NODE_SHUTDOWN: Final = "Terminated"


class PodRunner:
    """Runs one Pod to its end."""

    def __init__(self, state: JobState, pod: Pod) -> None:
        self._state = state
        self._pod = pod
        self._is_over = False  # its containers have ended: end the sidecars

    def run(self) -> None:
        """Run it as a kubelet does; it succeeds if all containers but the sidecars do. Raises OSError."""
        seconds = self._pod["spec"].get("activeDeadlineSeconds")
        deadline = time.monotonic() + seconds if seconds else None
        try:
            with _scratch(self._pod) as scratch, self._sidecars() as sidecars:
                good = self._initialise(scratch, deadline, sidecars) and self._work(scratch, deadline)
        except BaseException:
            self._enter("Failed")
            raise
        self._enter("Succeeded" if good else "Failed")

    def _initialise(self, scratch: Path, deadline: float | None, sidecars: list[threading.Thread]) -> bool:
        """Run init containers in order, each after the one before has succeeded; sidecars stay up."""
        for spec in self._pod["spec"].get("initContainers") or ():
            if spec["name"] == PREPARE and (spec.get("args") or [""])[0] == "":
                continue  # here the mounted folders are made by this user anyway
            if spec.get("restartPolicy") == "Always":
                container = self._container("initContainerStatuses", spec, scratch, None, sidecar=True)
                if not self._start_sidecar(container, sidecars):
                    return False
            elif self._container("initContainerStatuses", spec, scratch, deadline).run() != 0:
                return False
        return True

    def _work(self, scratch: Path, deadline: float | None) -> bool:
        """Run all containers in parallel to their ends, as Kubernetes does with restartPolicy Never."""
        if self._state.ended_early:
            return False
        self._enter("Running")
        specs = self._pod["spec"]["containers"]
        containers = [self._container("containerStatuses", spec, scratch, deadline) for spec in specs]
        return all(code == 0 for code in _side_by_side(containers))

    def _container(
        self,
        group: StatusGroup,
        spec: ContainerSpec,
        scratch: Path,
        deadline: float | None,
        *,
        sidecar: bool = False,
    ) -> Container:
        is_over = (lambda: self._is_over) if sidecar else (lambda: False)
        return Container(self._state, self._pod, group, spec, scratch, deadline, is_over)

    @contextlib.contextmanager
    def _sidecars(self) -> Iterator[list[threading.Thread]]:
        """Let sidecars start in this block; end them after it."""
        threads: list[threading.Thread] = []
        try:
            yield threads
        finally:
            with self._state.changed:
                self._is_over = True
                self._state.changed.notify_all()
            for thread in threads:
                thread.join()

    def _start_sidecar(self, container: Container, threads: list[threading.Thread]) -> bool:
        """Start the sidecar, and restart it whenever it ends; False if it cannot start."""
        first = threading.Event()
        runs = threading.Event()

        def started() -> None:
            runs.set()
            first.set()

        def keep_running() -> None:
            pause = _AGAIN_SECONDS
            try:
                while not self._ended():
                    if container.run(started) == 128 and not runs.is_set():
                        return
                    with self._state.changed:
                        self._state.changed.wait_for(self._ended, pause)
                    pause = min(pause * 2, _AGAIN_AT_MOST)
            finally:
                first.set()

        thread = threading.Thread(target=keep_running)
        threads.append(thread)
        thread.start()
        first.wait()
        return runs.is_set()

    def _ended(self) -> bool:
        return self._is_over or self._state.ended_early

    def _enter(self, phase: str) -> None:
        with self._state.changing():
            status = self._pod["status"]
            status["phase"] = phase
            if phase == "Failed" and self._state.shut_down:
                status.setdefault("reason", NODE_SHUTDOWN)
                status.setdefault("message", "the process that ran it was ended")


def _side_by_side(containers: Sequence[Container]) -> list[int]:
    """Run containers in parallel to their ends; returns their exit codes. Raises the first exception."""
    codes = [-1] * len(containers)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            codes[number] = containers[number].run()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(1, len(containers))]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return codes


@contextlib.contextmanager
def _scratch(pod: Pod) -> Iterator[Path]:
    """A folder for the Pod's emptyDir volumes and termination messages."""
    with tempfile.TemporaryDirectory(prefix=f"{pod['metadata']['name']}-") as name:
        yield Path(name)
