from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.volume import LONG, Place, write_data


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A volume with data and no run yet."""
    write_data(tmp_path / "volume" / "data" / "mnist")
    return Place(tmp_path / "volume")


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A volume on which run `a` has been trained; not to be changed."""
    root = tmp_path_factory.mktemp("trained") / "volume"
    write_data(root / "data" / "mnist")
    place = Place(root)
    ended = place.do("train")
    assert ended.code == 0, ended
    return place


@pytest.fixture
def trained(trained_once: Place, tmp_path: Path) -> Place:
    """A copy of the trained volume, for the test alone."""
    shutil.copytree(trained_once.root, tmp_path / "volume")
    return Place(tmp_path / "volume")


@pytest.fixture
def long_run(place: Place) -> Place:
    """A volume with data and no run yet, and settings that leave time to interfere."""
    place.settings = LONG
    return place


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """model.pt and the losses of a `long_run` that nobody interrupts."""
    root = tmp_path_factory.mktemp("undisturbed")
    write_data(root / "data" / "mnist")
    place = Place(root, settings=LONG)
    assert place.do("train").code == 0
    return place.folder.model.read_bytes(), place.losses()


@pytest.fixture(autouse=True)
def _torch_as_it_was() -> Iterator[None]:
    """Stages that run in the process of the tests set torch's threads and seeds."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)
