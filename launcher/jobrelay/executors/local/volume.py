"""The volume as a folder of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from jobrelay.errors import EvidenceIncomplete
from jobrelay.executors.local.job_folder import on_volume
from jobrelay.hints import Command
from jobrelay.kube.objects import Object
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume import archive, folders
from jobrelay_runner.volume.datasets import DataSet, exists, list_data_sets
from jobrelay_runner.volume.inputs import changed_since
from jobrelay_runner.volume.paths import RunFolder, inside
from jobrelay_runner.volume.records import leave_out, list_runs
from jobrelay_runner.volume.verify import Check, check_run


class LocalVolume:
    """The volume as a folder. See executors.base.Volume."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def runs(self) -> list[Object]:
        with on_volume(self._root):
            return list_runs(self._root)

    def send(self, folder: str, *, everything: bool) -> Iterator[bytes]:
        path = inside(self._root, folder)
        if not path.is_dir():
            raise EvidenceIncomplete(f"{folder} is not on the volume {self._root}", Command("list"))
        return archive.packed(path, leave_out(path, self._root, everything=everything))

    def receive(self, files: Mapping[str, Path], folder: str, *, replace: bool = False) -> None:
        stream = archive.stream_of(archive.packed_files(files))
        archive.unpack(stream, inside(self._root, folder), replace=replace)

    def data_sets(self) -> list[DataSet]:
        with on_volume(self._root):
            return list_data_sets(self._root)

    def exists(self, path: str) -> bool:
        with on_volume(self._root):
            return exists(self._root, path)

    def check(self, run: str) -> list[Check]:
        with on_volume(self._root):
            return check_run(RunFolder(self._root, run))

    def changed(self, run: str) -> Mapping[Stage, list[str]]:
        with on_volume(self._root):
            return changed_since(RunFolder(self._root, run))

    def remove(self, folder: str) -> None:
        with on_volume(self._root):
            folders.remove(inside(self._root, folder))
