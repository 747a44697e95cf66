"""How far training has come, and all that it needs to go on from there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from torch import nn

from jobs import checkpoint
from jobs.checkpoint import Position
from jobs.contract.config import RunConfig
from jobs.contract.record import FileProof
from jobs.contract.volume import RunFolder
from jobs.errors import BadInput
from jobs.fence import Fence
from jobs.weights import Foreign, one_line


class EpochSums(BaseModel):
    """Sums over the part of an epoch that is done."""

    model_config = ConfigDict(strict=True)

    loss: float = 0.0
    correct: int = 0
    seconds: float = 0.0


_FIGURES: Final = TypeAdapter(dict[str, int | Annotated[float, Field(allow_inf_nan=False)]])


@dataclass
class Progress:
    """The state of a training: what is in a checkpoint, but for torch's random generators.

    history has one row a finished epoch: epoch, loss, accuracy, seconds, images_per_second,
    learning_rate. It is kept here so that history.jsonl can never tell of epochs that a resumed
    training does again.
    """

    folder: RunFolder
    fence: Fence
    settings: dict[str, Any]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    position: Position = field(default_factory=lambda: Position(epoch=0, step=0))
    history: list[dict[str, float]] = field(default_factory=list)
    sums: EpochSums = field(default_factory=EpochSums)
    saved: Position | None = None

    def resume(self, epochs: int) -> None:
        """Go back to the newest whole checkpoint of this run, if there is one.

        Raises BadInput if it was made with other settings or is beyond `epochs`, Failed if there
        are checkpoints and none is whole.
        """
        found = checkpoint.load_newest(self.folder.checkpoints, self.settings)
        if found is None:
            return
        self.position, state = found
        if (self.position.epoch, self.position.step) > (epochs, 0):
            raise BadInput(
                f"train.epochs: {epochs} asked, but this run has come to {self.position} already; "
                f"take another --run, or --set train.epochs={self.position.epoch + bool(self.position.step)} "
                "or more"
            )
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            path = self.folder.checkpoints / f"{self.position.name}.pt"
            raise checkpoint.foreign(path, path.with_suffix(".json"), Foreign(one_line(error))) from error
        self.saved = self.position
        print(f"resuming from {self.position} (checkpoints/{self.position.name}.pt)", flush=True)

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
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

    def save(self) -> str:
        """Write a checkpoint, unless this very one is there; returns its file's name. Raises OSError."""
        if self.position == self.saved:  # SIGTERM before the first step: nothing may happen to it now
            return f"{self.position.name}.pt"
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "sums": self.sums.model_dump(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        path = checkpoint.save(self.fence, self.folder.checkpoints, self.position, state, self.settings)
        self.saved = self.position
        return path.name

    def write_history(self) -> None:
        """Write history.jsonl, one JSON object a line, atomically. Raises OSError."""
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.history)
        self.fence.write(self.folder.history, lines)


def settings_that_stay(config: RunConfig, data: dict[str, FileProof]) -> dict[str, Any]:
    """What must be the same to go on with a training: all that decides it but its length, and the data."""
    tree = config.stage("train")
    del tree["train"]["epochs"]
    return {**tree, "data_sha256": [proof.sha256 for proof in data.values()]}
