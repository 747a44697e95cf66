"""The page that a run leaves, and `report`, with real Jobs of small programs."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from tests.support import QUICK, Place, programs

FAILS = "print('the last line'); raise SystemExit(1)"


def test_a_run_leaves_its_page(place: Place) -> None:
    manifests = programs(place.folder / "m")
    result = place.run("run-all", "--run", "a", "-k", str(manifests), "--no-fetch")
    assert "the report is runs/a/report.html" in result.err
    page = (place.folder / "runs/a/report.html").read_text()
    assert "a-train-" in page
    assert "infer was here" in page


@pytest.mark.parametrize("options", [[], ["--no-fetch"]])
def test_a_run_that_failed_leaves_its_page_too(place: Place, options: list[str]) -> None:
    manifests = programs(place.folder / "m", eval=FAILS)
    result = place.run("run-all", "--run", "a", "-q", "-k", str(manifests), *options, expect=1)
    assert "report" not in result.err
    page = (place.folder / "runs/a/report.html").read_text()
    assert "eval failed</h2>" in page
    assert "exit code 1: the last line" in page
    assert "the last line" in page
    assert "infer" not in page.partition("<main")[2]


def test_a_page_that_cannot_be_written_changes_nothing(place: Place) -> None:
    manifests = programs(place.folder / "m")
    (place.folder / "runs/a/report.html").mkdir(parents=True)
    result = place.run("run-all", "--run", "a", "-o", "json", "-k", str(manifests), "--no-fetch")
    assert "no report was written: runs/a/report.html cannot be written" in result.err
    assert [stage["verdict"]["exit_code"] for stage in result.json()["stages"]] == [0, 0, 0]


def test_without_what_the_launcher_knew_the_jobs_are_asked(place: Place) -> None:
    manifests = programs(place.folder / "m", eval=FAILS)
    place.run("run-all", "--run", "a", "-k", str(manifests), expect=1)
    (place.folder / "runs/a/report.json").unlink()
    (place.folder / "runs/a/train.json").write_text("{}")
    assert place.run("report", "a").out == "runs/a/report.html\n"
    page = (place.folder / "runs/a/report.html").read_text()
    assert "eval failed</h2>" in page
    assert "exit code 1: the last line" in page
    assert "train.json is not a readable record" in page


def test_the_report_of_a_run_is_the_same_whenever_it_is_made(place: Place) -> None:
    folder = place.folder / "runs/a"

    def shown() -> str:  # all but the minute in which the page was made
        return re.sub(r"[-0-9]{10} [0-9]{2}:[0-9]{2} UTC", "", folder.joinpath("report.html").read_text())

    place.run("run-all", "--run", "a", *QUICK)
    kept, page = folder.joinpath("report.json").read_text(), shown()
    assert "(before)" not in page

    for again in (["run-all"], ["run", "eval"], ["run", "infer"]):
        place.run(*again, "--run", "a", *QUICK)
        assert folder.joinpath("report.json").read_text() == kept
        assert shown() == page
    place.run("fetch", "a")
    place.run("delete", "a")
    place.run("report", "a")
    assert shown() == page
    place.run("run", "eval", "--run", "a", *QUICK)  # its Pod finds the work done
    assert json.loads(folder.joinpath("report.json").read_text())["stages"] == json.loads(kept)["stages"]


def test_a_log_that_was_brought_from_the_volume_is_complete(place: Place) -> None:
    """The Job is there and has ended; another launcher, in another folder, has not heard its log."""
    place.run("run-all", "--run", "a", *QUICK)
    again = replace(place, folder=place.folder / "elsewhere")
    again.folder.mkdir()
    result = again.run("run-all", "--run", "a", "-o", "json", *QUICK)
    assert {stage["log_complete"] for stage in result.json()["stages"]} == {True}
    assert {stage["log_from"] for stage in result.json()["stages"]} == {"volume"}
