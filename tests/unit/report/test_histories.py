"""Files with a row per step → columns, groups and charts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay.report.programs.charts import charts, histories, kind_of
from jobrelay.report.programs.lines import MOST_LINES, Line, Lines
from jobrelay.report.programs.tables import Table, read_table
from jobrelay.report.programs.written import written_files
from jobrelay_runner.volume.record import read_record
from tests.support.pages import write_programs


def of_lines(*rows: Any) -> Table | None:
    return read_table("".join(f"{json.dumps(row)}\n" for row in rows).encode(), ".jsonl")


def columns(table: Table | None) -> dict[str, list[tuple[float, float]]]:
    return {name: list(points) for name, points in table.columns.items()} if table else {}


# --- tables ---


def test_rows_over_a_step() -> None:
    table = of_lines(
        {"step": 1, "loss": 2}, {"step": 2, "loss": 1, "val_loss": 3}, {"step": 4, "val_loss": 2}
    )
    assert table
    assert table.x_label == "step"
    assert columns(table) == {"loss": [(1, 2), (2, 1)], "val_loss": [(2, 3), (4, 2)]}


def test_nested_numbers_and_nothing_else() -> None:
    row = {"epoch": 1, "train": {"loss": 1, "deep": {"acc": 0.5}}, "name": "x", "ok": True, "list": [1]}
    assert list(columns(of_lines(row, {**row, "epoch": 2}))) == ["train.loss", "train.deep.acc"]


def test_a_counter_that_starts_again_is_none() -> None:
    rows = [{"epoch": epoch, "batch": batch, "loss": 1.0} for epoch in (1, 2) for batch in range(5)]
    table = of_lines(*rows)
    assert table
    assert table.x_label == "row"
    assert [x for x, _ in table.columns["loss"]] == list(range(1, 11))


def test_of_two_rows_at_one_step_the_later_counts() -> None:
    rows = [{"step": 1, "loss": 3}, {"step": 2, "loss": 2}, {"step": 2, "loss": 1}]
    assert columns(of_lines(*rows)) == {"loss": [(1, 3), (2, 1)]}


def test_torn_lines_and_numbers_that_cannot_be_drawn_are_left_out() -> None:
    text = b'{"epoch": 1, "loss": NaN}\n{"epoch": 2, "loss": 2}\nno\n[1]\n{"epoch": 3, "loss": 1e300}\n'
    assert columns(read_table(text + b'{"epoch": 4, "loss": 1}\n{"epoch": 5, "lo', ".jsonl")) == {
        "loss": [(2, 2), (4, 1)]
    }


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("epoch,loss,note\n1,2,a\n2,1,b\n", ".csv"),
        ("epoch;loss\n1;2\n2;1\n", ".csv"),
        ("\ufeffepoch, loss\r\n1, 2\r\n2, 1\r\n", ".csv"),
        ("epoch\tloss\n1\t2\n2\t1\n3\n", ".tsv"),
        ('[{"epoch": 1, "loss": 2}, {"epoch": 2, "loss": 1}]', ".json"),
        ('{"loss": [2, 1], "lists": [[1], [2]], "model": "cnn"}', ".json"),
    ],
    ids=["csv", "semicolons", "windows", "tsv", "json-rows", "json-columns"],
)
def test_other_forms(text: str, suffix: str) -> None:
    assert columns(read_table(text.encode(), suffix)) == {"loss": [(1, 2), (2, 1)]}


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("", ".csv"),
        ("epoch,loss\n1,2\n", ".csv"),
        ("id,label\n1,2\n2,1\n", ".csv"),
        ("id,width,height\n1,2,3\n2,1,3\n", ".csv"),
        ("1,2\n2,1\n3,3\n", ".csv"),
        ('"open', ".csv"),
        ("a,b\n" + "x" * 200_000 + ",1\n", ".csv"),
        ("[" * 100_000, ".json"),
        ("[1, 2]", ".json"),
        ('{"acc": 0.9, "layers": [1, 2, 3]}', ".json"),
        ("\x00\x00", ".jsonl"),
    ],
)
def test_what_is_no_history_is_not_drawn(text: str, suffix: str) -> None:
    assert read_table(text.encode(), suffix) is None


@given(st.binary(max_size=200), st.sampled_from([".csv", ".tsv", ".jsonl", ".json"]))
def test_any_bytes_are_read_or_refused(content: bytes, suffix: str) -> None:
    read_table(b"epoch,loss\n1,2\n" + content, suffix)
    read_table(content, suffix)


# --- groups ---


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("loss", "loss"), ("train_loss", "loss"), ("val/loss", "loss"), ("eval.box_loss", "loss"),
        ("acc", "accuracy"), ("val_accuracy", "accuracy"), ("top1", "accuracy"), ("lr", "learning rate"),
        ("train.lr", "learning rate"), ("val_f1", "scores"), ("metrics/mAP50(B)", "metrics map50(b)"),
        ("images_per_second", "images per second"), ("epoch_seconds", "seconds"), ("test", "test"),
        ("latest", "latest"),
    ],
)  # fmt: skip
def test_what_a_column_measures(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def grouped(**series: list[float]) -> list[tuple[str, list[str]]]:
    table = Table("step", {name: tuple(enumerate(map(float, ys))) for name, ys in series.items()})
    return [(each.title, [line.name for line in each.lines]) for each in charts(table)]


def test_one_kind_has_one_chart() -> None:
    assert grouped(loss=[2, 1], val_loss=[3, 2], acc=[0, 1], lr=[0.1, 0.01]) == [
        ("loss", ["loss", "val_loss"]), ("acc", ["acc"]), ("lr", ["lr"]),
    ]  # fmt: skip


def test_unless_their_scales_differ() -> None:
    assert grouped(acc=[0.1, 0.9], val_acc=[10, 90]) == [("acc", ["acc"]), ("val_acc", ["val_acc"])]
    assert grouped(loss=[0, 0], val_loss=[3, 2]) == [("loss", ["loss", "val_loss"])]


def test_a_chart_has_so_many_lines_at_most() -> None:
    found = grouped(**{f"{name}_loss": [1, 2] for name in "abcdefghij"})
    assert [len(names) for _, names in found] == [MOST_LINES, 10 - MOST_LINES]


# --- the charts of a run ---


def test_only_so_many_files_and_bytes_are_drawn(tmp_path: Path) -> None:
    rows = "epoch,loss\n1,2\n2,1\n"
    files = {f"h{number}.csv": rows for number in range(20)}
    folder = write_programs(tmp_path / "a", {"train": {**files, "a-large.csv": rows + "x" * 5_000_000}})
    record = read_record(folder / "train.json")
    found = histories(folder, written_files(folder, {"train": record}))
    assert [file.name for file in found.files] == [f"h{number}.csv" for number in range(12)]
    assert found.left_out[0].startswith("a-large.csv is larger than")
    assert found.left_out[1] == "8 more files with a row per step"
    row = found.files[0].rows[0]
    assert (row.first, row.last, row.lowest, row.highest) == (2, 1, (2, 1), (1, 2))


# --- lines ---


def chart(*series: list[tuple[float, float]], name: str = "loss") -> Lines:
    lines = tuple(Line(f"{name} {number}", tuple(points)) for number, points in enumerate(series))
    return Lines("loss", "step", lines)


def test_all_lines_share_the_axes() -> None:
    found = chart([(0, 0), (10, 1)], [(5, 3), (20, 4)])
    lines = [shape for shape in found.shapes if shape.tag == "polyline"]
    assert [shape.style for shape in lines] == ["line c0", "line c1"]
    first, second = (
        [tuple(map(float, pair.split(","))) for pair in str(line.attributes["points"]).split()]
        for line in lines
    )
    assert first[0][0] < second[0][0] < first[1][0] < second[1][0]
    assert first[0][1] > first[1][1] > second[0][1] > second[1][1]
    assert found.summary == (
        "loss, step 0 to 20: loss 0 from 0 to 1, lowest 0, highest 1; loss 1 from 3 to 4, lowest 3, highest 4"
    )


def test_the_legend_names_each_line_within_the_width() -> None:
    names = [shape.text for shape in chart([(0, 0), (1, 1)], [(0, 1), (1, 0)]).shapes if shape.tag == "text"]
    assert names[:2] == ["loss 0", "loss 1"]
    wide = chart(*([[(0, 0), (1, 1)]] * 6), name="a rather long name of a loss of the training")
    assert wide.height > chart([(0, 0), (1, 1)]).height
    for shape in wide.shapes:
        for key in ("x", "x1", "x2", "cx"):
            assert 0 <= float(shape.attributes.get(key, 0)) <= wide.width
        for key in ("y", "y1", "y2", "cy"):
            assert 0 <= float(shape.attributes.get(key, 0)) <= wide.height


def test_a_line_that_the_title_names_needs_no_legend() -> None:
    alone = Lines("loss", "step", (Line("loss", ((0, 0), (1, 1))),))
    assert "loss" not in [shape.text for shape in alone.shapes if shape.tag == "text"]


@given(
    st.lists(
        st.tuples(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12)), min_size=2, max_size=20,
        unique_by=lambda point: point[0],
    )
)  # fmt: skip
def test_any_numbers_stay_in_the_box(points: list[tuple[float, float]]) -> None:
    found = chart(sorted(points))
    for shape in found.shapes:
        if shape.tag == "polyline":
            for pair in str(shape.attributes["points"]).split():
                x, y = map(float, pair.split(","))
                assert 0 <= x <= found.width
                assert 0 <= y <= found.height
