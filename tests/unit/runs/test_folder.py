"""Whose the folder of a run here is, and what a copy from the volume does to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobrelay.cli import main as cli
from jobrelay.errors import Conflict, Exit
from jobrelay.executors.local import LocalExecutor
from jobrelay.runs import results as artifacts
from jobrelay.runs.folder import OWNER, Owner, belongs, claim
from jobrelay_train.config.loading import resolve
from tests.support.pages import write_run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def volume(root: Path, accuracy: float = 0.8) -> LocalExecutor:
    """A volume with a complete run `a`."""
    write_run(root / "runs" / "a")
    for name in ("report.json", "report.html"):
        (root / "runs" / "a" / name).unlink(missing_ok=True)
    results = root / "runs" / "a" / "eval_results.json"
    results.write_text(results.read_text().replace("0.8,", f"{accuracy},"))
    return LocalExecutor(root)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {OWNER}


def test_a_copy_replaces_the_one_before_as_a_whole_and_leaves_what_is_not_the_runs(
    here: Path, tmp_path: Path
) -> None:
    there = volume(tmp_path / "volume")
    artifacts.fetch(there, "a", here / "runs" / "a")
    (here / "runs" / "a" / "notes.txt").write_text("mine")
    (here / "runs" / "a" / "results" / "mine.png").write_text("mine")
    on_the_volume = tmp_path / "volume" / "runs" / "a"
    (on_the_volume / "predictions.json").unlink()
    shutil.rmtree(on_the_volume / "results")

    artifacts.fetch(there, "a", here / "runs" / "a")

    assert files(here / "runs" / "a") == {*files(on_the_volume), "notes.txt", "results/mine.png"}


@pytest.mark.parametrize("everything", [True, False])
def test_a_run_of_that_name_elsewhere_is_refused_and_nothing_is_touched(
    here: Path, tmp_path: Path, everything: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = volume(tmp_path / "one", 0.81), volume(tmp_path / "other", 0.99)
    artifacts.fetch(one, "a", Path("runs/a"))
    before = {path: path.read_bytes() for path in (here / "runs").rglob("*") if path.is_file()}

    code = cli.main(
        ["fetch", "a", *(["--all"] if everything else []), "--local", "--volume", str(tmp_path / "other")]
    )

    assert code == Exit.CONFLICT
    said = capsys.readouterr().err
    assert f"runs/a holds run a of this machine, volume {tmp_path / 'one'}" in said
    assert "--run NAME" in said
    assert "mv runs/a runs/a.before" in said
    assert before == {path: path.read_bytes() for path in (here / "runs").rglob("*") if path.is_file()}
    assert not belongs(Path("runs/a"), "a", other.place())


def test_another_run_is_refused_before_anything_runs(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = volume(tmp_path / "one")
    artifacts.fetch(one, "a", Path("runs/a"))

    assert (
        cli.main(["run-all", "--run", "a", "--local", "--volume", str(tmp_path / "other")]) == Exit.CONFLICT
    )

    assert "runs/a holds run a of this machine" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_another_configuration_is_refused_and_more_epochs_are_the_same_run(here: Path) -> None:
    def owner(*settings: str) -> Owner:
        return Owner(run="a", place="here", training=resolve({}, settings).identity())

    claim(here / "a", owner())
    claim(here / "a", owner("train.epochs=50", "train.memory=4Gi", "infer.samples=all"))
    with pytest.raises(Conflict, match="holds run a with another configuration"):
        claim(here / "a", owner("train.learning_rate=0.1"))


def test_a_folder_of_which_nothing_says_whose_it_is_is_not_taken(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "notes.txt").write_text("mine")
    claim(here / "mine", Owner(run="a", place="here"))  # nothing of a run is in it
    (here / "theirs").mkdir()
    (here / "theirs" / "model.pt").write_text("of years")
    with pytest.raises(Conflict, match=r"holds files of an unknown run \(model\.pt\)"):
        claim(here / "theirs", Owner(run="a", place="here"))


def test_fetch_to_a_folder_of_ones_own_overwrites_nothing(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume(tmp_path / "volume")
    (here / "own" / "results").mkdir(parents=True)
    (here / "own" / "model.pt").write_text("of years")
    where = ["--local", "--volume", str(tmp_path / "volume")]

    assert cli.main(["fetch", "a", "-o", "own", *where]) == Exit.CONFLICT

    assert "own holds files that are not of run a: model.pt" in capsys.readouterr().err
    assert files(here / "own") == {"model.pt"}
    assert (here / "own" / "model.pt").read_text() == "of years"
    (here / "own" / "model.pt").rename(here / "own" / "other.pt")
    assert cli.main(["fetch", "a", "-o", "own", *where]) == Exit.SUCCEEDED
    assert (here / "own" / "other.pt").read_text() == "of years"


def test_what_the_launcher_keeps_is_not_taken_from_a_volume(here: Path, tmp_path: Path) -> None:
    there = volume(tmp_path / "volume")
    for name in (OWNER, "report.json", "report.html"):
        (tmp_path / "volume" / "runs" / "a" / name).write_text("forged")

    artifacts.fetch(there, "a", here / "a")

    assert not {"report.json", "report.html"} & files(here / "a")
    assert belongs(here / "a", "a", there.place())


def test_logs_of_a_run_elsewhere_are_not_shown_for_this_one(
    here: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    one = volume(tmp_path / "one")
    volume(tmp_path / "other")
    artifacts.fetch(one, "a", Path("runs/a"))
    shutil.rmtree(tmp_path / "other" / "runs" / "a")
    assert cli.main(["logs", "a", "--local", "--volume", str(tmp_path / "other")]) == Exit.BAD_INPUT
    assert b"was here" not in capsysbinary.readouterr().out
