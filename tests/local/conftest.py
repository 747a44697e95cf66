from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Place, programs
from tests.support.training import TRAINS, is_alive


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """This machine, with a volume of the test's own."""
    (tmp_path / "work").mkdir()
    return Place(["--local", "--volume", str(tmp_path / "volume")], tmp_path / "work")


@pytest.fixture
def training(place: Place, tmp_path: Path) -> Iterator[int]:
    """A train of run a whose launcher has gone: the number of its process."""
    folder = programs(place.folder / "m", train=TRAINS)
    arguments = ("run-all", "--run", "a", "-k", str(folder), "--no-fetch")
    place.interrupt_when("train │ on", signal.SIGINT, *arguments)
    pid = int((tmp_path / "volume/pid").read_text())
    assert is_alive(pid)
    yield pid
    if is_alive(pid):
        os.kill(pid, signal.SIGKILL)
