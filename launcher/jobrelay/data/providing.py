"""What a run needs on the volume before it starts: its code, if it is large, and its data."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from jobrelay.data import datasets
from jobrelay.executors.base import Executor
from jobrelay.manifests import Plan

#: Of several runs of this process at once, the first one copies what all of them need.
_ONE_AT_A_TIME: Final = threading.Lock()


def provide(executor: Executor, plan: Plan, data: Mapping[str, Path], say: Callable[[str], None]) -> None:
    """Put the plan's files and data on the volume, unless they are there.

    data: name on the volume to a folder of this machine. Raises BadInput, EvidenceIncomplete.
    """
    if not plan.uploads and not data:
        return
    executor.share(plan.shared)
    with _ONE_AT_A_TIME, executor.volume() as volume, tempfile.TemporaryDirectory() as scratch:
        for path, content in plan.uploads.items():
            folder, _, name = path.rpartition("/")
            if not volume.exists(folder):
                (Path(scratch) / name).write_bytes(content)
                volume.receive({name: Path(scratch) / name}, folder)
        for name, source in data.items():
            if not volume.exists(f"data/{name}"):
                say(f"data/{name}: copying {source} to the volume, once")
                volume.receive(datasets.survey(source).files, f"data/{name}")
