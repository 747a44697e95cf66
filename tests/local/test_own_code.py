"""A network and data of the user's own in the built-in trainer, as processes of this machine."""

from __future__ import annotations

from pathlib import Path

from tests.support import Place
from tests.support.own import write_code

OWN = ("--set", "model.name=mine.nets:small", "--set", "train.epochs=1", "--set", "train.backoff_limit=2")


def test_a_network_and_data_of_your_own(place: Place, tmp_path: Path) -> None:
    write_code(place.folder)
    options = ("--run", "a", *OWN, "--set", "data.name=mine.data:plain", "--set", "train.strategy=ddp")
    place.run("run-all", *options)

    assert len(list((place.folder / "runs/a/results").glob("*.png"))) == 5
    assert not list((place.folder / "runs/a").rglob("*.py"))  # the code is not among the results
    assert not list((tmp_path / "volume/runs/a").rglob("*.py"))
    again = place.run("run-all", *options)
    assert "epoch 1" not in again.err

    write_code(place.folder, other="")
    changed = place.run("run-all", *options, expect=6)
    assert "code" in changed.err

    broken = place.run("run-all", "--run", "b", *OWN, "--set", "data.name=mine.data:missing", expect=2)
    assert "data.name: mine.data:missing: mine/data.py has no missing" in broken.err
    assert broken.err.count("has no missing; its functions are") <= 3  # not once for every retry
