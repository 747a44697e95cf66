"""The same runs in several images, alternately: what an image costs in use."""

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

#: So small that a run shows the cost of the image, not of the training.
WORKLOAD: Final = ("data.name=blobs", "model.name=perceptron")


@dataclass(frozen=True)
class Contender:
    """An image. image: its name on this machine, where it is measured; runs_as: its name in the cluster."""

    image: str
    runs_as: str

    @classmethod
    def parse(cls, text: str) -> Contender:
        """Parse `IMAGE` or `IMAGE=NAME`. Raises BadInput."""
        image, equals, runs_as = text.partition("=")
        full_name(image)
        return cls(image, manifests.check_image(runs_as if equals else image))


@dataclass(frozen=True)
class Sample:
    """What `train` used in one run. Peak memory: of its container, or of its largest process."""

    seconds_to_first_batch: float  # since the Pod's creation, which has whole seconds
    train_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    peak_memory_from: str


def sample_of(report: RunReport) -> Sample:
    """The sample of a run. Raises StageEnded if the run failed, EvidenceIncomplete if figures are missing."""
    report.raise_for_verdict()
    train = report.stages[0]
    until = seconds_between(train.timeline, "pod_created", "first_batch")
    if train.closing is None or until is None:
        raise EvidenceIncomplete(f"train of run {report.run} did not report its times", SameAgain())
    cost = train.closing.cost
    return Sample(until, cost.wall_seconds, cost.cpu_seconds, cost.peak_memory_bytes, cost.peak_memory_from)


@dataclass(frozen=True)
class Rounds:
    """How to carry out the runs. folder: results go to its runs/, one subfolder per run."""

    target: Target
    config: RunConfig
    name: str
    folder: Path
    timeout_seconds: int | None = None

    def run(self, contender: Contender, run: str) -> Sample:
        """Carry out one run in one image; then its results are here, and removed from the cluster."""
        target = replace(self.target, image=contender.runs_as)
        request = RunRequest(
            run=run,
            timeout_seconds=self.timeout_seconds,
            folder=self.folder / "runs" / run,
            early="off",  # nothing else must run while train is measured
        )
        relay = Relay(on=target)
        try:
            sample = sample_of(relay.carry_out(self.config, request, Console(quiet=True)))
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
    """`count` samples of each, in the order A B, B A, A B …, so that drift over time affects all alike."""
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
