"""Sweeps of any pipeline on this machine."""

from __future__ import annotations

import csv
import io
import signal
from pathlib import Path

import pytest

from tests.suites.sweeps import test_trials_share_jobs_and_each_has_its_own_run  # noqa: F401
from tests.support import Place
from tests.support.trials import TRAIN, write_pipeline

#: The second of three ends differently.
FAILS = TRAIN + '\nif sys.argv[2] == "2": sys.exit("no convergence")\n'
#: It ends the whole container, once.
KILLS = (
    TRAIN
    + """
import os, signal
mark = pathlib.Path(os.environ["JOBRELAY_VOLUME"], "killed")
if sys.argv[2] == "2" and not mark.exists():
    mark.touch()
    supervisor = os.getppid()
    pack = int(pathlib.Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(pack, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    sys.exit(1)
"""
)
#: It leaves a line for each time that it runs; the third trial waits for the file `go`.
WAITS = (
    TRAIN
    + """
import os, time
volume = pathlib.Path(os.environ["JOBRELAY_VOLUME"])
with (volume / "times").open("a") as file:
    file.write(sys.argv[2])
while sys.argv[2] == "3" and not (volume / "go").exists():
    time.sleep(0.1)
"""
)
GRID = ("sweep", "--name", "s", "--grid", "epochs=1,2,3", "-o", "csv")


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("pack", ["1", "3"])
def test_a_trial_that_fails_is_a_row_and_the_others_continue(place: Place, pack: str) -> None:
    write_pipeline(place.folder, train=FAILS)
    rows = rows_of(place.run(*GRID, "--pack", pack, expect=1).out)
    assert [row["status"] for row in rows] == ["succeeded", "failed", "succeeded"]
    assert "no convergence" in rows[1]["cause"]
    assert rows[1]["evaluate.acc"] == ""


def test_a_trial_that_kills_its_container_takes_no_other_with_it(place: Place) -> None:
    write_pipeline(place.folder, train=KILLS)
    rows = rows_of(place.run(*GRID, "--pack", "3").out)
    assert [row["status"] for row in rows] == ["succeeded"] * 3
    assert len({row["run"] for row in rows}) == 3


def test_a_sweep_that_was_killed_continues_with_the_pack_that_runs(place: Place, tmp_path: Path) -> None:
    write_pipeline(place.folder, train=WAITS)
    place.interrupt_when("trained 0.1 3", signal.SIGKILL, *GRID, "--pack", "3", "-v")
    (tmp_path / "volume/go").touch()
    rows = rows_of(place.run(*GRID, "--pack", "3").out)
    assert [row["status"] for row in rows] == ["succeeded"] * 3
    assert (tmp_path / "volume/times").read_text() == "123"
    write_pipeline(place.folder)
    refused = place.run(*GRID, expect=6)
    assert "holds a sweep of another configuration" in refused.err


def test_short_trials_share_a_job_by_themselves(place: Place) -> None:
    write_pipeline(place.folder)
    result = place.run("sweep", "--name", "s", "--grid", "epochs=1,2,3,4", "-v")
    assert result.err.count("this machine, volume") == 2  # the first trial, and the pack of the others
    assert "the best trial is chosen by evaluate.acc: larger is better" in result.err


def test_a_metric_that_is_not_there_stops_the_sweep_at_the_first_trial(place: Place) -> None:
    write_pipeline(place.folder)
    result = place.run(*GRID, "--choose-on", "f1", expect=2)
    assert "the metrics are evaluate.acc, evaluate.loss, evaluate.top.five" in result.err
    assert result.err.count(" started: ") == 1
    unknown = place.run("sweep", "--grid", "epoch=1,2", expect=2)
    assert "did you mean epochs?" in unknown.err
    assert len(list((place.folder / "sweeps").iterdir())) == 1
