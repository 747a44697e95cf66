"""`put --local` as its users type it: links, odd names, spellings, and what is said of the copy."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrelay.cli import main as cli
from jobrelay.errors import ApiLost, Exit
from jobrelay.executors.cluster.volume import VolumePod
from jobrelay.manifests import Reader

NFC, NFD = (unicodedata.normalize(form, "Röcke") for form in ("NFC", "NFD"))


class Put:
    """A folder to put, and the volume that it is put on."""

    def __init__(self, root: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.source = root / "source"
        self.source.mkdir()
        self.elsewhere = root / "elsewhere"
        self.volume = root / "volume"
        self.capture = capture
        self.out = self.err = ""

    def write(self, *names: str, content: bytes = b"x", folder: Path | None = None) -> None:
        for name in names:
            path = (folder or self.source) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def link(self, name: str, target: Path | str) -> None:
        (self.source / name).symlink_to(target)

    def run(self, *options: str, expect: int = 0) -> list[str]:
        """Put it as data/mine; returns what is there then."""
        code = cli.main(["put", str(self.source), "mine", "--local", "--volume", str(self.volume), *options])
        self.out, self.err = self.capture.readouterr()
        assert code == expect, self.err
        put = self.volume / "data/mine"
        return sorted(str(path.relative_to(put)) for path in put.rglob("*") if not path.is_dir())


@pytest.fixture
def put(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Put:
    return Put(tmp_path, capsys)


# --- links ---


def test_a_class_that_is_a_link_is_copied_and_the_link_is_named(put: Put) -> None:
    put.write("cat/1.png", "cat/2.png")
    put.write("1.png", "deep/2.png", folder=put.elsewhere)
    put.write("3.png", folder=put.elsewhere.with_name("third"))
    put.link("dog", put.elsewhere)
    put.link("cat/3.png", "../../third/3.png")

    assert put.run() == ["cat/1.png", "cat/2.png", "cat/3.png", "dog/1.png", "dog/deep/2.png"]
    assert not any(path.is_symlink() for path in put.volume.rglob("*"))
    assert put.out == "data/mine\n"
    assert "copied 5 files in 2 classes, 5 bytes\n" in put.err
    assert "followed 2 links, 2 of which lead out of the folder: " in put.err
    assert f"dog: {put.elsewhere}" in put.err
    assert "2 classes: cat 3, dog 2" in put.err


def test_a_folder_that_is_a_link_itself_is_put(put: Put) -> None:
    put.write("a", folder=put.elsewhere)
    put.source.rmdir()
    put.source.symlink_to(put.elsewhere)

    assert put.run() == ["a"]
    assert "link" not in put.err


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        ("loop", ".", "which it lies in itself"),
        ("cat/loop", "..", "which it lies in itself"),
        ("above", "..", "which it lies in itself"),
        ("everything", "/", "which it lies in itself"),
        ("self", "self", "a link to self"),
        ("gone", "nowhere", "a link to nowhere: No such file or directory"),
        ("again", "cat", "a link to cat, which is copied already"),
        ("again.png", "cat/1.png", "a link to cat/1.png, which is copied already"),
        ("null", "/dev/null", "a link to /dev/null: it is neither a file nor a folder"),
    ],
)
def test_a_link_that_cannot_be_followed_is_named_and_nothing_is_copied(
    put: Put, name: str, target: str, reason: str
) -> None:
    put.write("cat/1.png")
    put.link(name, target)

    assert put.run(expect=Exit.BAD_INPUT) == []
    assert f"    {name}: " in put.err
    assert reason in put.err
    assert "--skip-odd-names" in put.err
    assert put.run("--skip-odd-names") == ["cat/1.png"]
    assert f"left out 1 name: {name}: " in put.err


def test_links_to_each_other_end(put: Put) -> None:
    put.write("a/1", "b/2")
    put.link("a/b", "../b")
    put.link("b/a", "../a")

    put.run(expect=Exit.BAD_INPUT)
    assert "a/b: a link to b, which is copied already" in put.err
    assert "b/a: a link to a, which is copied already" in put.err


def test_what_lies_elsewhere_twice_is_copied_once(put: Put) -> None:
    put.write("deep/1", folder=put.elsewhere)
    put.link("all", put.elsewhere)
    put.link("some", put.elsewhere / "deep")

    put.run(expect=Exit.BAD_INPUT)
    assert "some: a link to all/deep, which is copied already" in put.err


def test_a_folder_elsewhere_does_not_lead_on(put: Put, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    put.write("1", folder=put.elsewhere)
    (put.elsewhere / "2").symlink_to("1")
    (put.elsewhere / "secret").symlink_to(tmp_path / "secret")
    put.link("dog", put.elsewhere)

    put.run(expect=Exit.BAD_INPUT)
    assert f"dog/secret: a link in {put.elsewhere}, which a link leads to, that leads on" in put.err
    assert put.run("--skip-odd-names") == ["dog/1"]


# --- other files ---


def test_files_that_end_in_partial_are_the_users_own(put: Put) -> None:
    put.write("model.partial", "half.partial/inner", ".hidden.partial", ".hidden")

    assert put.run() == [".hidden", ".hidden.partial", "half.partial/inner", "model.partial"]
    assert "copied 4 files, 4 bytes" in put.err


def test_what_is_no_file_and_what_is_empty_is_named(put: Put) -> None:
    put.write("a")
    os.mkfifo(put.source / "pipe")
    (put.source / "cow").mkdir()

    put.run(expect=Exit.BAD_INPUT)
    assert "pipe: it is neither a file nor a folder" in put.err
    put.run("--skip-odd-names")
    assert "1 empty folder not copied: cow" in put.err


def test_a_file_that_may_not_be_read_is_named(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put.write("a", "b")
    (put.source / "b").chmod(0)
    access = os.access  # which tells root that it may
    monkeypatch.setattr(
        os, "access", lambda path, mode: access(path, mode) and Path(path).stat().st_mode & 0o400
    )

    put.run(expect=Exit.BAD_INPUT)
    assert "b: it cannot be read: Permission denied" in put.err


def test_a_folder_that_cannot_be_listed_is_named(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put.write("a", "closed/c")
    scan = os.scandir

    def scandir(path: Path) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    put.run(expect=Exit.BAD_INPUT)
    assert "closed: the folder cannot be listed: Permission denied" in put.err


# --- names ---


def test_odd_names_are_all_named(put: Put) -> None:
    odd = {
        "Icon\r": "a control character",
        "a\\b": "a backslash",
        "L\udce4tin": "bytes that are not UTF-8",
        "sub/tab\there": "a control character",
    }
    put.write("fine", ".jobrelay-proofs.json", *odd)

    assert put.run(expect=Exit.BAD_INPUT) == []
    assert "5 names in" in put.err
    for why in (*odd.values(), "its name is reserved"):
        assert why in put.err
    assert put.run("--skip-odd-names") == ["fine"]
    assert not any(ord(character) < 32 for character in put.err.replace("\n", ""))


def test_more_odd_names_than_anybody_reads_are_counted(put: Put) -> None:
    put.write(*(f"{number}\r" for number in range(50)))

    put.run(expect=Exit.BAD_INPUT)
    assert put.err.count("control character") == 20
    assert "and 30 more" in put.err
    put.run("--skip-odd-names", expect=Exit.BAD_INPUT)
    assert "holds no files" in put.err


def test_both_spellings_of_a_name_are_one_class(put: Put) -> None:
    put.write(f"{NFC}/1.png", "dress/1.png")
    put.write(f"{NFD}/2.png", content=b"other")

    assert put.run() == [f"{NFC}/1.png", f"{NFC}/2.png", "dress/1.png"]
    assert f"2 classes: {NFC} 2, dress 1" in put.err


def test_files_whose_names_become_the_same_are_both_kept_unless_they_are_the_same(put: Put) -> None:
    put.write(f"{NFC}/1.png", f"{NFC}/2.png", f"{NFC}/1-2.png")
    put.write(f"{NFD}/1.png", content=b"other")
    put.write(f"{NFD}/2.png")

    assert put.run() == [f"{NFC}/1-2.png", f"{NFC}/1-3.png", f"{NFC}/1.png", f"{NFC}/2.png"]
    assert (put.volume / f"data/mine/{NFC}/1.png").read_bytes() == b"x"
    assert (put.volume / f"data/mine/{NFC}/1-3.png").read_bytes() == b"other"
    assert "1 file renamed" in put.err
    assert "1 file dropped" in put.err


# --- what is there already ---


def test_data_is_replaced_as_a_whole_where_that_is_asked_for(put: Put) -> None:
    put.write("a")
    put.run()
    (put.source / "a").rename(put.source / "b")

    assert put.run(expect=Exit.BAD_INPUT) == ["a"]
    assert f"put {put.source} mine --local --volume {put.volume} --replace\n" in put.err
    assert put.run("--replace") == ["b"]
    assert [path.name for path in (put.volume / "data").iterdir()] == ["mine"]


def test_what_a_training_would_say_is_said_at_once(put: Put) -> None:
    put.write("train/cat/1.png", "train/dog/1.png", "rest/cat/2.png")

    put.run()
    assert "as an imagefolder it would be refused: data/mine looks divided" in put.err


def test_a_file_that_is_lost_while_it_is_copied_to_a_cluster_is_named(tmp_path: Path) -> None:
    class CutApi:
        """Every chunk that comes is read; when no more come the connection is gone, as `_feed` leaves it."""

        def execute(self, path: str, command: list[str], stdin: Iterator[bytes]) -> CutApi:
            with contextlib.suppress(OSError):
                list(stdin)
            return self

        def finish(self) -> int:
            raise ApiLost("the connection to the volume was cut")

    pod = VolumePod(CutApi(), "team", "jobrelay", Reader("jobrelay:0.1.0"), lambda objects: None)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        pod.receive({"a.png": tmp_path / "gone.png"}, "data/mine")
