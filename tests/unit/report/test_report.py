"""The page of a run or a sweep: what it shows, in which order, and that it obeys nothing that it shows."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay.cli import main as cli
from jobrelay.console import Console
from jobrelay.errors import Exit
from jobrelay.executors.base import Executor
from jobrelay.report import run as of_run
from jobrelay.report import sweep as of_sweep
from jobrelay.report.command import write_sweep
from jobrelay.report.confusion import LEVELS, confusion
from jobrelay.report.curves import curve, ticks
from jobrelay.report.ending import keep_report, prepare
from jobrelay.report.files import EvalResults, RunOutcome
from jobrelay.report.page import render
from jobrelay.report.phases import segments
from jobrelay.runs.outcome import outcome_of_jobs
from jobrelay.runs.report import RunReport, StageReport
from jobrelay.verdicts import Verdict
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.paths import BOUNDARY
from jobrelay_train.config.schema import STAGES
from tests.support import objects
from tests.support.pages import MOMENTS, NAMES, outcome, write_run
from tests.support.pages import write_sweep as write_sweep_files

HOSTILE = (
    "</script></style>--><script>alert(1)</script><img src=x onerror=alert(1)>"
    "\"'&{{7*7}}\u202etxt\x00\x1b]0;x\x07"
)


class Elements(HTMLParser):
    """Every tag of a page with its attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(folder: Path) -> str:
    return render("run.html", run=of_run.gather(folder, "a"))


# --- what is shown ---


def test_the_page_of_a_run_has_all_its_parts(tmp_path: Path) -> None:
    elements = Elements(page_of(write_run(tmp_path / "a")))
    ids = [
        attributes["id"] for tag, attributes in elements.tags if tag in ("h2", "h3") and "id" in attributes
    ]
    assert ids == [
        "stages", "timeline", "training", "test", "images", "resources", "configuration", "files", "logs",
    ]  # fmt: skip
    for said in (
        "80.00%", "Shirt taken for T-shirt/top: 4 of 10", "0.2 of 1", "300 MiB of 1.0 GiB (limit 2.0 GiB)",
        "--set train.cpu=300m", "name: cnn", "train was here", "broken.png", "all as recorded", "p99 4.00 ms",
    ):  # fmt: skip
        assert said in re.sub(r"\s+", " ", elements.text)
    assert "Not on this page" not in elements.text


def test_a_run_that_failed_says_why_and_what_to_do(tmp_path: Path) -> None:
    part = of_run.gather(write_run(tmp_path / "a", failed="eval"), "a")
    assert (part.tone, part.headline) == ("bad", "eval failed")
    assert [log.wanted for log in part.logs] == [False, True]
    text = Elements(render("run.html", run=part)).text
    assert "eval failed: OOMKilled" in text
    assert "limit 2Gi" in text
    assert "--set eval.memory=4Gi" in text


def test_what_an_earlier_try_has_left_is_not_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    (folder / "report.json").write_text(json.dumps(outcome(["train"], failed="train")))
    part = of_run.gather(folder, "a")
    assert [stage.stage for stage in part.stages] == ["train"]
    assert (part.results, part.inference, part.groups) == (None, None, ())
    assert {row.stage for row in part.files} == {"train"}


def test_without_an_outcome_the_records_speak(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", failed="infer")
    (folder / "report.json").unlink()
    part = of_run.gather(folder, "a")
    assert [stage.outcome for stage in part.stages] == ["succeeded", "succeeded", "failed"]
    assert part.stages[2].message == "ValueError: no such class"
    assert not part.has_outcome
    assert [segment.phase for segment in part.phases["train"]] == ["importing PyTorch", "running"]
    told = RunOutcome.model_validate(outcome(["train"]))
    asked = of_run.gather(folder, "a", told)
    assert asked.has_outcome
    assert asked.stages[0].sizes


class Cluster:
    """As much of an executor as tells of Jobs."""

    limits_resources = True

    def place(self) -> str:
        return "context lab"

    def jobs(self, run: str | None = None) -> list[tuple[dict[str, Any], Sequence[dict[str, Any]]]]:
        done = objects.job("train", objects.condition("Complete"))
        failed = objects.job(
            "eval", objects.condition("Failed", reason="DeadlineExceeded", message="too long")
        )
        unscheduled = objects.job("infer")
        return [(job, [objects.pod(job, phase)]) for job, phase in (
            (done, "Succeeded"), (failed, "Failed"), (unscheduled, "Pending"),
        )]  # fmt: skip


def test_jobs_tell_of_themselves(tmp_path: Path) -> None:
    told = RunOutcome.model_validate(outcome_of_jobs(cast(Executor, Cluster()), objects.RUN))
    part = of_run.gather(tmp_path, "a", told)
    assert part.run == objects.RUN
    assert [(stage.outcome, stage.tone) for stage in part.stages] == [
        ("succeeded", "good"), ("out of time", "bad"), ("scheduling", "open"),
    ]  # fmt: skip
    page = render("run.html", run=part)
    assert "eval out of time: DeadlineExceeded" in page
    assert "context lab" in page


def test_of_nothing_there_is_a_page_too(tmp_path: Path) -> None:
    part = of_run.gather(tmp_path, "a")
    assert (part.tone, part.headline) == ("open", "no stage has started")
    assert "No stage has left a record here" in render("run.html", run=part)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("eval_results.json", "{"),
        ("eval_results.json", '{"test_acc": NaN}'),
        ("history.jsonl", '{"epoch": 1, "loss": 1e300}\n'),
        ("predictions.json", '[{"file": "results/x.png"}]'),
        ("inference.json", "[]"),
        ("train.json", "no JSON"),
        ("report.json", '{"run": 7}'),
        ("report.json", " " * 5_000_000),
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_costs_its_part(
    tmp_path: Path, name: str, content: str
) -> None:
    folder = write_run(tmp_path / "a")
    (folder / name).write_text(content)
    part = of_run.gather(folder, "a")
    assert len(part.problems) == 1
    assert name in part.problems[0]
    assert "Not on this page" in render("run.html", run=part)


def test_a_record_that_boasts_is_cut_to_size(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    (folder / "report.json").unlink()
    record = json.loads((folder / "train.json").read_text())
    record["cost"]["wall_seconds"] = math.inf
    record |= {"started": "x" * 10**5, "means": {"device": "y" * 10**5}, "versions": {"z" * 10**5: ""}}
    record["outputs"]["w" * 10**5] = record["outputs"]["v\0"] = record["outputs"]["model.pt"]
    (folder / "train.json").write_text(json.dumps(record))
    assert len(page_of(folder)) < 50_000


def test_what_is_not_as_recorded_is_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    (folder / "model.pt").write_bytes(b"others!")
    (folder / "predictions.json").unlink()
    states = {row.name: row.state for row in of_run.gather(folder, "a").files}
    assert states["model.pt"] == "differs"
    assert states["predictions.json"] == "not here"
    assert states["history.jsonl"] == "as recorded"


def test_confident_mistakes_come_first(tmp_path: Path) -> None:
    groups = of_run.gather(write_run(tmp_path / "a"), "a").groups
    shown = [(group.title, [picture.probability for picture in group.pictures]) for group in groups]
    assert shown == [
        ("Mistakes, the most confident first", [0.95, 0.7]),
        ("Right, the least sure first", [0.6, 0.99]),
    ]


def test_a_prediction_leads_to_pictures_of_its_run_only(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    (tmp_path / "secret.png").write_bytes((folder / "results/00000_shirt.png").read_bytes())
    (folder / "results/00001_shirt.png").write_bytes(b"no picture")
    lines = (
        (folder / "predictions.json")
        .read_text()
        .replace("results/00000_shirt.png", "results/../../secret.png")
    )
    (folder / "predictions.json").write_text(lines)
    shown = [picture.title for group in of_run.gather(folder, "a").groups for picture in group.pictures]
    assert shown == ["p2.png", "p3.png"]


def test_pictures_with_nothing_on_them_are_shown_as_such(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", empty=2)
    part = of_run.gather(folder, "a")
    assert part.groups[-1].title == "Nothing found"
    assert [picture.title for picture in part.groups[-1].pictures] == ["e0.png", "e1.png"]
    elements = Elements(render("run.html", run=part))
    pictures = [attributes for tag, attributes in elements.tags if tag == "img"]
    assert [picture["alt"] for picture in pictures[-2:]] == ["e0.png: nothing found", "e1.png: nothing found"]
    text = re.sub(r"\s+", " ", elements.text)
    assert "nothing found e0.png" in text
    assert "4 of data/photos, 2 right, nothing found in 2; 1,200 images/s" in text
    assert "Not on this page" not in text


def test_a_run_that_has_found_nothing_at_all_has_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", empty=1)
    lines = (folder / "predictions.json").read_text().splitlines()
    (folder / "predictions.json").write_text("\n".join(["[", lines[-2], "]\n"]))
    told = json.loads((folder / "inference.json").read_text())
    told |= {"images": 0, "correct": None, "images_per_second": None, "batch_size": None, "latency": None}
    (folder / "inference.json").write_text(json.dumps(told))
    part = of_run.gather(folder, "a")
    assert [group.title for group in part.groups] == ["Nothing found"]
    text = re.sub(r"\s+", " ", Elements(render("run.html", run=part)).text)
    assert "0 of data/photos, nothing found in 1. Of those that were drawn:" in text
    assert "images/s" not in text.split("Images")[-1]
    assert "Not on this page" not in text


def test_points_have_one_picture_for_all_of_them(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    assert of_run.gather(folder, "a").boundary is None
    picture = folder / "results" / BOUNDARY
    picture.write_bytes((folder / "results/00000_shirt.png").read_bytes() + bytes(200_000))
    lines = (folder / "predictions.json").read_text()
    (folder / "predictions.json").write_text(re.sub(r"results/[^\"]+", f"results/{BOUNDARY}", lines))

    part = of_run.gather(folder, "a")

    assert part.boundary
    assert part.groups == ()
    page = render("run.html", run=part)
    assert "Decision boundary" in page
    assert "points/s" in page
    assert "images/s" not in page


def test_the_validation_accuracy_has_a_curve_where_every_epoch_has_one(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    history = folder / "history.jsonl"
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    assert "Validation accuracy" not in [curve.title for curve in of_run.gather(folder, "a").curves]
    history.write_text("".join(json.dumps(row | {"val_accuracy": 0.625}) + "\n" for row in rows))

    part = of_run.gather(folder, "a")

    assert [curve.title for curve in part.curves] == ["Training loss", "Accuracy", "Validation accuracy"]
    assert render("run.html", run=part).count('<td class="number">0.6250</td>') == len(rows)


def test_a_page_stays_small(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    for number in range(50):
        (folder / f"logs/train-p{number}.log").write_bytes(b"x" * 100 + b"\n" * 100_000 + b"y" * 1_000_000)
    line = (folder / "predictions.json").read_text().splitlines()[1].strip(" ,")
    (folder / "predictions.json").write_text("[\n" + f"{line},\n" * 5000 + line + "\n]\n")
    history = (folder / "history.jsonl").read_text().splitlines()[0]
    many = (json.dumps({**json.loads(history), "epoch": epoch}) for epoch in range(5000))
    (folder / "history.jsonl").write_text("\n".join(many))
    assert len(page_of(folder)) < 500_000


# --- nothing that is shown is obeyed ---


@pytest.mark.parametrize("failed", [None, *STAGES])
def test_what_is_shown_is_text_and_nothing_else(tmp_path: Path, failed: Stage | None) -> None:
    plain = Elements(page_of(write_run(tmp_path / "plain", failed=failed, empty=1)))
    page = page_of(write_run(tmp_path / "a", failed=failed, beside=HOSTILE, empty=1))
    hostile = Elements(page)
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [list(attributes) for _, attributes in hostile.tags] == [list(names) for _, names in plain.tags]
    assert "{{7*7}}" in page
    assert "\u202e" not in page
    assert "⟨U+202E⟩" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", page)
    page.encode()


def test_the_same_of_a_sweep(tmp_path: Path) -> None:
    def elements(name: str, beside: str) -> Elements:
        folder = write_sweep_files(tmp_path / name, failed=True, beside=beside)
        return Elements(render("sweep.html", sweep=of_sweep.gather(folder, "s")))

    plain, hostile = elements("plain", ""), elements("hostile", HOSTILE)
    assert [(tag, list(attributes)) for tag, attributes in hostile.tags] == [
        (tag, list(attributes)) for tag, attributes in plain.tags
    ]


def test_a_page_asks_for_nothing(tmp_path: Path) -> None:
    elements = Elements(page_of(write_run(tmp_path / "a")))
    for tag, attributes in elements.tags:
        assert tag not in ("script", "link", "iframe", "object", "form")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href"):
            assert re.match(r"data:image/png;base64,|#", attributes.get(name) or "#")
    policy = next(a["content"] for tag, a in elements.tags if tag == "meta" and "http-equiv" in a)
    assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'sha256-")


@given(st.text(alphabet=st.characters(codec=None), max_size=40))
def test_no_unseen_letter_reaches_a_page(text: str) -> None:
    part = of_sweep.SweepPart(text, "open", text, 0, (), (), None, (text,), (), (text,))
    page = render("sweep.html", sweep=part)
    page.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)


# --- curves, phases, confusion ---


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.5, 1.0]),
        (0.62, 0.94, [0.6, 0.7, 0.8, 0.9, 1.0]),
        (1.0, 5.0, [1, 2, 3, 4, 5]),
        (0.0, 120.0, [0, 50, 100, 150]),
        (-3.0, 3.0, [-4, -2, 0, 2, 4]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


FIGURES = st.floats(-1e12, 1e12)


@given(st.lists(st.tuples(st.integers(0, 10**9), FIGURES), min_size=1, max_size=400), st.none() | FIGURES)
def test_a_curve_stays_in_its_box(points: list[tuple[int, float]], mark: float | None) -> None:
    points.sort()
    drawn = curve(
        "x", [float(x) for x, _ in points], [y for _, y in points],
        x_label="epoch", mark=(mark, "test") if mark is not None else None,
    )  # fmt: skip
    places = [tuple(map(float, pair.split(","))) for pair in drawn.points.split()]
    assert 1 <= len(places) <= 301
    for x, y in places:
        assert drawn.left <= x <= drawn.right
        assert drawn.top <= y <= drawn.bottom
    assert all(drawn.top - 0.1 <= tick.place <= drawn.bottom + 0.1 for tick in drawn.y_ticks)
    assert all(math.isfinite(tick.place) for tick in drawn.x_ticks)


def test_a_curve_has_its_labels() -> None:
    drawn = curve("Accuracy", [1, 2, 3], [0.7, 0.8, 0.9], x_label="epoch", mark=(0.85, "test 0.8500"))
    assert [tick.label for tick in drawn.x_ticks] == ["1", "2", "3"]
    assert [tick.label for tick in drawn.y_ticks] == ["0.70", "0.75", "0.80", "0.85", "0.90"]
    assert drawn.points.split()[0] == f"{drawn.left:.1f},{drawn.bottom:.1f}"
    assert drawn.summary == "Accuracy, epoch 1 to 3: from 0.7 to 0.9; lowest 0.7, highest 0.9"
    assert drawn.mark
    assert drawn.mark.label == "test 0.8500"


def without(*names: str) -> dict[str, str]:
    return {name: when for name, when in MOMENTS.items() if name not in names}


@pytest.mark.parametrize(
    ("timeline", "expected"),
    [
        (
            MOMENTS,
            [("queued", 1), ("pulling the image", 3), ("starting", 1.25), ("importing PyTorch", 2),
             ("running", 10), ("ending", 0.85)],
        ),
        (  # a program that says nothing of itself
            without("image_ready", "begun", "imported", "working", "first_batch", "recorded"),
            [("queued", 1), ("starting", 4), ("running", 13), ("ending", 0.1)],
        ),
        (  # started early
            MOMENTS | {"working": "2026-11-21T16:00:12.250Z"},
            [("queued", 1), ("pulling the image", 3), ("starting", 1.25), ("importing PyTorch", 2),
             ("waiting for its turn", 5), ("running", 5), ("ending", 0.85)],
        ),
        (  # given up before it had an image
            {name: MOMENTS[name] for name in ("created", "pod_created", "scheduled", "seen")},
            [("queued", 1), ("pulling the image", 17.1)],
        ),
        ({"created": MOMENTS["created"], "seen": MOMENTS["seen"]}, [("queued", 18.1)]),
        ({"created": MOMENTS["created"], "seen": "never", "finished": "2026-11-21T16:00:18"}, []),
        (  # clocks that differ
            MOMENTS | {"recorded": "2026-11-21T16:00:06Z"},
            [("queued", 1), ("pulling the image", 3), ("starting", 1.25), ("importing PyTorch", 2),
             ("ending", 10.85)],
        ),
    ],
)  # fmt: skip
def test_phases(timeline: dict[str, str], expected: list[tuple[str, float]]) -> None:
    found = segments({"train": timeline})["train"]
    assert [(segment.phase, round(segment.seconds, 2)) for segment in found] == expected


def test_phases_of_all_stages_have_one_beginning() -> None:
    found = segments(
        {"train": MOMENTS, "eval": {"created": "2026-11-21T16:00:10Z", "seen": MOMENTS["seen"]}, "infer": {}}
    )
    assert found["eval"][0].begin == 10
    assert "infer" not in found


def results(matrix: list[list[int]]) -> EvalResults:
    return EvalResults.model_validate({
        "test_loss": 1, "test_acc": 0.5, "samples": 1, "correct": 1, "dataset": "d", "model": "m",
        "per_class": [], "class_names": NAMES[: len(matrix)], "confusion_matrix": matrix,
    })  # fmt: skip


def test_confusion() -> None:
    found = confusion(results([[8, 0, 2], [0, 10, 0], [4, 0, 6]]))
    assert found
    assert found.rows
    assert [(m.true, m.predicted, m.count, m.of) for m in found.commonest] == [
        ("Shirt", "T-shirt/top", 4, 10), ("T-shirt/top", "Shirt", 2, 10),
    ]  # fmt: skip
    assert [[cell.level for cell in row] for row in found.rows] == [[8, 0, 5], [0, LEVELS, 0], [LEVELS, 0, 6]]
    assert confusion(results([[1, 2], [3]])) is None
    assert confusion(results([])) is None


# --- sweeps ---


def test_the_page_of_a_sweep(tmp_path: Path) -> None:
    page = write_sweep(write_sweep_files(tmp_path / "s"))
    assert page == tmp_path / "s/report.html"
    text = re.sub(r"\s+", " ", Elements(page.read_text()).text)
    assert "3 trials succeeded" in text
    assert "best test accuracy 90.00%" in text
    assert "with train.epochs 10" in text
    assert "s-1 ★" in text
    assert page.read_text().count("data:image/svg+xml") == 1  # and not as PNG too


@pytest.mark.parametrize(
    ("table", "headline"),
    [
        ("", "3 of 3 trials have not ended"),
        ("run,test_acc\na\n", "3 of 3 trials have not ended"),
        ("run,test_acc\na,high\n", "2 of 3 trials have not ended"),
    ],
)
def test_a_sweep_whose_table_is_odd(tmp_path: Path, table: str, headline: str) -> None:
    folder = write_sweep_files(tmp_path / "s")
    (folder / "sweep.csv").write_text(table)
    part = of_sweep.gather(folder, "s")
    assert part.headline == headline
    assert "Trials" in render("sweep.html", sweep=part)


def test_a_sweep_with_a_failed_trial(tmp_path: Path) -> None:
    part = of_sweep.gather(write_sweep_files(tmp_path / "s", failed=True), "s")
    assert (part.tone, part.headline) == ("bad", "1 of 3 trials failed")
    assert "cause" in [column.title for column in part.columns]


# --- the command ---


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def launch(*arguments: str) -> int:
    return cli.main([*arguments, "--local", "--volume", "volume"])


def test_report_of_what_is_here(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(here / "runs/a")
    write_sweep_files(here / "sweeps/s")
    write_run(here / "elsewhere/b")
    for name, page in (
        ("a", "runs/a/report.html"),
        ("s", "sweeps/s/report.html"),
        ("elsewhere/b", "elsewhere/b/report.html"),
    ):
        assert launch("report", name) == Exit.SUCCEEDED
        assert capsys.readouterr().out == f"{page}\n"
        assert (here / page).read_text().startswith("<!doctype html>")
    assert launch("report", "a", "-o", "mine.html") == Exit.SUCCEEDED
    assert (here / "mine.html").exists()


def test_report_of_a_run_that_is_on_the_volume_only(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(here / "volume/runs/a")
    (folder / "report.json").unlink()
    assert launch("report", "a") == Exit.SUCCEEDED
    assert "run a is not in runs/a yet" in capsys.readouterr().err
    page = (here / "runs/a/report.html").read_text()
    assert "80.00%" in page
    assert "what Kubernetes reported about them is no longer known" in page


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nobody"], Exit.BAD_INPUT, "there is no run nobody"),
        (["Not a name"], Exit.BAD_INPUT, "must be lower-case"),
        (["no/where"], Exit.BAD_INPUT, "no/where is not the folder of a run or a sweep"),
        (["both"], Exit.BAD_INPUT, "both is a run (runs/both/) and a sweep (sweeps/both/)"),
        (["both/../runs/both", "-o", "no/such/folder.html"], Exit.BAD_INPUT, "is not the folder of"),
        (["runs/both", "-o", "no/such/folder.html"], Exit.BAD_INPUT, "no/such/folder.html cannot be written"),
        ([], Exit.BAD_INPUT, "there is no run"),
    ],
)
def test_report_refuses(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: Exit, said: str
) -> None:
    write_run(here / "runs/both")
    write_sweep_files(here / "sweeps/both")
    assert launch("report", *arguments) == code
    assert said in capsys.readouterr().err


# --- at the end of a run ---


def ended(folder: Path, *stages: Stage, code: Exit = Exit.SUCCEEDED) -> RunReport:
    verdict = Verdict(code, "succeeded" if not code else "failed", "Reason", "")
    reports = [
        StageReport(stage, verdict, "created", None, 1.0, "", True, 1, True, dict(MOMENTS))
        for stage in stages
    ]
    return RunReport("a", "here", folder, reports)


def test_a_run_keeps_what_has_come_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs/a"
    keep_report(ended(folder, "train", "eval", code=Exit.FAILED), Console())
    assert f"the report is {folder}/report.html" in capsys.readouterr().err
    kept = json.loads((folder / "report.json").read_text())
    assert [stage["verdict"]["exit_code"] for stage in kept["stages"]] == [1, 1]
    keep_report(ended(folder, "eval"), Console())  # `run eval`
    kept = json.loads((folder / "report.json").read_text())
    assert [(stage["stage"], stage["verdict"]["exit_code"]) for stage in kept["stages"]] == [
        ("train", 1),
        ("eval", 0),
    ]
    keep_report(ended(folder, "train"), Console())  # what is kept of eval is still of its record
    kept = json.loads((folder / "report.json").read_text())
    assert [stage["stage"] for stage in kept["stages"]] == ["train", "eval"]
    keep_report(ended(folder, "train", code=Exit.FAILED), Console())
    kept = json.loads((folder / "report.json").read_text())
    assert [stage["stage"] for stage in kept["stages"]] == ["train"]


def test_a_report_that_cannot_be_written_is_told_and_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("a file")
    keep_report(ended(tmp_path / "runs/a", "train"), Console())
    assert "no report was written: " in capsys.readouterr().err
    keep_report(ended(tmp_path / "runs/a", "train"), Console(quiet=True))
    assert capsys.readouterr().err == ""


def test_nor_does_a_library_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jobrelay.report.command", None)
    prepare()
    keep_report(ended(tmp_path, "train"), Console())
    assert "no report was written: ModuleNotFoundError" in capsys.readouterr().err
