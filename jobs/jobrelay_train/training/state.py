"""What a training starts from, its progress, and everything that it needs to resume."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from torch import nn

from jobrelay_runner.errors import BadInput, one_line
from jobrelay_runner.volume.record import FileDigest
from jobrelay_train import compute
from jobrelay_train.config.schema import RunConfig, tree_hash
from jobrelay_train.data.split import Split
from jobrelay_train.models.registry import ModelSpec
from jobrelay_train.models.serialization import checkpoint
from jobrelay_train.models.serialization.checkpoint import Position
from jobrelay_train.models.serialization.weights import UntrustedFile, from_bytes, room_for, to_bytes
from jobrelay_train.program import Context, keep_config
from jobrelay_train.training.precision import Precision, fastest


class EpochSums(BaseModel):
    """Sums over the finished part of an epoch."""

    model_config = ConfigDict(strict=True)

    loss: float = 0.0
    correct: int = 0
    seconds: float = 0.0


_FIGURES: Final = TypeAdapter(dict[str, int | Annotated[float, Field(allow_inf_nan=False)]])
_PRECISION: Final[TypeAdapter[Precision]] = TypeAdapter(Precision)


@dataclass(frozen=True)
class TrainInputs:
    """The data, model and settings of a training.

    settings: those that a checkpoint must have been made with. weights: initial weights; empty: fresh ones.
    """

    data: Split
    spec: ModelSpec
    settings: dict[str, Any]
    weights: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainState:
    """Everything that training needs to resume: a checkpoint's content except torch's random generators.

    history has one row for each finished epoch: epoch, loss, accuracy, seconds, images_per_second,
    learning_rate, and val_accuracy if there are validation images. It is kept here so that history.jsonl
    never lists epochs that a resumed training repeats.
    """

    context: Context
    settings: dict[str, Any]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    precision: Precision = "fp32"
    position: Position = field(default_factory=lambda: Position(epoch=0, step=0))
    history: list[dict[str, float]] = field(default_factory=list)
    sums: EpochSums = field(default_factory=EpochSums)
    saved: Position | None = None

    def restore_or_start(self, device: torch.device) -> None:
        """Resume from the newest intact checkpoint of this run, or start a new training.

        Raises BadInput if the checkpoint was made with other settings or is beyond `train.epochs`, Failed if
        there are checkpoints but none is intact.
        """
        if not self._restore(self.context.config.train.epochs):
            wanted = self.context.config.train.precision
            self.precision = fastest(device, self.model) if wanted == "auto" else wanted
        self._write_history()
        keep_config(self.context)

    def _restore(self, epochs: int) -> bool:
        # An optimiser stores at most two values for each weight.
        limit = room_for(self.model.state_dict().values(), copies=3)
        folder = self.context.folder.checkpoints
        found = checkpoint.load_newest(folder, self.settings, limit)
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
            self.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            path = folder / f"{self.position.name}.pt"
            raise checkpoint.foreign(
                path, path.with_suffix(".json"), UntrustedFile(one_line(error))
            ) from error
        self.saved = self.position
        print(f"resuming from {self.position} (checkpoints/{self.position.name}.pt)", flush=True)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return a checkpoint's content without the position, which is in its name and its sidecar."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision,
            "history": self.history,
            "sums": self.sums.model_dump(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the result of `state_dict`. May raise any error if `state` is not from this program."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision = _PRECISION.validate_python(state["precision"])
        self.sums = EpochSums.model_validate(state["sums"])
        torch.set_rng_state(state["rng"])
        if torch.cuda.is_available() and len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        for parameter, moments in self.optimizer.state.items():
            for name, moment in moments.items():
                if moment.shape not in (parameter.shape, torch.Size()):
                    raise ValueError(f"{name} of shape {tuple(moment.shape)} for {tuple(parameter.shape)}")
        for row in state["history"]:
            _FIGURES.validate_python(row, strict=True)
        self.history = state["history"]

    def to_bytes(self) -> bytes:
        """Return the whole state, for the other processes that train together."""
        position = {"epoch": self.position.epoch, "step": self.position.step}
        return to_bytes({"position": position, **self.state_dict()})

    def become(self, content: bytes, rank: int) -> None:
        """Load the main process's `to_bytes`, but seed this rank's own random numbers."""
        state = from_bytes(content)
        self.load_state_dict(state)
        self.position = Position(**state["position"])
        self.sums = EpochSums()  # the main process adds them
        compute.seed(self.context.config, rank, self.position.epoch, self.position.step)

    def interrupt(self, steps: int, loss: float, correct: float, seconds: float) -> None:
        """Record that `steps` steps of the epoch are done, with their sums."""
        self.position = Position(epoch=self.position.epoch, step=steps)
        self.sums = EpochSums(loss=loss, correct=int(correct), seconds=seconds)

    def save(self) -> str:
        """Write a checkpoint unless it is already saved; return its file's name. Raises OSError."""
        if self.position == self.saved:  # SIGTERM before the first step: do not put the checkpoint at risk
            return f"{self.position.name}.pt"
        context = self.context
        path = checkpoint.save(
            context.fence, context.folder.checkpoints, self.position, self.state_dict(), self.settings
        )
        self.saved = self.position
        return path.name

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Save a finished epoch, with its row of the history.

        Raises BadInput if the training has diverged, OSError.
        """
        self.history.append(row)
        if not math.isfinite(row["loss"]):
            rate = self.context.config.train.learning_rate
            raise BadInput(
                f"training has diverged: the loss of epoch {row['epoch']} is {row['loss']}; use another "
                f"--run with a smaller --set train.learning_rate (it is {rate:g})"
            )
        self.save()
        self._write_history()

    def _write_history(self) -> None:
        """Write history.jsonl, one JSON object per line, atomically. Raises OSError."""
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.history)
        self.context.fence.write(self.context.folder.history, lines)


def settings_that_stay(
    config: RunConfig, data: dict[str, FileDigest], content: str | None = None
) -> dict[str, Any]:
    """Return what must stay the same to resume a training: all its keys except the length, and the data.

    content: the digest of data that is in no file.
    """
    tree = config.stage("train")
    del tree["train"]["epochs"]
    files = {name: digest.sha256 for name, digest in data.items()}
    return {**tree, "data_sha256": tree_hash({**files, "content": content} if content else files)}
