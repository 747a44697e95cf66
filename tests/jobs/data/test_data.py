"""Data sets: what is read from the volume, what is refused, and the download over real HTTP."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import gzip
import hashlib
import http.server
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrelay_runner.errors import BadInput, Failed, Terminated
from jobrelay_train import torchvision_operators, vision
from jobrelay_train.config.inputs import DataConfig
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data import download, idx
from jobrelay_train.data.idx import read_images, read_labels
from jobrelay_train.data.registry import load
from tests.support import PATIENCE
from tests.support.volume import REPOSITORY, bars, idx_bytes, write_data

# torchvision does not close the answer of a server that says 404.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

MNIST = RunConfig(data=DataConfig(name="mnist"))
MINI = RunConfig()


@pytest.mark.parametrize(("split", "per_class"), [("train", 600), ("test", 100)])
def test_the_data_set_in_the_box_is_balanced(tmp_path: Path, split: str, per_class: int) -> None:
    data = load(MINI, split, tmp_path)  # type: ignore[arg-type]

    assert data.images.shape == (per_class * 10, 1, 28, 28)
    assert data.images.dtype == torch.uint8
    assert data.labels.dtype == torch.int64
    assert data.labels.bincount().tolist() == [per_class] * 10
    assert data.files == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_files_on_the_volume_are_taken_as_they_lie(tmp_path: Path, below: str, packed: bool) -> None:
    write_data(tmp_path / "data" / "mnist" / below, packed=packed)

    data = load(MNIST, "test", tmp_path)

    images, labels = bars(80, seed=1)
    assert torch.equal(data.images, images.unsqueeze(1))
    assert torch.equal(data.labels, labels)
    assert [path.name for path in data.files] == [
        f"t10k-{kind}" + (".gz" if packed else "") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "spelled",
    [
        "{0}-{1}.{2}-{3}",
        "{0}-{1}.{2}.{3}",
        "{0}-{1}-{2}-{3}/{0}-{1}-{2}-{3}",
        "{0}-{1}.{2}-{3}/{0}-{1}.{2}-{3}",
    ],
)
def test_names_as_unpackers_write_them_are_found(tmp_path: Path, spelled: str, packed: bool) -> None:
    folder = tmp_path / "data" / "mnist"
    write_data(folder, packed=packed)
    expected = load(MNIST, "train", tmp_path)
    for path in list(folder.iterdir()):
        name = spelled.format(*path.name.removesuffix(".gz").split("-"))
        path = path.rename(path.with_suffix(".moved"))
        target = folder / (name.split("/")[0] if packed else name)
        target.parent.mkdir(exist_ok=True)
        path.rename(target.with_name(f"{target.name}.gz") if packed else target)

    found = load(MNIST, "train", tmp_path)

    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)
    assert all(path.is_file() for path in found.files)


def test_half_a_data_set_is_neither_used_nor_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mnist"
    write_data(folder)
    (folder / "t10k-labels-idx1-ubyte").unlink()

    with pytest.raises(BadInput, match=r"mnist is there but lacks t10k-labels-idx1-ubyte \(it holds t10k-im"):
        load(MNIST, "train", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("train-images-idx3-ubyte", b"", "not an IDX file .* it is empty"),
        ("train-images-idx3-ubyte", b"<html>", "not an IDX file .* it is a web page .* 3c 68 74 6d"),
        ("train-labels-idx1-ubyte", bytes([0, 0, 8, 3, 0]), "not an IDX file of bytes with 1 dimension"),
        ("train-images-idx3-ubyte", bytes([0, 0, 8, 3, 0, 0]), "cannot be read"),
        (
            "train-images-idx3-ubyte",
            idx_bytes(torch.zeros(9, 28, 28))[:-1],
            "promises 7056 bytes, and it has only 7055",
        ),
        (
            "train-images-idx3-ubyte",
            idx_bytes(torch.zeros(9, 28, 28)) + b"x",
            "promises 7056 bytes, and it has more",
        ),
        (
            "train-images-idx3-ubyte",
            idx_bytes(torch.zeros(9, 32, 32)),
            "images of 32 x 32, 28 x 28 is expected",
        ),
        ("train-images-idx3-ubyte", idx_bytes(torch.zeros(9, 28, 28)), "has 9 images, but .* has 300 labels"),
        ("train-labels-idx1-ubyte", idx_bytes(torch.full((300,), 10)), "label 10, but there are 10 classes"),
        ("train-images-idx3-ubyte", bytes([0, 0, 8, 3]) + b"\xff" * 12, "it is damaged"),
        ("train-labels-idx1-ubyte", bytes([0, 0, 8, 1, 0, 0, 0, 0]), "it is damaged"),
    ],
)
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    folder = tmp_path / "data" / "mnist"
    write_data(folder)
    (folder / name).write_bytes(content)

    with pytest.raises(BadInput, match=told) as raised:
        load(MNIST, "train", tmp_path)
    assert str(folder / name) in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"not gzip", gzip.compress(idx_bytes(torch.zeros(9)))[:-9]],  # the last one has the time in it
    ids=["empty", "another-format", "cut-off"],
)
def test_a_damaged_gzip_file_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(content)

    with pytest.raises(BadInput, match=r"labels\.gz"):
        read_labels(path)


def test_what_is_large_for_the_memory_is_mapped_and_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "mnist"
    write_data(folder)
    expected = load(MNIST, "train", tmp_path)
    images = folder / "train-images-idx3-ubyte"
    assert str(images) not in Path("/proc/self/maps").read_text()

    monkeypatch.setattr(idx, "memory_bytes", lambda: 3 * images.stat().st_size)
    found = load(MNIST, "train", tmp_path)

    assert str(images) in Path("/proc/self/maps").read_text()
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)
    with images.open("ab") as file:
        file.write(b"more")
    with pytest.raises(BadInput, match="and it has more"):
        load(MNIST, "train", tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=40), start=st.sampled_from([b"", bytes([0, 0, 8, 3]), bytes([0, 0, 8, 1])]))
def test_any_bytes_are_read_or_refused(tmp_path: Path, start: bytes, body: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(start + body)
    for read in (read_images, read_labels):
        with contextlib.suppress(BadInput):
            assert read(path).numel() == len(body) - 4 * start[3]


def test_a_volume_that_does_not_answer_is_no_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", silent)

    with pytest.raises(Failed, match=r"cannot use .*labels: Input/output error; this may pass"):
        read_labels(tmp_path / "labels")


# --- download ---


class Mirror:
    """A web server that has what a test gives it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut_short = False
        self.silent = False
        self.closing = threading.Event()
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rsplit("/", 1)[-1]
                mirror.asked.append(name)
                if mirror.silent:
                    mirror.closing.wait(60)
                    return
                if name not in mirror.files:
                    self.send_error(404)
                    return
                content = mirror.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if mirror.cut_short else content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def config(self) -> RunConfig:
        mirror = f"http://127.0.0.1:{self._server.server_address[1]}/mnist"
        return RunConfig(data=DataConfig(name="mnist", mirror=mirror))

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Serves a small data set, whose checksums torchvision takes for those of MNIST."""
    source = tmp_path / "source"
    write_data(source, packed=True)
    mirror = Mirror()
    mirror.files = {path.name: path.read_bytes() for path in source.iterdir()}
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in mirror.files.items()]
    monkeypatch.setattr(vision.datasets().MNIST, "resources", sums)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    yield mirror
    mirror.close()
    gc.collect()  # a refused download leaves its socket to the collector: here, not in another test


def test_what_is_not_there_is_downloaded_once(tmp_path: Path, mirror: Mirror) -> None:
    volume = tmp_path / "volume"

    data = load(mirror.config, "test", volume)

    assert torch.equal(data.labels, bars(80, seed=1)[1])
    assert sorted(set(mirror.asked)) == sorted(mirror.files)
    assert _left(volume) == [".mnist.lock", "mnist"]
    assert len(list((volume / "data" / "mnist" / "MNIST" / "raw").iterdir())) == 4  # unpacked, and no .gz
    mirror.asked.clear()
    load(mirror.config, "train", volume)
    assert mirror.asked == []


def _wrong_bytes(mirror: Mirror) -> None:
    mirror.files["train-labels-idx1-ubyte.gz"] = b"<html>please log in</html>"


def _one_missing(mirror: Mirror) -> None:
    del mirror.files["t10k-images-idx3-ubyte.gz"]


def _cut_short(mirror: Mirror) -> None:
    mirror.cut_short = True


def _no_answer(mirror: Mirror) -> None:
    mirror.silent = True


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (_wrong_bytes, "File not found or corrupted"),
        (_one_missing, "404"),
        (_cut_short, "File not found or corrupted"),
        (_no_answer, "timed out"),
    ],
)
def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(
    tmp_path: Path, mirror: Mirror, trouble: Callable[[Mirror], None], told: str
) -> None:
    trouble(mirror)
    volume = tmp_path / "volume"

    with pytest.raises(BadInput, match="cannot download mnist") as raised:
        load(mirror.config, "train", volume)

    assert told in str(raised.value)
    for way_out in ("--set data.name=fashion-mnist-mini", "put a folder as data/mnist", "data.mirror"):
        assert way_out in str(raised.value)
    assert _left(volume) == [".mnist.lock"]


def test_without_a_network_it_says_what_to_do(tmp_path: Path) -> None:
    closed = RunConfig(data=DataConfig(name="mnist", mirror="http://127.0.0.1:1"))

    with pytest.raises(
        BadInput, match=r"(?s)Connection refused.*three ways out:.*in the box.*data/mnist.*data.mirror"
    ):
        load(closed, "train", tmp_path)


def test_a_full_disk_is_not_a_network_problem(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_put_in_place", full)

    with pytest.raises(Failed, match="make room on the volume"):
        load(mirror.config, "train", tmp_path / "volume")
    assert _left(tmp_path / "volume") == [".mnist.lock"]


def test_remains_of_a_killed_download_are_cleared(tmp_path: Path, mirror: Mirror) -> None:
    remains = tmp_path / "volume" / "data" / ".mnist.node-7.partial" / "MNIST"
    remains.mkdir(parents=True)

    load(mirror.config, "train", tmp_path / "volume")

    assert _left(tmp_path / "volume") == [".mnist.lock", "mnist"]


def test_a_second_process_waits_and_takes_what_the_first_one_got(tmp_path: Path, mirror: Mirror) -> None:
    volume = tmp_path / "volume"
    (volume / "data").mkdir(parents=True)
    found: list[int] = []
    with (volume / "data" / ".mnist.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: found.append(len(load(mirror.config, "test", volume))))
        second.start()
        while not _is_waiting_for(lock.name):
            time.sleep(0.01)
        write_data(volume / "data" / "mnist")
    second.join(timeout=PATIENCE)

    assert found == [80]
    assert mirror.asked == []


def test_what_another_process_puts_there_between_two_looks_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, exists = tmp_path / "data" / "mnist", Path.exists

    def just_in_time(path: Path) -> bool:
        if path == folder:
            write_data(folder)
        return exists(path)

    monkeypatch.setattr(Path, "exists", just_in_time)

    assert len(load(MNIST, "test", tmp_path)) == 80


def test_where_there_are_no_locks_the_first_to_finish_wins(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    def slower(*arguments: object) -> None:
        write_data(tmp_path / "volume" / "data" / "mnist")  # somebody else, in the meantime
        fetch(*arguments)  # type: ignore[arg-type]

    fetch = download._fetch
    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(download, "_fetch", slower)

    assert len(load(mirror.config, "test", tmp_path / "volume")) == 80
    assert _left(tmp_path / "volume") == [".mnist.lock", "mnist"]


def test_a_stop_request_in_the_middle_leaves_nothing(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_name: str, root: Path, *_: object) -> None:
        (root / "MNIST").mkdir(parents=True)
        raise Terminated("stopped by SIGTERM")

    monkeypatch.setattr(download, "_fetch", interrupted)

    with pytest.raises(Terminated):
        load(mirror.config, "train", tmp_path / "volume")
    assert _left(tmp_path / "volume") == [".mnist.lock"]


def _left(volume: Path) -> list[str]:
    return sorted(path.name for path in (volume / "data").iterdir())


def _is_waiting_for(lock: str) -> bool:
    """Whether somebody stands in the queue for a lock on this file (proc(5), /proc/locks)."""
    inode = f":{Path(lock).stat().st_ino}"
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


# --- torchvision ---


def test_torchvision_can_be_imported_here() -> None:
    assert vision.torchvision().__version__
    assert vision.datasets().FashionMNIST.classes[0] == "T-shirt/top"


def _environment(folder: Path) -> Path:
    """A Python of its own that finds the libraries of this one, and is not this one's to change."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    found = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
    )
    (Path(found.stdout.strip()) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def _run(python: Path, *arguments: str) -> str:
    done = subprocess.run([python, *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_any_program_can_import_torchvision_in_an_installed_environment(tmp_path: Path) -> None:
    python = _environment(tmp_path / "environment")

    _run(python, "-P", "jobs/jobrelay_train/torchvision_operators.py")

    program = (
        "import torchvision; print(torchvision.datasets.MNIST.__name__, torchvision.models.resnet18.__name__)"
    )
    assert _run(python, "-c", program) == "MNIST resnet18"
    assert _run(python, "-c", "import sys; print('torch' in sys.modules)") == "False"
    assert _run(python, "-c", "import sys; print('typing' in sys.modules)") == "False"
    looked_for = "import importlib.util as u, sys; u.find_spec('torchvision'); print('torch' in sys.modules)"
    assert _run(python, "-c", looked_for) == "False"


def test_where_the_right_wheel_is_there_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(torchvision_operators, "_compiled_part_loads", lambda: False)
    torchvision_operators._install()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "_torchvision_operators.pth", "_torchvision_operators.py",
    ]  # fmt: skip

    monkeypatch.setattr(torchvision_operators, "_compiled_part_loads", lambda: True)
    torchvision_operators._install()
    assert list(tmp_path.iterdir()) == []


def test_operators_that_the_compiled_part_brings_are_not_defined_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torchvision_operators, "_library", None)
    monkeypatch.setattr(torchvision_operators, "_compiled_part_loads", lambda: True)

    torchvision_operators.define_missing_operators()

    assert torchvision_operators._library is None


# --- the maker of the data set in the box ---


def test_the_small_data_set_is_made_of_the_first_images_of_every_class(tmp_path: Path) -> None:
    source, targets = tmp_path / "source", [tmp_path / "one", tmp_path / "two"]
    source.mkdir()
    for prefix, samples in {"train": 6500, "t10k": 1200}.items():
        labels = torch.arange(samples) * 7 % 10
        images = (torch.arange(samples) % 251).view(-1, 1, 1).expand(-1, 28, 28)
        (source / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (source / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    for target in targets:
        target.mkdir()
        program = REPOSITORY / "tools" / "make_fashion_mnist_mini.py"
        subprocess.run([sys.executable, str(program), str(source), str(target)], check=True)

    labels = read_labels(targets[0] / "train-labels-idx1-ubyte.gz")
    images = read_images(targets[0] / "train-images-idx3-ubyte.gz")
    # All classes are equally frequent here, so the first of every class are the first of all.
    assert labels.tolist() == [number * 7 % 10 for number in range(6000)]
    assert images[:, 0, 5, 5].tolist() == [number % 251 for number in range(6000)]
    assert len(read_labels(targets[0] / "t10k-labels-idx1-ubyte.gz")) == 1000
    for path in targets[0].iterdir():
        assert path.read_bytes() == (targets[1] / path.name).read_bytes()


def test_a_file_that_is_no_idx_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    page, pointer = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-images-idx3-ubyte.gz"
    page.write_bytes(b"<!DOCTYPE html><title>Log in</title>")
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")

    with pytest.raises(BadInput, match=r"dimensions: it is a web page \(HTML\)"):
        read_images(page)
    with pytest.raises(BadInput, match=r"it is a Git LFS pointer, not the file itself"):
        read_images(pointer)
