"""The page that a run leaves, and `report`, with real Jobs of small programs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
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


def test_a_run_that_was_complete_says_how_to_run_it_again(place: Place) -> None:
    manifests = programs(place.folder / "m")
    arguments = ("run-all", "-k", str(manifests), "--no-fetch")
    first = place.run(*arguments, "-o", "json").json()
    second = place.run(*arguments)
    assert f"all of run {first['run']} was complete already" in second.err
    again = shlex.split(second.err.partition("to run it again as a new one: ")[2])
    third = subprocess.run(
        [*again, "-o", "json"], cwd=place.folder, capture_output=True, text=True, check=True
    )
    assert json.loads(third.stdout)["run"] != first["run"]
    assert "was complete already" not in third.stderr


def test_what_stays_on_the_volume_is_not_spoken_of_as_if_it_were_here(place: Place) -> None:
    manifests = programs(place.folder / "m")
    result = place.run("run-all", "--run", "a", "-k", str(manifests), "--no-fetch")
    assert "results and logs are in" not in result.err
    bring = result.err.partition("results and logs stay on the volume; to bring them here: ")[2].partition(
        "\n"
    )
    words = shlex.split(bring[0])
    assert words[words.index("fetch") :] == ["fetch", "a", *place.options, "-k", str(manifests)]


def test_quiet_still_names_run_and_folder(place: Place) -> None:
    manifests = programs(place.folder / "m")
    result = place.run("run-all", "--run", "a", "-q", "-k", str(manifests), "--no-fetch")
    assert result.err == ""
    assert result.out.splitlines()[0] == "run a  runs/a/"
    assert "run a" not in place.run("run-all", "--run", "a", "-k", str(manifests), "--no-fetch").out


def test_requests_and_limits_that_have_no_effect_here_are_not_spoken_of(place: Place) -> None:
    result = place.run("run", "train", "--run", "a", *QUICK, "--set", "train.memory=64Mi")
    assert "64Mi" not in result.out + result.err
    assert "next time" not in result.out
    assert "--set train.cpu" not in (place.folder / "runs/a/report.html").read_text()
    told = place.run("run", "train", "--run", "a", *QUICK, "--set", "train.memory=64Mi", "-o", "json").json()
    assert (told["stages"][0]["resources"], told["stages"][0]["suggestion"]) == ({}, {})


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
