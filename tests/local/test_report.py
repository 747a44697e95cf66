"""The page that a run leaves, and `report`, with real Jobs of small programs."""

from __future__ import annotations

import pytest

from tests.support import Place, programs

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
