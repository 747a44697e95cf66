"""Checkpoints: saved whole or not at all, verified before they are loaded, the newest two kept.

    checkpoints/epoch-0003.pt            after three epochs
    checkpoints/epoch-0003-step-00042.pt 42 steps into the fourth; after SIGTERM
    checkpoints/epoch-0003.json          its SHA-256, and what must stay the same to go on from it

The sidecar is written last and removed first: a .pt without one was never finished.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from pydantic import ValidationError as PydanticError

from jobs.contract.files import write_atomically
from jobs.contract.record import Sha256
from jobs.errors import BadInput, Failed

KEPT: Final = 2


class Position(BaseModel):
    """How far training has come: whole epochs, and steps into the next one."""

    model_config = ConfigDict(frozen=True)

    epoch: int = Field(ge=0)
    step: int = Field(ge=0)

    @property
    def name(self) -> str:
        return f"epoch-{self.epoch:04}" + (f"-step-{self.step:05}" if self.step else "")

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f", step {self.step} of the next" if self.step else "")


class Sidecar(BaseModel):
    """What stands beside a checkpoint."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    position: Position
    sha256: Sha256
    bytes: int
    settings: dict[str, Any] = Field(description="those that may not change on the way")


def save(folder: Path, position: Position, state: Mapping[str, Any], settings: dict[str, Any]) -> Path:
    """Write a checkpoint and drop the ones before the newest two.

    Raises OSError; then the checkpoints are those from before.
    """
    folder.mkdir(exist_ok=True)
    content = to_bytes(state)
    path = folder / f"{position.name}.pt"
    write_atomically(path, content)
    sidecar = Sidecar(
        position=position, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), settings=settings
    )
    write_atomically(path.with_suffix(".json"), sidecar.model_dump_json(indent=2) + "\n")
    _drop_old(folder)
    return path


def load_newest(folder: Path, settings: dict[str, Any]) -> tuple[Position, dict[str, Any]] | None:
    """The newest checkpoint that is whole, with tensors on the CPU; None if there is none at all.

    A damaged one is reported and the one before it taken. Raises BadInput if what is there belongs
    to another training (`settings` differ), Failed if there are checkpoints and none is whole.
    """
    _remove_remains(folder)
    problems = []
    for sidecar_path in _newest_first(folder):
        try:
            sidecar = Sidecar.model_validate_json(sidecar_path.read_bytes())
            _require_same(sidecar.settings, settings)
            state = load_verified(sidecar_path.with_suffix(".pt"), sidecar.sha256)
        except (OSError, PydanticError, NotWhole) as error:
            problems.append(f"checkpoints/{sidecar_path.stem}.pt: {str(error).splitlines()[0]}")
            print(f"warning: {problems[-1]}; trying the checkpoint before it", flush=True)
            continue
        return sidecar.position, state
    if problems:
        raise Failed(
            f"no checkpoint is whole ({'; '.join(problems)}); "
            f"remove {folder} to train from the beginning, or take another --run"
        )
    return None


class NotWhole(ValueError):
    """A file of weights is not the one that was written, or holds something else."""


def to_bytes(state: Mapping[str, Any]) -> bytes:
    """`state` as torch.save writes it; in memory, so that a full disk is an OSError of the writing."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def load_verified(path: Path, sha256: str) -> dict[str, Any]:
    """Tensors and plain values from the bytes that have this hash. Raises OSError, NotWhole.

    The hash is of the very bytes that are unpickled, and weights_only keeps them from being code.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise NotWhole(
            f"its SHA-256 is {found[:12]}…, {sha256[:12]}… is expected; it is damaged or another file"
        )
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise NotWhole(f"it cannot be loaded: {error}") from error
    if not isinstance(state, dict):
        raise NotWhole(f"it holds a {type(state).__name__}, not a dict")
    return state


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One `key: was A, is B` for every leaf in which two trees of settings differ."""
    found = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key}: was {old}, is {new}")
    return found


def _require_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = differences(before, now)
    if changed:
        raise BadInput(
            f"this run was trained with other settings ({'; '.join(changed)}); "
            "take another --run for these, or give the same again"
        )


def _newest_first(folder: Path) -> list[Path]:
    """Sidecars. By name: `epoch-0003.json` is older than `epoch-0003-step-00042.json`."""
    return sorted(folder.glob("epoch-*.json"), key=_order, reverse=True)


def _order(path: Path) -> tuple[int, int]:
    numbers = [int(part) for part in path.stem.split("-") if part.isdigit()]
    return (numbers[0] if numbers else -1, numbers[1] if len(numbers) > 1 else 0)


def _drop_old(folder: Path) -> None:
    newest = _newest_first(folder)
    for old in newest[KEPT:]:
        old.unlink(missing_ok=True)
    kept = {path.stem for path in newest[:KEPT]}
    for weights in folder.glob("epoch-*.pt"):
        if weights.stem not in kept:
            weights.unlink(missing_ok=True)


def _remove_remains(folder: Path) -> None:
    """What a process that was killed in the middle of a save left behind."""
    for remains in folder.glob(".*.partial"):
        remains.unlink(missing_ok=True)
