"""How far training has come, and all that it needs to go on from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from jobs import checkpoint
from jobs.checkpoint import Position
from jobs.contract.config import RunConfig, digest
from jobs.contract.record import FileProof
from jobs.contract.volume import RunFolder
from jobs.errors import BadInput
from jobs.fence import Fence
from jobs.learner import Learner
from jobs.precision import Precision
from jobs.weights import Foreign, one_line, room_for


class EpochSums(BaseModel):
    """Sums over the part of an epoch that is done."""

    model_config = ConfigDict(strict=True)

    loss: float = 0.0
    correct: int = 0
    seconds: float = 0.0


_FIGURES: Final = TypeAdapter(dict[str, int | Annotated[float, Field(allow_inf_nan=False)]])
_PRECISION: Final[TypeAdapter[Precision]] = TypeAdapter(Precision)


@dataclass
class Progress:
    """The state of a training: what is in a checkpoint, but for torch's random generators.

    history has one row a finished epoch: epoch, loss, accuracy, val_accuracy (where there are images for
    it), seconds, images_per_second, learning_rate. It is kept here so that history.jsonl can never tell of
    epochs that a resumed training does again.
    """

    folder: RunFolder
    fence: Fence
    settings: dict[str, Any]
    learner: Learner
    position: Position = field(default_factory=lambda: Position(epoch=0, step=0))
    history: list[dict[str, float]] = field(default_factory=list)
    sums: EpochSums = field(default_factory=EpochSums)
    saved: Position | None = None

    def resume(self, epochs: int) -> bool:
        """Go back to the newest whole checkpoint of this run; returns whether there is one.

        Raises BadInput if it was made with other settings or is beyond `epochs`, Failed if there
        are checkpoints and none is whole.
        """
        # An optimiser remembers at most two values for each weight.
        limit = room_for(self.learner.model.state_dict().values(), copies=3)
        found = checkpoint.load_newest(self.folder.checkpoints, self.settings, limit)
        if found is None:
            return False
        self.position, state = found
        if (self.position.epoch, self.position.step) > (epochs, 0):
            raise BadInput(
                f"train.epochs: {epochs} asked for, but this run has already reached {self.position}; "
                f"use another --run, or --set train.epochs={self.position.epoch + bool(self.position.step)} "
                "or more"
            )
        try:
            self.restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            path = self.folder.checkpoints / f"{self.position.name}.pt"
            raise checkpoint.foreign(path, path.with_suffix(".json"), Foreign(one_line(error))) from error
        self.saved = self.position
        print(f"resuming from {self.position} (checkpoints/{self.position.name}.pt)", flush=True)
        return True

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state()` told. Raises all kinds of errors if it is not of this program."""
        learner = self.learner
        learner.model.load_state_dict(state["model"])
        learner.optimizer.load_state_dict(state["optimizer"])
        learner.precision = _PRECISION.validate_python(state["precision"])
        self.sums = EpochSums.model_validate(state["sums"])
        torch.set_rng_state(state["rng"])
        if torch.cuda.is_available() and len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        for parameter, moments in learner.optimizer.state.items():
            for name, moment in moments.items():
                if moment.shape not in (parameter.shape, torch.Size()):
                    raise ValueError(f"{name} of shape {tuple(moment.shape)} for {tuple(parameter.shape)}")
        for row in state["history"]:
            _FIGURES.validate_python(row, strict=True)
        self.history = state["history"]

    def save(self) -> str:
        """Write a checkpoint, unless this very one is there; returns its file's name. Raises OSError."""
        if self.position == self.saved:  # SIGTERM before the first step: nothing may happen to it now
            return f"{self.position.name}.pt"
        path = checkpoint.save(
            self.fence, self.folder.checkpoints, self.position, self.state(), self.settings
        )
        self.saved = self.position
        return path.name

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds, but for the position: that is in its name and its sidecar."""
        return {
            "model": self.learner.model.state_dict(),
            "optimizer": self.learner.optimizer.state_dict(),
            "precision": self.learner.precision,
            "history": self.history,
            "sums": self.sums.model_dump(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def write_history(self) -> None:
        """Write history.jsonl, one JSON object a line, atomically. Raises OSError."""
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.history)
        self.fence.write(self.folder.history, lines)


def settings_that_stay(config: RunConfig, data: dict[str, FileProof]) -> dict[str, Any]:
    """What must be the same to go on with a training: all that decides it but its length, and the data."""
    tree = config.stage("train")
    del tree["train"]["epochs"]
    return {**tree, "data_sha256": digest({name: proof.sha256 for name, proof in data.items()})}
