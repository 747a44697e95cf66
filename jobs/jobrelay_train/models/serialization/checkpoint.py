"""Checkpoints: saved completely or not at all, verified before loading; the newest two are kept.

    checkpoints/epoch-0003.pt            after three epochs
    checkpoints/epoch-0003-step-00042.pt 42 steps into the fourth; after SIGTERM
    checkpoints/epoch-0003.json          its SHA-256, and what must stay the same to resume from it

The sidecar is written last and removed first: a .pt without one is incomplete.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from jobrelay_runner.errors import BadInput, Failed, in_the_way
from jobrelay_runner.fence import WriterFence
from jobrelay_runner.volume.paths import checkpoint_sidecars
from jobrelay_runner.volume.record import FileDigest
from jobrelay_runner.volume.safe_read import UnsafeFile, read_bytes, regular_files
from jobrelay_runner.volume.typed_json import Typed
from jobrelay_train.models.serialization.weights import CorruptFile, UntrustedFile, load_verified, to_bytes

KEPT: Final = 2
#: A sidecar is a few hundred bytes; a larger file in its place is not read.
_SIDECAR_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Position(Typed):
    """How far training has come: whole epochs, and steps into the next one."""

    epoch: int
    step: int

    def __post_init__(self) -> None:
        if min(self.epoch, self.step) < 0:
            raise ValueError("less than nothing")

    @property
    def name(self) -> str:
        return f"epoch-{self.epoch:04}" + (f"-step-{self.step:05}" if self.step else "")

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f", step {self.step} of the next" if self.step else "")


@dataclass(frozen=True, kw_only=True)
class Sidecar(FileDigest):
    """The JSON file of a checkpoint. settings: those that must not change until the training is done."""

    format: Literal[1] = 1
    position: Position
    settings: dict[str, Any]


def save(
    fence: WriterFence, folder: Path, position: Position, state: Mapping[str, Any], settings: dict[str, Any]
) -> Path:
    """Write a checkpoint and remove all but the newest two.

    Raises OSError or Superseded; then the earlier checkpoints are unchanged.
    """
    fence.make_folder(folder)
    content = to_bytes(state)
    path = folder / f"{position.name}.pt"
    fence.write(path, content)
    sidecar = Sidecar(
        position=position, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), settings=settings
    )
    fence.write(path.with_suffix(".json"), sidecar.to_json(indent=2) + "\n")
    _drop_old(fence, folder)
    return path


def load_newest(folder: Path, settings: dict[str, Any], limit: int) -> tuple[Position, dict[str, Any]] | None:
    """Load the newest intact checkpoint, with tensors on the CPU; None if there is no checkpoint.

    limit: most bytes of a checkpoint (serialization.weights.room_for). A damaged one is reported, and the
    previous one is used. Raises BadInput if a checkpoint belongs to another training (`settings` differ) or
    was made by another program, Failed if there are checkpoints but none is intact.
    """
    problems = []
    for sidecar_path in _newest_first(folder):
        path = sidecar_path.with_suffix(".pt")
        try:
            sidecar = _read_sidecar(sidecar_path)
            _require_same(sidecar.settings, settings)
            state = load_verified(path, sidecar, limit)
        except UntrustedFile as error:
            raise foreign(path, sidecar_path, error) from error
        except (OSError, ValueError) as error:
            problems.append(f"checkpoints/{path.name}: {str(error).splitlines()[0]}")
            print(f"warning: {problems[-1]}; trying the previous checkpoint", flush=True)
            continue
        return sidecar.position, state
    if problems:
        raise Failed(
            f"no checkpoint can be used ({'; '.join(problems)}); "
            f"remove {folder} to train from the start, or use another --run"
        )
    return None


def readable(folder: Path, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the intact checkpoints of any training, newest first: name of the file, content."""
    for sidecar_path in _newest_first(folder):
        path = sidecar_path.with_suffix(".pt")
        with contextlib.suppress(OSError, ValueError):  # CorruptFile and UntrustedFile among them
            yield path.name, load_verified(path, _read_sidecar(sidecar_path), limit)


def foreign(path: Path, record: Path, error: UntrustedFile) -> BadInput:
    """Return the error for a file that matches its record but was not written by this program."""
    return BadInput(
        f"{path} is what {record.name} records, but it was not written by this program: {error}. "
        "Nothing in it was executed or used. Find out who wrote it; then remove both, or use another --run"
    )


def _read_sidecar(path: Path) -> Sidecar:
    sidecar = Sidecar.from_json(read_bytes(path, _SIDECAR_BYTES))
    if sidecar.position.name != path.stem:
        raise CorruptFile(f"{path.name} describes {sidecar.position}")
    return sidecar


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return `key: was A, is B` for every leaf in which two trees of settings differ."""
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
            "use another --run for these settings, or repeat the earlier ones"
        )


def _newest_first(folder: Path) -> list[Path]:
    """List the sidecars. Raises BadInput for a link in place of the folder."""
    try:
        names = regular_files(folder, root=folder.parent)
    except UnsafeFile as error:
        raise BadInput(in_the_way(folder)) from error
    return [folder / name for name in checkpoint_sidecars(names)]


def _drop_old(fence: WriterFence, folder: Path) -> None:
    newest = _newest_first(folder)
    for old in newest[KEPT:]:
        fence.remove(old)
    kept = {path.stem for path in newest[:KEPT]}
    for weights in folder.glob("epoch-*.pt"):
        if weights.stem not in kept:
            fence.remove(weights)
