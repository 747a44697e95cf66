"""Reading files that somebody else may have put there (jobrelay_runner.volume.safe_read)."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from jobrelay_runner.volume.safe_read import (
    TooLarge,
    UnsafeFile,
    open_regular,
    read_bytes,
    read_named,
    read_text,
)

KILOBYTE = 1024


def test_reads_a_regular_file_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    path.parent.mkdir()
    path.write_bytes(b"x" * KILOBYTE)
    assert read_bytes(path, KILOBYTE) == b"x" * KILOBYTE
    assert read_text(path, KILOBYTE, root=tmp_path) == "x" * KILOBYTE
    with open_regular(path, root=tmp_path) as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"xxx"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_what_is_read_counts_not_the_size_that_is_reported(tmp_path: Path) -> None:
    status = Path("/proc/self/status")
    assert status.stat().st_size == 0
    assert b"Name:" in read_bytes(status, 64 * KILOBYTE)
    with pytest.raises(TooLarge, match=f"{status} is larger than 10 bytes"):
        read_bytes(status, 10)


def test_a_sparse_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TooLarge, match=r"sparse is larger than 1,024 bytes"):
        read_bytes(path, KILOBYTE)


@pytest.mark.parametrize("below", [True, False])
def test_what_is_no_regular_file_is_named_for_what_it_is(tmp_path: Path, below: bool) -> None:
    root = tmp_path if below else None
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        kinds = {
            "fifo": "is a FIFO", "folder": "is a directory", "link": "is a symbolic link",
            "dangling": "is a symbolic link", "socket": "is a socket",
        }  # fmt: skip
        for name, kind in kinds.items():
            with pytest.raises(UnsafeFile) as refused:
                read_bytes(tmp_path / name, KILOBYTE, root=root)
            assert str(refused.value) == f"{tmp_path / name} {kind}"
    with pytest.raises(UnsafeFile, match="/dev/zero is a device"):
        read_bytes(Path("/dev/zero"), KILOBYTE)


def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "logs").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    for name in ("/dev/zero", "../secret", "logs/../../secret", "/etc/passwd"):
        with pytest.raises(UnsafeFile, match=f"is not below {folder}"):
            read_bytes(folder / name, KILOBYTE, root=folder)
    for name in ("", ".", "logs"):
        with pytest.raises(UnsafeFile, match="is a directory"):
            read_bytes(folder / name, KILOBYTE, root=folder)


def test_a_link_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "train.log").write_text("secret")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "logs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFile, match=f"is behind {folder / 'logs'}, which is a symbolic link"):
        read_bytes(folder / "logs" / "train.log", KILOBYTE, root=folder)


def test_the_folder_itself_may_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "train.json").write_text("{}")
    (tmp_path / "volume").symlink_to("real")
    assert read_text(tmp_path / "volume" / "train.json", KILOBYTE, root=tmp_path / "volume") == "{}"


def test_an_ordinary_error_names_the_whole_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, kind in (
        ("gone", FileNotFoundError), ("no/way", FileNotFoundError), ("file/x", NotADirectoryError),
    ):  # fmt: skip
        with pytest.raises(kind) as failed:
            read_bytes(tmp_path / name, KILOBYTE, root=tmp_path)
        assert failed.value.filename == str(tmp_path / name)
    with pytest.raises(ValueError, match="null"):
        read_bytes(tmp_path / "a\0b", KILOBYTE, root=tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(".")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("fifo", "link", "link/fifo", "gone/x", "../x"):
        with pytest.raises(OSError, match=name):
            read_bytes(tmp_path / name, KILOBYTE, root=tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_links_and_pipes_of_the_user_are_read_but_not_without_end(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("seed: 1")
    (tmp_path / "config.yaml").symlink_to("data")  # as in a mounted ConfigMap
    assert read_named(tmp_path / "config.yaml", KILOBYTE) == b"seed: 1"
    read_end, write_end = os.pipe()
    os.write(write_end, b"seed: 2")
    os.close(write_end)
    assert read_named(Path(f"/dev/fd/{read_end}"), KILOBYTE) == b"seed: 2"
    os.close(read_end)
    with pytest.raises(TooLarge, match=r"/dev/zero is larger than 1,024 bytes"):
        read_named(Path("/dev/zero"), KILOBYTE)
