"""Whether the data of a run is still what its stages have read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobrelay_runner.volume import inputs
from jobrelay_runner.volume.inputs import changed_since, listings
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import FileDigest, Record
from jobrelay_runner.volume.verify import check_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that has read a folder of classes, and began long after that was put there."""
    folder = tmp_path / "data" / "clothes"
    for name in ("a/1.png", "a/2.png", "b/1.png", ".cache/files.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    run = RunFolder(tmp_path, "a")
    run.path.mkdir(parents=True)
    record = Record(
        run="a", stage="train", status="succeeded", pod="p", config_hash="0" * 64,
        started=(datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        listings=listings(tmp_path, ["data/clothes"]),
        inputs={f"../../data/clothes/a/{n}.png": FileDigest.of(folder / f"a/{n}.png") for n in (1, 2)},
    )  # fmt: skip
    run.record("train").write_text(record.to_json())
    return run


def test_what_is_as_it_was_is_not_hashed_again(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "matches", lambda *_, **__: pytest.fail("it was hashed"))
    (run.root / "data/clothes/.cache/more").write_text("the cache does not count")
    assert changed_since(run) == {}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a/1.png", "another size", "data/clothes/a/1.png"),
        ("a/3.png", "", "data/clothes/ (files were added or removed)"),
        ("b/1.png", None, "data/clothes/ (files were added or removed)"),
        ("a/2.png", None, "data/clothes/a/2.png"),
    ],
)
def test_what_has_changed_is_named(run: RunFolder, name: str, content: str | None, told: str) -> None:
    path = run.root / "data/clothes" / name
    path.write_text(content) if content is not None else path.unlink()

    assert changed_since(run) == {"train": [told]}
    (found,) = (check for check in check_run(run) if check.what == "train")
    assert (found.good, found.found) == (False, f"its inputs have changed since: {told}")


def test_a_file_of_the_same_size_that_was_written_since_is_hashed(run: RunFolder) -> None:
    record = run.record("train")
    text = Record.from_json(record.read_text())
    now = replace(text, started=datetime.now(UTC).isoformat())
    record.write_text(now.to_json())
    assert changed_since(run) == {}
    (run.root / "data/clothes/a/1.png").write_text("a/9.png")
    assert changed_since(run) == {"train": ["data/clothes/a/1.png"]}


def test_a_record_leads_nowhere_else(run: RunFolder) -> None:
    record = Record.from_json(run.record("train").read_text())
    odd = {
        "/dev/zero": FileDigest(sha256="0" * 64, bytes=0),
        "../../../x": FileDigest(sha256="0" * 64, bytes=0),
    }
    listed = {"../..": "0" * 64, "/": "0" * 64, "data/..": "0" * 64}
    odd_one = replace(record, inputs=odd, listings=listed)
    run.record("train").write_text(odd_one.to_json())
    (found,) = (check for check in check_run(run) if check.what == "train")
    assert not found.good
