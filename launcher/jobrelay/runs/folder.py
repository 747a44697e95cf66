"""The local folder of a run: which run it belongs to, and how a fetch updates it.

`.jobrelay.json` names the run, its place and the files copied from there. The next fetch replaces these files
and removes those that are gone from the volume. It touches nothing else: your own files in the folder stay.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from jobrelay.errors import BadInput, Conflict
from jobrelay_runner.text.counting import listed
from jobrelay_runner.volume.files import write_json
from jobrelay_runner.volume.paths import CHECKPOINTS, LOGS, RunFolder
from jobrelay_runner.volume.safe_read import RECORD_BYTES, read_bytes
from jobrelay_train.config.loading import ConfigError, load_config

OWNER: Final = ".jobrelay.json"
#: Files that the launcher itself writes there; a file of the same name on a volume is not copied.
OUTCOME: Final = "report.json"
PAGE: Final = "report.html"
_OWN: Final = frozenset({OWNER, OUTCOME, PAGE})

_ANY: Final = RunFolder(Path(), "any")
#: Names that mark a run's folder; an empty folder, or one of your own, has none of them.
_TELLING: Final = frozenset(
    path.name
    for path in (
        _ANY.model, _ANY.eval_results, _ANY.predictions, _ANY.inference, _ANY.history, _ANY.config, _ANY.logs,
        _ANY.results, _ANY.checkpoints, _ANY.workspace,
    )
) | {OUTCOME}  # fmt: skip


class Owner(BaseModel):
    """The run that a folder belongs to."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    run: str
    place: str
    training: str | None = None  # `identity` of its configuration; None: unknown
    files: tuple[str, ...] = ()  # what was copied from the volume


def owner_of(folder: Path) -> Owner | None:
    """The owner of a folder; None if it has no .jobrelay.json. Raises Conflict if that cannot be read."""
    try:
        return Owner.model_validate_json(read_bytes(folder / OWNER, RECORD_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        raise Conflict(
            f"{folder / OWNER}, which names the run of this folder, cannot be read", _move(folder)
        ) from error


def claim(folder: Path, owner: Owner) -> None:
    """Assign `folder` to a run before any of its files arrive.

    Raises Conflict if it belongs to another run, BadInput if it cannot be written.
    """
    before = _admitted(folder, owner)
    if before is None and (there := sorted(_TELLING & _names(folder))):
        raise Conflict(f"{folder} holds files of an unknown run ({listed(there)})", _move(folder))
    kept = before or owner
    if before != (wanted := owner.model_copy(update={"files": kept.files})):
        _write(folder, wanted)


def install(incoming: Path, names: Iterable[str], folder: Path, owner: Owner) -> int:
    """Move the files of a run from `incoming` to `folder`; return how many.

    Files of an earlier copy that are not in this one are removed, except checkpoints, which are copied only
    on demand. If the move is interrupted, the next copy completes it. Raises Conflict, before any change, if
    the folder belongs to another run or a file from elsewhere is in the way; OSError.
    """
    before = _admitted(folder, owner)
    new = [name for name in names if name not in _OWN]
    ours = set(before.files) if before else set()
    in_the_way = [
        name
        for name in new
        if name not in ours and not (before and _is_log(name)) and os.path.lexists(folder / name)
    ]
    if in_the_way:
        raise Conflict(
            f"{folder} holds files that are not of run {owner.run}: {listed(in_the_way)}", _elsewhere(folder)
        )
    stale = {name for name in ours - set(new) if not name.startswith(f"{CHECKPOINTS}/")}
    kept = ours - stale
    _write(folder, owner.model_copy(update={"files": tuple(sorted(ours | set(new)))}))
    for name in new:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (incoming / name).replace(target)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in it
            (folder / name).parent.rmdir()
    whole = {"files": tuple(sorted(kept | set(new))), "training": _training(folder) or owner.training}
    _write(folder, owner.model_copy(update=whole))
    return len(new)


def belongs(folder: Path, run: str, place: str) -> bool:
    """Whether a folder holds this run of this place, not one of the same name from another place."""
    try:
        owner = owner_of(folder)
    except Conflict:
        return False
    return owner is not None and (owner.run, owner.place) == (run, place)


def _admitted(folder: Path, owner: Owner) -> Owner | None:
    """The folder's owner if it is the same run, None if it has no owner. Raises Conflict."""
    before = owner_of(folder)
    if before is None:
        return None
    if (before.run, before.place) != (owner.run, owner.place):
        raise Conflict(f"{folder} holds run {before.run} of {before.place}", _move(folder))
    if owner.training and before.training and owner.training != before.training:
        raise Conflict(f"{folder} holds run {before.run} with another configuration", _move(folder))
    return before


def _training(folder: Path) -> str | None:
    try:
        return load_config(folder / _ANY.config.name, root=folder).identity()
    except (ConfigError, OSError):
        return None


def _is_log(name: str) -> bool:
    """Whether the file may be a log that the launcher copied while the stage ran."""
    folder, _, file = name.partition("/")
    return folder == LOGS and file.endswith(".log")


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {error.strerror}", _elsewhere(folder)) from error


def _write(folder: Path, owner: Owner) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / OWNER, owner.model_dump(mode="json"))
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}", "work in another folder") from error


def _move(folder: Path) -> str:
    return f"name the run otherwise (--run NAME), or move the folder away: mv {folder} {folder}.before"


def _elsewhere(folder: Path) -> str:
    return f"move these files away, or name another folder than {folder} (fetch -o DIR)"
