"""Download a data set to the volume: completely or not at all, and by one process at a time."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jobrelay_runner.errors import BadInput, from_os_error
from jobrelay_runner.text.redaction import redacted
from jobrelay_runner.volume.files import one_at_a_time

#: For connecting and for every read; torchvision itself would wait forever.
TIMEOUT_SECONDS: Final = 20.0


def download(
    torchvision_name: str,
    folder: Path,
    mirror: str | None,
    is_there: Callable[[], bool],
    help_text: str,
) -> None:
    """Download a torchvision data set to `folder` and verify its checksums.

    The data set is built in a temporary folder next to `folder` and then renamed. `is_there` is called again
    once this process has the lock: another process may have been quicker. `mirror` (a URL) replaces
    torchvision's own. Raises BadInput, ending in `help_text`, if the download fails.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder.with_name(f".{folder.name}.lock")) as alone:
        if alone:
            _remove_remains(folder)
        if is_there():
            return
        temporary = folder.with_name(f".{folder.name}.{os.uname().nodename}-{os.getpid()}.partial")
        print(
            f"downloading {folder.name} from {redacted(mirror) if mirror else 'its own site'} to {folder}",
            flush=True,
        )
        try:
            _fetch(torchvision_name, temporary, mirror)
            _put_in_place(temporary, folder, is_there)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            known = from_os_error(error, folder) if isinstance(error, OSError) else None
            raise known or BadInput(
                f"cannot download {folder.name}: {' '.join(str(error).split())}; {help_text}"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _fetch(torchvision_name: str, root: Path, mirror: str | None) -> None:
    """Put all four files, unpacked, below `root` in torchvision's layout."""
    from jobrelay_train.vision import datasets  # half a second, and only needed here

    dataset = getattr(datasets(), torchvision_name)
    if mirror is not None:
        # The name of the class is the name of the folder, so the subclass keeps it.
        dataset = type(torchvision_name, (dataset,), {"mirrors": [f"{mirror.rstrip('/')}/"]})
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        # Its progress bars are for a terminal; in a log they are thousands of lines.
        with contextlib.redirect_stderr(io.StringIO()):
            dataset(str(root), train=True, download=True)
    finally:
        socket.setdefaulttimeout(before)
    for packed in root.rglob("*.gz"):
        packed.unlink()


def _put_in_place(temporary: Path, folder: Path, is_there: Callable[[], bool]) -> None:
    for file in temporary.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    try:
        temporary.rename(folder)  # replaces an empty folder, no other
    except OSError:
        if not is_there():  # otherwise a process without a lock was quicker, with the same files
            raise


def _remove_remains(folder: Path) -> None:
    """Remove what a killed process left behind."""
    for remains in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(remains, ignore_errors=True)
