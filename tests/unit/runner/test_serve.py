"""`python -m jobrelay_runner volume …`, as the launcher's reader Pod runs it."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay_runner.volume import archive, serve
from jobrelay_runner.volume.paths import below, inside
from tests.support.pages import write_run


@dataclass
class Volume:
    """A volume, and what the last command said of it."""

    root: Path
    capture: pytest.CaptureFixture[bytes]
    patch: pytest.MonkeyPatch
    out: bytes = b""
    err: str = ""

    def run(self, *arguments: str, stdin: bytes = b"") -> int:
        self.patch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
        code = serve.main(arguments, self.root)
        out, err = self.capture.readouterr()
        self.out, self.err = out, err.decode()
        return code


@pytest.fixture
def volume(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Volume:
    """A volume with a run on it, and a file beside it that nobody may touch."""
    run = tmp_path / "volume/runs/a"
    (run / "checkpoints").mkdir(parents=True)
    (run / "model.pt").write_bytes(b"weights")
    (run / "checkpoints/epoch-0001.pt").write_bytes(b"half")
    (tmp_path / "secret").write_text("mine")
    return Volume(tmp_path / "volume", capfdbinary, monkeypatch)


def unpacked(data: bytes, folder: Path) -> list[str]:
    return sorted(archive.unpack(io.BytesIO(data), folder))


def test_send_leaves_checkpoints_out_unless_all_is_asked_for(volume: Volume, tmp_path: Path) -> None:
    assert volume.run("send", "runs/a") == 0
    assert unpacked(volume.out, tmp_path / "some") == ["model.pt"]
    assert volume.run("send", "runs/a", "--all") == 0
    assert unpacked(volume.out, tmp_path / "all") == ["checkpoints/epoch-0001.pt", "model.pt"]


def test_receive_makes_a_data_set(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/x").write_bytes(b"1")
    data = b"".join(archive.packed(tmp_path / "set"))

    assert volume.run("receive", "data/mine", stdin=data) == 0
    assert (volume.root / "data/mine/x").read_bytes() == b"1"
    assert volume.run("receive", "data/mine", stdin=data) == 1
    assert "already exists" in volume.err
    (tmp_path / "set/x").write_bytes(b"2")
    data = b"".join(archive.packed(tmp_path / "set"))
    assert volume.run("receive", "data/mine", "--replace", stdin=data) == 0
    assert (volume.root / "data/mine/x").read_bytes() == b"2"


def test_data_lists_every_data_set(volume: Volume) -> None:
    for name in (
        *(f"clothes/{kind}/{number}.png" for kind in ("dress", "shirt") for number in range(3)),
        "clothes/.cache/0123.pixels", "mnist/train-images-idx3-ubyte", "mnist/t10k-labels.idx1-ubyte.gz",
        "photos/a.jpg", "weights/resnet.pth", ".mnist.lock/x",
    ):  # fmt: skip
        path = volume.root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"xy")
    (volume.root / "data/link").symlink_to("clothes")

    assert volume.run("data") == 0
    found = [json.loads(line) for line in volume.out.splitlines()]
    assert [tuple(each.values()) for each in found] == [
        ("clothes", 6, 12, "images in 2 classes", 2),
        ("mnist", 2, 4, "IDX, 2 files", 0),
        ("photos", 1, 2, "images without classes", 0),
        ("weights", 1, 2, "files", 0),
    ]


def test_receive_of_a_cut_stream_leaves_nothing(volume: Volume) -> None:
    assert volume.run("receive", "data/mine", stdin=b"x" * 100) == 1
    assert "receive: the stream was cut" in volume.err
    assert list((volume.root / "data").iterdir()) == []


def test_list_tells_of_every_run(volume: Volume) -> None:
    (volume.root / "runs/b/logs").mkdir(parents=True)
    (volume.root / "runs/b/logs/train-p.log").touch()
    (volume.root / "runs/b/train.json").write_text("not a record")
    (volume.root / "runs/.hidden").mkdir()

    assert volume.run("list") == 0
    runs = {run["run"]: run["records"] for run in map(json.loads, volume.out.splitlines())}
    assert runs["a"] == {}
    assert runs["b"]["train"]["status"] == "failed"
    assert "not a readable record" in runs["b"]["train"]["error"]
    assert set(runs) == {"a", "b"}


def test_list_of_an_empty_volume(tmp_path: Path, volume: Volume) -> None:
    volume.root = tmp_path / "none"
    assert (volume.run("list"), volume.out) == (0, b"")


def test_exists_and_remove(volume: Volume) -> None:
    assert volume.run("exists", "runs/a") == 0
    assert volume.run("remove", "runs/a") == 0
    assert volume.run("exists", "runs/a") == 1
    assert volume.run("remove", "runs/a") == 1
    assert volume.err.startswith("remove: ")


def test_send_of_a_run_that_is_not_there(volume: Volume) -> None:
    assert volume.run("send", "runs/b") == 1
    assert "runs/b is not on the volume" in volume.err
    assert volume.out == b""


@pytest.mark.parametrize("verb", ["send", "receive", "remove"])
@pytest.mark.parametrize(
    "folder",
    [
        "..",
        "../secret",
        "runs",
        "runs/",
        "runs/..",
        "runs/../..",
        "runs/a/..",
        "/",
        "/etc",
        "",
        "data/a/b",
        "runs/.x",
    ],
)
def test_no_folder_outside_runs_and_data(volume: Volume, verb: str, folder: str) -> None:
    assert volume.run(verb, folder) == 1
    assert "expected runs/RUN, data/NAME or code/HASH" in volume.err
    assert (volume.root / "runs/a/model.pt").read_bytes() == b"weights"
    assert (volume.root.parent / "secret").read_text() == "mine"


@given(st.text() | st.lists(st.sampled_from(["runs", "data", "..", ".", "a", ""])).map("/".join))
def test_a_folder_on_the_volume_is_a_child_of_runs_or_of_data(name: str) -> None:
    root = Path("/volume")
    try:
        folder = inside(root, name)
    except ValueError:
        return
    assert folder.parent in (root / "runs", root / "data")
    assert folder.name not in ("", ".", "..")


def test_a_link_is_not_followed_out_of_the_volume(volume: Volume) -> None:
    (volume.root / "data").mkdir()
    (volume.root / "data/link").symlink_to(volume.root.parent)
    assert volume.run("remove", "data/link") == 1
    assert (volume.root.parent / "secret").exists()
    assert (volume.root / "data/link").is_symlink()


@pytest.mark.parametrize("arguments", [[], ["format"], ["send"], ["send", "runs/a", "--most"]], ids=" ".join)
def test_another_command_line_is_refused(volume: Volume, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        volume.run(*arguments)
    assert error.value.code == 2


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("runs/a", 0),
        ("runs/a/model.pt", 0),
        ("runs/a/checkpoints/epoch-0001.pt", 0),
        ("runs/a/other.pt", 1),
        ("data/a", 1),
        *[(path, 1) for path in ("..", "../secret", "runs", "runs/..", "/", "/etc", "", "runs/.x")],
        *[(path, 1) for path in ("runs/a/..", "runs/../..", "runs/a/../../../secret", "runs/../../secret")],
    ],
)
def test_exists_tells_of_folders_and_of_files_in_them(volume: Volume, path: str, there: int) -> None:
    assert volume.run("exists", path) == there


@given(st.text("ab./\\", max_size=30))
def test_no_path_leads_out_of_the_volume(rest: str) -> None:
    root = Path("/volume")
    for name in (rest, f"data/{rest}", f"data/a/{rest}"):
        try:
            found = below(root, name)
        except ValueError:
            continue
        assert Path(os.path.normpath(found)).is_relative_to(root / found.relative_to(root).parts[0])


def test_check_tells_of_everything_that_a_run_has(volume: Volume) -> None:
    assert volume.run("check", "a") == 0
    (found,) = map(json.loads, volume.out.splitlines())
    assert (found["what"], found["good"]) == ("stages", False)

    write_run(volume.root / "runs" / "whole")
    assert volume.run("check", "whole") == 0
    found = [json.loads(line) for line in volume.out.splitlines()]
    assert [(check["what"], check["good"]) for check in found] == [
        ("train", True), ("eval", True), ("infer", True), ("checkpoint", False),
        ("eval_results.json", True), ("pictures", True),
    ]  # fmt: skip
    assert volume.run("check", "../../etc") == 1
