"""The code of a pipeline in the workspace, and the order in which a run's stages used each other's files."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest

from jobrelay_runner.command import code
from jobrelay_runner.command.workspace import has_code, state_of
from jobrelay_runner.errors import BadInput
from jobrelay_runner.volume.files import make_folder
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import FileDigest, LogDigest, Record
from jobrelay_runner.volume.records import files_of, pipeline_of, read_records, redone_since
from tests.support.commands import archive_of, link


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with an empty workspace."""
    folder = RunFolder(tmp_path / "volume", "r")
    folder.path.mkdir(parents=True)
    make_folder(folder.workspace)
    return folder


def unpack(folder: RunFolder, archive: bytes) -> list[str]:
    return code.unpack(folder, archive, hashlib.sha256(archive).hexdigest())


def test_files_links_and_executable_bits(folder: RunFolder) -> None:
    archive = archive_of(
        ("train.py", b"1", 0o644), ("bin/run", b"2", 0o755), ("deep/er/x", b"3", 0o600),
        link("latest", "deep/er"),
    )  # fmt: skip
    assert unpack(folder, archive) == [
        "workspace/train.py",
        "workspace/bin/run",
        "workspace/deep/er/x",
        "workspace/latest",
    ]
    assert (folder.workspace / "bin/run").stat().st_mode & 0o777 == 0o755
    assert (folder.workspace / "train.py").stat().st_mode & 0o777 == 0o644
    assert (folder.workspace / "latest/x").read_bytes() == b"3"
    assert has_code(folder, hashlib.sha256(archive).hexdigest())
    assert not has_code(folder, "0" * 64)


def test_other_code_replaces_files_and_links(folder: RunFolder) -> None:
    unpack(folder, archive_of(("x", b"1", 0o644), link("l", "x")))
    (folder.workspace / "result").write_text("kept")
    unpack(folder, archive_of(("x", b"2", 0o644), ("l", b"3", 0o644)))
    assert (folder.workspace / "x").read_bytes() == b"2"
    assert (folder.workspace / "l").read_bytes() == b"3"
    assert (folder.workspace / "result").read_text() == "kept"


@pytest.mark.parametrize(
    "archive",
    [
        archive_of(("../x", b"1", 0o644)),
        archive_of(("a/../../x", b"1", 0o644)),
        archive_of(("/tmp/x", b"1", 0o644)),
        archive_of(link("out", ".."), ("out/x", b"1", 0o644)),
        archive_of(link("out", "/"), ("out/x", b"1", 0o644)),
        archive_of(link("a", "b"), link("b", ".."), ("a/x", b"1", 0o644)),
        archive_of(link("hard", "/etc/passwd", tarfile.LNKTYPE)),
        archive_of(link("device", "", tarfile.CHRTYPE)),
        b"no archive",
        archive_of(("x", b"1" * 5000, 0o644))[:-20],
    ],
    ids=[
        "up",
        "up-inside",
        "absolute",
        "link-up",
        "link-root",
        "links",
        "hard-link",
        "device",
        "text",
        "torn",
    ],
)
def test_what_leads_out_or_is_damaged_is_refused(folder: RunFolder, archive: bytes) -> None:
    with pytest.raises(BadInput, match="the code's archive"):
        unpack(folder, archive)
    assert sorted(path.name for path in folder.root.parent.rglob("x")) == []
    assert not folder.code.exists()


def test_another_archive_than_the_pipelines_is_refused(folder: RunFolder) -> None:
    with pytest.raises(BadInput, match="its SHA-256 is not"):
        code.unpack(folder, archive_of(("x", b"1", 0o644)), "0" * 64)
    assert list(folder.workspace.iterdir()) == []


def test_what_a_stage_left_as_a_link_is_not_followed(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (folder.workspace / "lib").symlink_to(tmp_path / "other")
    with pytest.raises(BadInput, match="leads out of the workspace: lib/x"):
        unpack(folder, archive_of(("lib/x", b"1", 0o644)))
    assert list((tmp_path / "other").iterdir()) == []


def test_only_regular_files_count(folder: RunFolder) -> None:
    (folder.workspace / "x").write_text("12")
    (folder.workspace / "link").symlink_to("x")
    (folder.workspace / ".git").mkdir()
    (folder.workspace / ".git/y").touch()
    (folder.workspace / ".hidden").touch()
    state = state_of(folder)
    assert sorted(state) == ["workspace/.hidden", "workspace/x"]
    assert state["workspace/x"][0] == 2


# --- records -------------------------------------------------------------------------------------


def record(stage: str, number: int = 1, *, after: dict[str, int] | None = None, **outputs: str) -> Record:
    """The record of an attempt, which used these attempts of earlier stages. outputs: contents."""
    digests = {
        name: FileDigest(sha256=hashlib.sha256(text.encode()).hexdigest(), bytes=len(text))
        for name, text in outputs.items()
    }
    log = LogDigest(file=f"logs/{stage}-{number}.log", lines=0, sha256="0" * 64, bytes=0)
    return Record(
        run="r", stage=stage, status="succeeded", pod="p", config_hash="0" * 64, started="2026-11-28",
        pipeline=["a", "b", "c"], outputs=digests, log=log,
        after={name: f"logs/{name}-{count}.log" for name, count in (after or {}).items()},
    )  # fmt: skip


def test_a_file_belongs_to_the_last_stage_that_wrote_it() -> None:
    found = {
        "a": record("a", x="1", y="1"),
        "b": record("b", x="2", after={"a": 1}),
        "c": record("c", after={"a": 1, "b": 1}),
    }
    assert [sorted(files_of(found, stage)) for stage in "abc"] == [["y"], ["x"], []]
    assert [redone_since(found[stage], found) for stage in "abc"] == [[], [], []]


def test_a_stage_that_ran_again_wrote_after_those_behind_it() -> None:
    found = {"a": record("a", 2, x="3"), "b": record("b", x="2", after={"a": 1})}
    assert [sorted(files_of(found, stage)) for stage in "ab"] == [["x"], []]
    assert redone_since(found["b"], found) == ["a"]


def test_records_are_known_by_logs_or_by_other_records(folder: RunFolder) -> None:
    folder.logs.mkdir()
    (folder.logs / "b-p.log").touch()
    folder.record("b").write_text(record("b").to_json())
    folder.record("a").write_text("nonsense")
    (folder.path / "model.json").write_text("{}")
    found = read_records(folder.path, root=folder.root)
    assert list(found) == ["a", "b"]
    assert "is not a readable record" in str(found["a"])
    assert pipeline_of(found) == ["a", "b", "c"]


def test_without_logs_only_readable_records_count(folder: RunFolder) -> None:
    folder.record("a").write_text(record("a").to_json())
    (folder.path / "predictions.json").write_text("[]")
    assert list(read_records(folder.path, root=folder.root)) == ["a"]


def test_a_fetched_folder_is_read_as_one_on_the_volume(folder: RunFolder) -> None:
    folder.record("a").write_text(record("a").to_json())
    assert list(read_records(folder.path, root=folder.path)) == ["a"]


def test_the_record_of_another_stage_is_named(folder: RunFolder) -> None:
    folder.record("a").write_text(record("a").to_json())
    folder.record("b").write_text(record("a").to_json())
    assert "is the record of another stage: a" in str(read_records(folder.path, root=folder.root)["b"])


@pytest.mark.parametrize("name", ["../x", "A", "x" * 100, ""])
def test_a_pipeline_has_names_of_stages_alone(folder: RunFolder, name: str) -> None:
    tree = record("a").to_dict()
    with pytest.raises(ValueError, match="stage"):
        Record.from_dict({**tree, "pipeline": ["a", name]})
