"""What a training has before its first step and leaves after its last, whichever way it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from jobs import compute
from jobs.assignment import Assignment, Outcome
from jobs.cgroup import usable_cpus
from jobs.contract.config import RunConfig
from jobs.contract.counting import counted
from jobs.learner import Learner
from jobs.loop import learn
from jobs.models import ModelSpec
from jobs.progress import Progress
from jobs.split import Split
from jobs.stopping import StopRequest
from jobs.team import Team
from jobs.weights import model_to_bytes


@dataclass(frozen=True)
class Training:
    """What is to be trained on what.

    settings: what a checkpoint must have been made with. weights: those to begin with; none: fresh ones.
    """

    assignment: Assignment
    data: Split
    spec: ModelSpec
    settings: dict[str, Any]
    stop: StopRequest
    weights: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> RunConfig:
        return self.assignment.config

    def learner(self, device: torch.device) -> Learner:
        """The weights to begin with and all images, on this device. Raises BadInput."""
        return Learner.new(self.config, self.spec, self.data, device, self.weights)

    def progress(self, learner: Learner) -> Progress:
        """At its beginning."""
        return Progress(self.assignment.folder, self.assignment.fence, self.settings, learner)

    def begin(self, learner: Learner) -> Progress:
        """Go on from the newest checkpoint, or begin; say what will be done. For the one that leads."""
        config, progress = self.config, self.progress(learner)
        resumed = progress.resume(config.train.epochs)
        if not resumed:
            learner.choose_precision()
        progress.write_history()
        self.assignment.keep_config()
        parameters = sum(parameter.numel() for parameter in learner.model.parameters())
        print(
            f"training {self.spec.name} ({parameters:,} parameters) on {len(self.data):,} "
            f"{self.spec.things} of {self.spec.dataset}: {counted(config.train.epochs, 'epoch')} of "
            f"{counted(learner.steps, 'step')}, " + ", ".join(self._means(learner).values()),
            flush=True,
        )
        if config.train.validation_split and self.data.validation:
            held_out = counted(len(self.data.validation), self.spec.things.removesuffix("s"))
            print(f"held out to validate every epoch: {held_out}", flush=True)
        for note in learner.notes:
            print(f"weights of {config.model.weights}: {note}", flush=True)
        for warning in self._warnings(learner.device):
            print(f"warning: {warning}", flush=True)
        return progress

    def finish(self, learner: Learner, progress: Progress, team: Team) -> Outcome:
        """Train to the end; the one that leads leaves the weights."""
        learn(learner, progress, team, self.stop)
        if not team.leads:
            return Outcome()
        folder, fence = self.assignment.folder, self.assignment.fence
        with self.stop.deferred():
            fence.write(folder.model, model_to_bytes(learner.model.state_dict()))
            fence.write(folder.model_config, self.spec.model_dump_json(indent=2) + "\n")
        print(f"saved model.pt ({folder.model.stat().st_size / 1e6:.1f} MB)", flush=True)
        last, warnings = progress.history[-1], list(self._warnings(learner.device))
        return Outcome(
            outputs=self.assignment.prove(folder.model, folder.model_config, folder.history),
            metrics={
                "loss": last["loss"],
                **{name: last[name] for name in ("accuracy", "val_accuracy") if name in last},
                "epochs": float(self.config.train.epochs),
                "images_per_second": last["images_per_second"],
            },
            means={
                **self._means(learner),
                **({"weights": "; ".join(learner.notes)} if learner.notes else {}),
                **({"warnings": "; ".join(warnings)} if warnings else {}),
            },
        )

    def _means(self, learner: Learner) -> dict[str, str]:
        """With what it is done: what the machine has, and what was chosen by itself."""
        train = self.config.train
        replicas = learner.replicas.count
        means = {"device": compute.describe(learner.device, replicas), "precision": learner.precision}
        if replicas > 1:
            means["batches"] = f"batches in {replicas} parts"
        if train.strategy != "single":
            means["strategy"] = f"{train.strategy} with {train.workers} processes"
        return means

    def _warnings(self, device: torch.device) -> Iterator[str]:
        train = self.config.train
        if device.type == "cpu" and train.processes_a_node > usable_cpus():
            yield (
                f"{train.processes_a_node} processes share {counted(usable_cpus(), 'CPU')} and will wait "
                f"for each other; --set train.processes={usable_cpus()} is faster"
            )
        if train.batch_size > len(self.data):
            yield (
                f"a batch of {train.batch_size:,} is larger than the data ({len(self.data):,} "
                f"{self.spec.things}): every epoch is one step; a smaller --set train.batch_size learns "
                "more in the same time"
            )
