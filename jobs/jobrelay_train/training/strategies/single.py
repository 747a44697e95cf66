"""One process, with all processors."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from jobrelay_runner.context import StageResult
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.usage.cgroup import usable_cpus
from jobrelay_train import compute
from jobrelay_train.training.fit import Training
from jobrelay_train.training.strategy import Part


def run(training: Training) -> StageResult:
    """Train in this process."""
    learner = training.learner(compute.prepare(training.config))
    learner.use_processors(usable_cpus())
    return training.finish(learner, training.begin(learner), Alone())


class Alone:
    """The team of one."""

    leads = True

    def __init__(self) -> None:
        self._done = 0

    def steps(self, first: int, total: int, stop: StopRequest) -> Iterator[int]:
        self._done = first
        while self._done < total and not stop.requested:
            yield self._done
            self._done += 1

    def part(self, places: slice) -> Part:
        return Part(places)

    def meet(self, sums: Tensor) -> tuple[int, Tensor]:
        return self._done, sums

    def go_on(self) -> None:
        pass
