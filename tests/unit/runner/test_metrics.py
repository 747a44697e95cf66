"""The metrics of a stage from the file that it wrote: one JSON object, or the last of many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobrelay_runner.command.metrics import MOST_METRICS, read_metrics
from jobrelay_runner.command.workspace import changes_since, state_of
from jobrelay_runner.volume.files import make_folder
from jobrelay_runner.volume.paths import RunFolder


def metrics(folder: Path, content: str, name: str = "history.jsonl") -> dict[str, float]:
    (folder / name).write_text(content)
    return read_metrics(folder / name, folder)


@pytest.mark.parametrize("name", ["history.jsonl", "log.NDJSON", "metrics.json", "log"])
@pytest.mark.parametrize(
    "content",
    [
        '{"loss": 2}\n{"loss": 1, "val": {"acc": 0.5}}\n',
        '{"loss": 2}\n{"loss": 1, "val": {"acc": 0.5}}',
        '{"loss": 2}\r\n{"loss": 1, "val": {"acc": 0.5}, "best": true, "name": "x"}\r\n\r\n',
        '{"loss": 2}\n{"loss": 1, "val": {"acc": 0.5}}\n{"loss": 0.',
    ],
    ids=["lines", "no-newline", "windows", "torn"],
)
def test_of_json_lines_the_last_counts(tmp_path: Path, name: str, content: str) -> None:
    assert metrics(tmp_path, content, name) == {"loss": 1.0, "val.acc": 0.5}


def test_a_single_line_is_a_history_too(tmp_path: Path) -> None:
    assert metrics(tmp_path, '{"loss": 2}\n') == {"loss": 2.0}


@pytest.mark.parametrize("content", ["", "\n", "loss 2\nloss 1\n", "[1]\n[2]\n", '{"a": 1}\nx\ny\n'])
def test_what_does_not_end_with_an_object_has_no_metrics(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        metrics(tmp_path, content)


def test_an_ordinary_file_is_not_taken_for_lines(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expecting"):
        metrics(tmp_path, '{"a": 1,\n', "metrics.json")


def test_a_history_may_be_long(tmp_path: Path) -> None:
    lines = (json.dumps({"step": step, "loss": 1 / (step + 1), "text": "x" * 200}) for step in range(20_000))
    assert metrics(tmp_path, "\n".join(lines))["step"] == 19_999


def test_a_line_may_have_many_numbers(tmp_path: Path) -> None:
    found = metrics(tmp_path, json.dumps({f"m{number}": number for number in range(1000)}))
    assert len(found) == MOST_METRICS


def test_a_changed_file_is_told_from_a_new_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "r")
    folder.path.mkdir(parents=True)
    make_folder(folder.workspace)
    (folder.workspace / "history.jsonl").write_text("1\n")
    (folder.workspace / "old").write_text("1\n")
    before = state_of(folder)
    (folder.workspace / "history.jsonl").write_text("1\n2\n")
    (folder.workspace / "new").write_text("1\n")
    (folder.workspace / "old").unlink()
    changes = changes_since(before, folder)
    assert sorted(changes.written) == ["workspace/history.jsonl", "workspace/new"]
    assert changes.changed == ["workspace/history.jsonl"]
    assert changes.removed == ["workspace/old"]
