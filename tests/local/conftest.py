from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """This machine, with a volume of the test's own."""
    (tmp_path / "work").mkdir()
    return Place(["--local", "--volume", str(tmp_path / "volume")], tmp_path / "work")
