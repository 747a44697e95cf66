"""The same runs in several images, in turn: what an image costs when it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from jobrelay import manifests
from jobrelay.api import Relay
from jobrelay.console import Console
from jobrelay.errors import EvidenceIncomplete, Exit, StageEnded
from jobrelay.hints import Command, SameAgain
from jobrelay.images.engine import full_name
from jobrelay.runs.report import RunReport
from jobrelay.runs.request import RunRequest
from jobrelay.runs.target import Target
from jobrelay.runs.timeline import seconds_between
from jobrelay_train.config.schema import RunConfig

#: Small enough that a run shows what the image costs, and not what training does.
WORKLOAD: Final = ("data.name=blobs", "model.name=perceptron")


@dataclass(frozen=True)
class Contender:
    """An image: `image` is its name here, where it is weighed; `runs_as` its name for the cluster."""

    image: str
    runs_as: str

    @classmethod
    def parse(cls, text: str) -> Contender:
        """`IMAGE` or `IMAGE=NAME`. Raises BadInput."""
        image, equals, runs_as = text.partition("=")
        full_name(image)
        return cls(image, manifests.check_image(runs_as if equals else image))


@dataclass(frozen=True)
class Sample:
    """What `train` took in one run. Peak memory: of its container, or of its largest process."""

    seconds_to_first_batch: float  # from the Pod's creation, which the API tells to the second
    train_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    peak_memory_from: str


def sample_of(report: RunReport) -> Sample:
    """Raises the verdict of a run that did not succeed, EvidenceIncomplete where it does not tell all."""
    report.raise_for_verdict()
    train = report.stages[0]
    until = seconds_between(train.timeline, "pod_created", "first_batch")
    if train.closing is None or until is None:
        raise EvidenceIncomplete(f"train of run {report.run} did not report its times", SameAgain())
    cost = train.closing.cost
    return Sample(until, cost.wall_seconds, cost.cpu_seconds, cost.peak_memory_bytes, cost.peak_memory_from)


@dataclass(frozen=True)
class Rounds:
    """How the runs are made. folder: where each brings its results, in runs/."""

    target: Target
    config: RunConfig
    name: str
    folder: Path
    timeout_seconds: int | None = None

    def run(self, contender: Contender, run: str) -> Sample:
        """One run in one image, to its end; what it leaves is home then, and gone from the cluster."""
        target = replace(self.target, image=contender.runs_as)
        request = RunRequest(
            run=run,
            timeout_seconds=self.timeout_seconds,
            folder=self.folder / "runs" / run,
            early="off",  # nothing else is to be at work while train is measured
        )
        relay = Relay.at(target, Console(quiet=True))
        try:
            sample = sample_of(relay.carry_out(self.config, request))
        except StageEnded as ended:
            if ended.exit_code == Exit.COULD_NOT_START:  # another image would be another comparison
                ended.hint = Command("images", "load", contender.runs_as)
            raise
        relay.delete(run, data=True)
        return sample


def interleaved(
    contenders: Sequence[Contender],
    count: int,
    name: str,
    measure: Callable[[Contender, str], Sample],
    say: Callable[[str], None],
) -> Mapping[Contender, list[Sample]]:
    """So many samples of each: A B, B A, A B …, so that what changes with time concerns all alike."""
    found: dict[Contender, list[Sample]] = {contender: [] for contender in contenders}
    numbered = list(enumerate(contenders))
    for number in range(count):
        for place, contender in numbered if number % 2 == 0 else reversed(numbered):
            run = f"{name}-{chr(ord('a') + place)}{number + 1}"
            sample = measure(contender, run)
            found[contender].append(sample)
            say(
                f"{number + 1}/{count} {contender.image}: first batch {sample.seconds_to_first_batch:.1f} s "
                f"after the Pod was created, train {sample.train_seconds:.1f} s"
            )
    return found
