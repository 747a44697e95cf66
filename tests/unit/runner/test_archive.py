"""Files travel whole or not at all, and never to where they must not be written (row 57)."""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import tarfile
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrelay_runner.volume import archive, folders
from jobrelay_runner.volume.archive import PROOFS_NAME, ArchiveError, Limits
from jobrelay_train.data.images.image_files import list_files

Files = dict[str, bytes]

_part = st.text(
    st.characters(
        exclude_categories=["Cc", "Cs"],
        exclude_characters="/\\\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    ),
    min_size=1,
    max_size=12,
)
_name = _part.filter(
    lambda name: name not in (".", "..") and not (name.startswith(".") and name.endswith(".partial"))
)
_path = st.lists(_name, min_size=1, max_size=3).map("/".join)
_content = st.binary(max_size=2000) | st.just(b"") | st.integers(0, 3).map(lambda n: b"\0" * 512 * n)


def _no_file_is_a_folder(files: Files) -> bool:
    return not any(b.startswith(f"{a}/") for a in files for b in files)


_files = st.dictionaries(_path, _content, max_size=6).filter(_no_file_is_a_folder)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one example."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def write(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    folder.mkdir(exist_ok=True)
    return folder


def read(folder: Path) -> Files:
    """All there is below a folder; what is no regular file counts as such."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b"no file"
        for path in folder.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


def packed(files: Files) -> bytes:
    with scratch() as folder:
        return b"".join(archive.packed(write(folder / "source", files)))


def digest(content: bytes) -> dict[str, Any]:
    return {"sha256": sha256(content).hexdigest(), "bytes": len(content)}


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> Callable[..., None]:
    """Adds a member to a tar file."""

    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.type, info.linkname = len(content), kind, link
        tar.addfile(info, io.BytesIO(content))

    return add


def digests(*names: str, content: bytes = b"x") -> Callable[..., None]:
    return member(PROOFS_NAME, json.dumps({name: digest(content) for name in names}).encode())


def tar(*members: Callable[..., None], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as file:
        for add in members:
            add(file)
    return out.getvalue()


# --- what is sent arrives ------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(_files, st.lists(st.integers(1, 3000), min_size=1, max_size=4))
def test_what_is_packed_is_unpacked(files: Files, sizes: list[int]) -> None:
    data = io.BytesIO(packed(files))
    chunks = iter(lambda: data.read(sizes[data.tell() % len(sizes)]), b"")
    with scratch() as folder:
        found = archive.unpack(archive.stream_of(chunks), folder / "new")
        assert read(folder / "new") == files
        assert {name: value.to_dict() for name, value in found.items()} == {
            name: digest(content) for name, content in files.items()
        }
        assert [path.name for path in folder.iterdir()] == ["new"]


@settings(deadline=None, max_examples=20)
@given(_files, _files)
def test_what_is_received_lies_beside_the_folder_until_it_is_moved(there: Files, sent: Files) -> None:
    with scratch() as folder:
        home = write(folder / "home", there)
        with archive.received(io.BytesIO(packed(sent)), home) as (incoming, digests):
            assert read(incoming) == sent
            assert set(digests) == set(sent)
        assert read(home) == there
        assert [path.name for path in folder.iterdir()] == ["home"]


def test_a_folder_is_readable_for_others(tmp_path: Path) -> None:
    archive.unpack(io.BytesIO(packed({"a": b"x"})), tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755


def test_only_finished_regular_files_are_packed(tmp_path: Path) -> None:
    files = {"a": b"x", "mine.partial": b"whole", ".b.1.partial": b"half", "checkpoints/1": b"big"}
    source = write(tmp_path / "source", files)
    write(source, {".c.partial/inner": b"half"})
    (source / "link").symlink_to("/etc/passwd")
    (source / "linked-folder").symlink_to("/etc")
    os.mkfifo(source / "fifo")
    stream = archive.packed(source, lambda name: name == "checkpoints")
    archive.unpack(archive.stream_of(stream), tmp_path / "new")
    assert read(tmp_path / "new") == {"a": b"x", "mine.partial": b"whole"}


def test_files_are_packed_under_the_names_that_they_are_given(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a": b"x", "b": b"y"})
    (source / "link").symlink_to("a")
    stream = archive.packed_files({"c/d": source / "a", ".e.partial": source / "b"})
    archive.unpack(archive.stream_of(stream), tmp_path / "new")
    assert read(tmp_path / "new") == {"c/d": b"x", ".e.partial": b"y"}
    with pytest.raises(OSError, match="symbolic link"):
        list(archive.packed_files({"c": source / "link"}))


@pytest.fixture(params=["exchange", "two renames"])
def renaming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the file system lets one folder take another's place."""
    if request.param == "two renames":
        monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    return str(request.param)


@pytest.mark.usefixtures("renaming")
def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path / "new", {"old": b"1", "both": b"1"})
    archive.unpack(io.BytesIO(packed({"both": b"2"})), tmp_path / "new", replace=True)
    assert read(tmp_path) == {"new/both": b"2"}
    archive.unpack(io.BytesIO(packed({"a": b"x"})), tmp_path / "other", replace=True)
    assert sorted(read(tmp_path)) == ["new/both", "other/a"]


@pytest.mark.usefixtures("renaming")
def test_a_stream_that_was_cut_replaces_nothing(tmp_path: Path) -> None:
    write(tmp_path / "new", {"mine": b"x"})
    with pytest.raises(ArchiveError):
        archive.unpack(io.BytesIO(DATA[: END // 2]), tmp_path / "new", replace=True)
    assert read(tmp_path) == {"new/mine": b"x"}


@pytest.mark.parametrize("step", range(3))
def test_one_that_is_killed_between_the_renames_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    old, incoming = write(tmp_path / "new", {"a": b"old"}), write(tmp_path / "incoming", {"a": b"new"})
    steps = iter(range(3))
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if next(steps, 3) >= step:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            folders.replace(incoming, old)
    folders.restore(old)
    assert read(old) == {"a": b"new" if step == 2 else b"old"}
    assert not list(tmp_path.glob(".*"))


def test_a_folder_is_removed_and_its_name_is_free(tmp_path: Path) -> None:
    write(tmp_path / "new", {"a/b": b"x"})
    (tmp_path / "link").symlink_to("new")
    with pytest.raises(OSError, match="symbolic link"):
        folders.remove(tmp_path / "link")
    folders.remove(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
    with pytest.raises(FileNotFoundError):
        folders.remove(tmp_path / "new")


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "new", {"mine": b"x"})
    with pytest.raises(FileExistsError, match="already exists"):
        archive.unpack(io.BytesIO(packed({"a": b"y"})), tmp_path / "new")
    assert read(tmp_path) == {"new/mine": b"x"}


def test_a_folder_that_cannot_be_read_is_an_error_of_the_sender(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a": b"x"})

    def vanish(name: str) -> bool:
        (source / "a").unlink(missing_ok=True)
        return False

    with pytest.raises(FileNotFoundError):
        list(archive.packed(source, vanish))


def test_a_reader_that_goes_away_ends_the_sender(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a": os.urandom(2**20)})
    chunks = archive.packed(source)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]


def test_what_a_killed_one_has_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    left = write(tmp_path / ".new.abcd.unpack.partial", {"half": b"x"})
    other = write(tmp_path / ".other.abcd.unpack.partial", {"half": b"x"})
    chunks = iter([packed({"a": b"x"})[:512]])

    def during() -> Iterator[bytes]:
        assert not left.exists()
        (used,) = tmp_path.glob(".new.*.unpack.partial")
        with pytest.raises(ArchiveError):
            archive.unpack(io.BytesIO(b""), tmp_path / "new")
        assert used.exists()
        yield from chunks

    with pytest.raises(ArchiveError):
        archive.unpack(archive.stream_of(during()), tmp_path / "new")
    assert list(tmp_path.iterdir()) == [other]


# --- what was cut or changed ---------------------------------------------------------------------

FILES = {"model.pt": bytes(range(256)) * 5, "logs/train.log": b"line\n", "empty": b""}
DATA = packed(FILES)
#: Behind this there are only the zeros that fill the last block.
END = len(DATA.rstrip(b"\0"))


def _received(stream: io.BytesIO, folder: Path, limits: Limits) -> None:
    with archive.received(stream, folder, limits):
        raise AssertionError("it was believed")


def refused(data: bytes, limits: Limits = Limits()) -> str:  # noqa: B008
    """The error, after looking that nothing was written, neither here nor elsewhere."""
    with scratch() as folder:
        write(folder, {"home/mine": b"x", "victim": b"untouched"})
        for target, take in (("new", archive.unpack), ("home", _received)):
            with pytest.raises(ArchiveError) as error:
                take(io.BytesIO(data), folder / target, limits)
            assert read(folder) == {"home/mine": b"x", "victim": b"untouched"}
            assert {path.name for path in folder.iterdir()} == {"home", "victim"}
    return str(error.value)


@pytest.mark.parametrize("length", [*range(0, END, 97), 511, 512, 513, 1024, END - 1])
def test_a_cut_stream_leaves_nothing(length: int) -> None:
    refused(DATA[:length])


@settings(deadline=None, max_examples=150)
@given(st.integers(0, END - 1), st.integers(1, 255))
def test_a_changed_byte_never_gives_another_file(place: int, change: int) -> None:
    data = bytearray(DATA)
    data[place] ^= change
    with scratch() as folder:
        try:
            archive.unpack(io.BytesIO(bytes(data)), folder / "new")
        except ArchiveError:
            assert list(folder.iterdir()) == []
        else:  # a time of change, an owner: nothing that we keep
            assert read(folder / "new") == FILES


@settings(deadline=None)
@given(st.binary(max_size=4000))
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    refused(data)


# --- what wants to do harm -----------------------------------------------------------------------


def sparse() -> bytes:
    """1 KiB that says it is 1 GiB of zeros."""
    pax = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "a",
        "GNU.sparse.size": str(2**30),
    }
    pax |= {"GNU.sparse.map": f"0,0,{2**30},0", "GNU.sparse.numblocks": "1"}
    return tar(extended("a", pax), digests("a"))


def extended(name: str, pax: dict[str, str], content: bytes = b"x") -> Callable[..., None]:
    def add(file: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.pax_headers = len(content), pax
        file.addfile(info, io.BytesIO(content))

    return add


def header(kind: bytes, size: int, content: bytes = b"") -> bytes:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT) + content + b"\0" * (-len(content) % 512)


def folded(depth: int) -> bytes:
    """Headers of headers of headers …"""
    record = b"11 path=aa\n"
    return header(tarfile.XHDTYPE, len(record), record) * depth + tar(member("b"))


HOSTILE = {
    "parent": tar(member("../victim", b"x"), digests("../victim")),
    "parent-inside": tar(member("a/../../victim", b"x"), digests("a/../../victim")),
    "absolute": tar(member("/tmp/victim", b"x"), digests("/tmp/victim")),
    "itself": tar(member(".", b"x"), digests(".")),
    "empty-name": tar(member("", b"x"), digests("")),
    "symlink": tar(member("a", kind=tarfile.SYMTYPE, link="../victim"), digests()),
    "through-a-symlink": tar(
        member("a", kind=tarfile.SYMTYPE, link=".."), member("a/victim", b"x"), digests("a/victim")
    ),
    "hardlink": tar(member("a", kind=tarfile.LNKTYPE, link="../victim"), digests()),
    "hardlink-to-a-member": tar(
        member("a", b"x"), member("b", kind=tarfile.LNKTYPE, link="a"), digests("a", "b")
    ),
    "folder": tar(member("a", kind=tarfile.DIRTYPE), digests()),
    "fifo": tar(member("a", kind=tarfile.FIFOTYPE), digests()),
    "character-device": tar(member("a", kind=tarfile.CHRTYPE), digests()),
    "block-device": tar(member("a", kind=tarfile.BLKTYPE), digests()),
    "unknown-type": tar(member("a", kind=b"Z", link="../victim"), digests()),
    "twice": tar(member("a", b"x"), member("a", b"x"), digests("a")),
    "twice-spelled-differently": tar(member("a", b"x"), member("./a", b"x"), digests("a", "./a")),
    "file-as-folder": tar(member("a", b"x"), member("a/b", b"x"), digests("a", "a/b")),
    "file-as-folder-deep": tar(member("a", b"x"), member("a/b/c", b"x"), digests("a", "a/b/c")),
    "folder-as-file": tar(member("a/b", b"x"), member("a", b"x"), digests("a", "a/b")),
    "newline": tar(member("a\nb", b"x"), digests("a\nb")),
    "escape": tar(member("\x1b[2J", b"x"), digests("\x1b[2J")),
    "nul": tar(extended("a", {"path": "a\0b"}), digests("a\0b")),
    "backslash": tar(member("..\\victim", b"x"), digests("..\\victim")),
    "not-utf-8": tar(member("a\udcff", b"x"), digests("a\udcff")),
    "long-name": tar(member("a" * 1025, b"x"), digests("a" * 1025)),
    "long-part": tar(member("a" * 300, b"x"), digests("a" * 300)),
    "no-proofs": tar(member("a", b"x")),
    "empty-tar": tar(),
    "proof-of-another": tar(member("a", b"x"), digests("b")),
    "proof-too-many": tar(member("a", b"x"), digests("a", "b")),
    "proof-too-few": tar(member("a", b"x"), member("b", b"x"), digests("a")),
    "proof-wrong": tar(member("a", b"x"), digests("a", content=b"y")),
    "proofs-not-json": tar(member(PROOFS_NAME, b"{")),
    "proofs-not-utf-8": tar(member(PROOFS_NAME, b'{"\xff": 1}')),
    "proofs-a-list": tar(member(PROOFS_NAME, b"[]")),
    "proofs-nested": tar(member(PROOFS_NAME, b"[" * 7000)),
    "proofs-a-huge-number": tar(member(PROOFS_NAME, b"9" * 5000)),
    "proofs-huge": tar(member(PROOFS_NAME, b'{"a": "' + b"x" * 2**20 + b'"}')),
    "proofs-a-link": tar(member(PROOFS_NAME, kind=tarfile.SYMTYPE, link="/etc/passwd")),
    "after-the-end": tar(member("a", b"x"), digests("a"), member("b", b"x")),
    "proofs-twice": tar(member("a", b"x"), digests("a"), digests("a")),
    "sparse": sparse(),
    "negative-size": tar(extended("a", {"size": "-1"}), digests("a")),
    "huge-size": tar(extended("a", {"size": "9" * 30}), digests("a")),
    "huge-number": tar(extended("a", {"size": "9" * 5000}), digests("a")),
    "huge-header": header(tarfile.XHDTYPE, 2**33, b"x" * 1024),
    "huge-long-name": header(tarfile.GNUTYPE_LONGNAME, 2**33, b"x" * 1024),
    "headers-of-headers": folded(3000),
    "compressed": b"\x1f\x8b\x08" + b"\0" * 1024,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_row_57_a_hostile_archive_is_refused(data: bytes) -> None:
    said = refused(data)
    assert said
    assert said.isprintable()


def test_a_refusal_takes_little_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo(PROOFS_NAME)
    info.size = 2**33
    tracemalloc.start()
    try:
        for head in (HOSTILE["huge-header"], HOSTILE["huge-long-name"], info.tobuf(tarfile.GNU_FORMAT)):
            endless = itertools.chain([head], itertools.repeat(b"x" * 2**20, 64))
            with pytest.raises(ArchiveError):
                archive.unpack(archive.stream_of(endless), tmp_path / "new")
        refused(HOSTILE["sparse"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20


def test_too_many_files() -> None:
    assert "more than 2 files" in refused(packed({"a": b"", "b": b"", "c": b""}), Limits(files=2))


def test_too_many_bytes() -> None:
    assert "more than" in refused(packed({"a": b"x" * 600, "b": b"x" * 600}), Limits(bytes=1000))


def test_exactly_as_many_as_allowed(tmp_path: Path) -> None:
    data = packed({"a": b"x", "b": b"y"})
    assert len(archive.unpack(io.BytesIO(data), tmp_path / "new", Limits(files=2))) == 2


def test_files_that_are_removed_while_they_come_are_missed(tmp_path: Path) -> None:
    data = packed({"a": b"x", "b": bytes(50_000)})

    def during() -> Iterator[bytes]:
        yield data[:30_000]
        (here,) = tmp_path.glob(".new.*.unpack.partial/a")
        here.unlink()
        yield data[30_000:]

    with pytest.raises(ArchiveError, match="1 file disappeared in the meantime"):
        archive.unpack(archive.stream_of(during()), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_bytes_behind_the_end_are_not_read(tmp_path: Path) -> None:
    archive.unpack(io.BytesIO(packed({"a": b"x"}) + packed({"b": b"y"})), tmp_path / "new")
    assert read(tmp_path / "new") == {"a": b"x"}


@given(st.text(max_size=40) | _path)
def test_a_safe_name_stays_below(name: str) -> None:
    try:
        path = archive.safe_name(name)
    except ArchiveError:
        return
    joined = Path("/root/below") / path
    assert Path("/root/below") in joined.parents
    assert ".." not in joined.parts
    assert name.isprintable() or not any(ord(c) < 0x20 or c == "\x7f" for c in name)
    name.encode()


@pytest.mark.parametrize("list_all", [lambda folder: b"".join(archive.packed(folder)), list_files])
def test_a_folder_that_may_not_be_looked_into_is_not_left_out(
    list_all: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "file").touch()
    scan = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="closed"):
        list_all(tmp_path)


@pytest.mark.parametrize("turn", "\u202a\u202e\u2066\u2069")
def test_a_name_that_turns_the_direction_of_writing_is_not_written(turn: str) -> None:
    assert "turns the direction of writing" in refused(tar(member(f"results/{turn}gnp.exe", b"x")))
