"""A runner that cannot start, or that finds no room: the cause at once, and an exit code that fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import QUICK, Place, programs
from tests.support.volume import small_volume

FILLS = """
import os
with open(os.environ["JOBRELAY_VOLUME"] + "/x", "wb") as file:
    file.write(bytes(2**20))
"""


def test_a_long_temporary_folder_is_none_for_a_socket(place: Place, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    place.environment["TMPDIR"] = str(long)
    folder = programs(place.folder / "m")
    assert "train was here" in place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch").err


def test_a_runner_and_its_stages_find_their_modules_with_a_safe_path(place: Place) -> None:
    place.environment["PYTHONSAFEPATH"] = "1"
    place.run("run", "train", "--run", "a", *QUICK)


def test_a_runner_that_cannot_start_says_why_at_once(place: Place, tmp_path: Path) -> None:
    """Its Python starts with a module of ours broken, as after half an update."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys\nif len(sys.argv) > 1 and '.jobs' in sys.argv[1]: sys.modules['fcntl'] = None\n"
    )
    place.environment["PYTHONPATH"] = str(broken)
    folder = programs(place.folder / "m")
    result = place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", expect=3)
    assert "Job a-train could not start: its runner ended immediately: ModuleNotFoundError" in result.err
    assert "fcntl" in result.err
    assert "Job controller" not in result.err
    assert place.run("list", "-o", "name").out == ""  # nothing is left that would never run


def test_a_runner_whose_scratch_has_no_room_says_so(place: Place, tmp_path: Path) -> None:
    with small_volume(tmp_path / "small", "1m") as (temporary, fill):
        fill()
        place.environment["TMPDIR"] = str(temporary)
        folder = programs(place.folder / "m")
        place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch")


@pytest.mark.parametrize("leave", [0, 4096, 8192, 12288, 16384, 32768])
def test_row_53_a_full_volume_ends_with_its_cause(tmp_path: Path, leave: int) -> None:
    (tmp_path / "work").mkdir()
    with small_volume(tmp_path / "small", "1m") as (root, fill):
        place = Place(["--local", "--volume", str(root)], tmp_path / "work")
        folder = programs(tmp_path / "m", train=FILLS)
        fill(leave=leave)
        arguments = ("run", "train", "--run", "a", "-k", str(folder), "--no-fetch")
        result = place.run(*arguments, expect=1)
        assert "No space left on device" in result.err
        # nothing is left at work; where not even the Job had room, there is no such run
        there = place.run("list", "-o", "name").out == "a\n"
        place.run("cancel", "a", expect=0 if there else 2)
        assert there or leave < 12288


def test_row_53_a_full_volume_hides_no_success(tmp_path: Path) -> None:
    """The state cannot be kept, and is known all the same."""
    (tmp_path / "work").mkdir()
    with small_volume(tmp_path / "small", "1m") as (root, _):
        place = Place(["--local", "--volume", str(root)], tmp_path / "work")
        program = (
            "import os\nwith open(os.environ['JOBRELAY_VOLUME'] + '/x', 'wb', buffering=0) as file:\n"
            "    try:\n        while True: file.write(bytes(4096))\n    except OSError: print('it is full')"
        )
        folder = programs(tmp_path / "m", train=program)
        result = place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", "-o", "json")
        assert result.json()["stages"][0]["verdict"]["outcome"] == "succeeded"
