"""Files of weights that are damaged, or that somebody has made to do harm."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from torch import nn

from jobrelay_runner.errors import BadEvidence, BadInput, Failed, Terminated
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.volume.record import FileDigest
from jobrelay_runner.volume.safe_read import open_regular, read_bytes
from jobrelay_train import eval as testing
from jobrelay_train.models.serialization.checkpoint import Position, Sidecar
from jobrelay_train.models.serialization.weights import CorruptFile, UntrustedFile, load_verified, to_bytes
from jobrelay_train.train import train
from tests.support.hostile import MIB, TRACE, Call, corpus, safetensors, saved
from tests.support.volume import REPOSITORY, Place

CORPUS = sorted(corpus(Path()))


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What came of every file of the corpus, in a process of its own."""
    home = tmp_path_factory.mktemp("corpus")
    folder = home / "files"
    for each in (folder, home / "trace"):
        each.mkdir()
    for name, content in corpus(home / "trace").items():
        _checkpoint(folder / name, content())
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile", str(folder)],
        cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    found = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert not list(home.rglob(TRACE))
    return found


@pytest.mark.parametrize("name", CORPUS)
def test_row_56_a_hostile_checkpoint_is_refused_at_once(name: str, tried: dict[str, dict[str, Any]]) -> None:
    result = tried[name]

    assert result["error"].startswith("BadInput: ")
    assert (
        "epoch-0001.pt is what epoch-0001.json records, but it was not written by this program"
        in (result["error"])
    )
    assert result["seconds"] <= 1
    assert result["mib"] <= 200


def test_the_corpus_would_do_harm(tmp_path: Path) -> None:
    trace = tmp_path / TRACE
    pickle.loads(pickle.dumps(Call(os.mkdir, str(trace))))

    assert trace.exists()


def test_row_56_a_hostile_checkpoint_ends_the_stage_as_bad_input(trained: Place, tmp_path: Path) -> None:
    trace = tmp_path / TRACE
    for path in trained.folder.checkpoints.glob("*.pt"):
        _forge(path, saved({"model": Call(os.mkdir, str(trace))}))
    before = {path: path.read_bytes() for path in trained.folder.checkpoints.iterdir()}

    ended = trained.do("train", "--set", "train.epochs=3")

    assert ended.code == 78
    assert f"{trained.folder.checkpoints / 'epoch-0002.pt'} is what epoch-0002.json records, but it was" in (
        ended.out
    )
    assert "Traceback" not in ended.out
    assert not trace.exists()
    assert {path: path.read_bytes() for path in trained.folder.checkpoints.iterdir()} == before


def test_row_56_a_hostile_model_ends_eval_as_bad_input(trained: Place, tmp_path: Path) -> None:
    trace = tmp_path / TRACE
    model = trained.folder.model
    model.write_bytes(saved({"weight": Call(os.mkdir, str(trace))}))
    path = trained.folder.record("train")
    record = json.loads(path.read_text())
    record["outputs"]["model.pt"] = FileDigest.of(model).to_dict()
    path.write_text(json.dumps(record))

    with pytest.raises(BadInput, match=r"model.pt is what train.json records, but it was not written by"):
        testing.eval(trained.context("eval"), StopRequest())
    assert not trace.exists()


def test_row_55_a_hostile_model_that_is_not_the_recorded_one_is_just_that(trained: Place) -> None:
    trained.folder.model.write_bytes(saved({"weight": Call(os.mkdir, "trace")}))
    shutil.rmtree(trained.folder.checkpoints)

    with pytest.raises(BadEvidence, match=r"model.pt is not the file that train.json of this run records"):
        testing.eval(trained.context("eval"), StopRequest())


def _no_optimizer(state: dict[str, Any]) -> None:
    del state["optimizer"]


def _weights_of_another_model(state: dict[str, Any]) -> None:
    state["model"] = {"0.weight": torch.zeros(3)}


def _moments_of_another_model(state: dict[str, Any]) -> None:
    state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3)


def _rows_of_text(state: dict[str, Any]) -> None:
    state["history"][0]["loss"] = "\x1b[2J"


def _random_state_of_zeros(state: dict[str, Any]) -> None:
    state["rng"] = torch.zeros_like(state["rng"])


def _sums_of_text(state: dict[str, Any]) -> None:
    state["sums"]["loss"] = "0"


@pytest.mark.parametrize(
    "change",
    [
        _no_optimizer, _weights_of_another_model, _moments_of_another_model, _rows_of_text,
        _random_state_of_zeros, _sums_of_text,
    ],
)  # fmt: skip
def test_row_56_a_checkpoint_that_holds_something_else_is_refused(
    trained: Place, change: Callable[[dict[str, Any]], None]
) -> None:
    path = trained.folder.checkpoints / "epoch-0002.pt"
    state = load_verified(path, FileDigest.of(path), MIB)
    change(state)
    _forge(path, to_bytes(state))

    with pytest.raises(BadInput, match=r"epoch-0002.pt is .* not written by this program"):
        train(trained.context("train", "train.epochs=3"), StopRequest())


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _remove(path: Path) -> None:
    path.unlink()


def _blow_up(path: Path) -> None:
    os.truncate(path, 1 << 40)  # it takes no room, and nobody may read it


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _break_sidecar(path: Path) -> None:
    path.with_suffix(".json").write_text('{"format": 1')


def _blow_up_sidecar(path: Path) -> None:
    os.truncate(path.with_suffix(".json"), 1 << 40)


def _sidecar_of_another(path: Path) -> None:
    path.with_suffix(".json").write_bytes((path.parent / "epoch-0001.json").read_bytes())


DAMAGES = [
    _truncate, _append, _flip, _empty, _remove, _blow_up, _folder, _pipe, _endless, _break_sidecar,
    _blow_up_sidecar, _sidecar_of_another,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_row_52_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(
    trained: Place, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    before = trained.folder.model.read_bytes()
    damage(trained.folder.checkpoints / "epoch-0002.pt")

    if damage is _folder:  # what stands in the way of the next save is for people to remove
        with pytest.raises(IsADirectoryError):
            train(trained.context("train"), StopRequest())
    else:
        train(trained.context("train"), StopRequest())
        assert trained.folder.model.read_bytes() == before

    out = capsys.readouterr().out
    assert "warning: checkpoints/epoch-0002.pt: " in out
    assert "resuming from epoch 1 (checkpoints/epoch-0001.pt)" in out
    rows = [json.loads(line)["epoch"] for line in trained.folder.history.read_text().splitlines()]
    assert rows == [1] if damage is _folder else [1, 2]


def test_row_52_without_one_whole_checkpoint_it_says_so(trained: Place) -> None:
    for path in trained.folder.checkpoints.glob("*.pt"):
        _truncate(path)

    with pytest.raises(
        Failed, match=r"no checkpoint can be used .*remove .*checkpoints to train from the st"
    ):
        train(trained.context("train"), StopRequest())


def test_the_stored_weights_are_plain(trained: Place) -> None:
    """Anybody can load model.pt with nothing but torch: names to contiguous tensors."""
    digest = trained.record("train").outputs["model.pt"]
    for name, tensor in load_verified(trained.folder.model, digest, MIB).items():
        assert isinstance(name, str)
        assert tensor.is_contiguous()


KINDS = [
    torch.float16, torch.bfloat16, torch.float64, torch.int16, torch.int32, torch.int8, torch.uint8,
    torch.bool, torch.complex64, torch.uint16, torch.float8_e4m3fn,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_numbers_a_model_has_come_back(tmp_path: Path, kind: torch.dtype) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(to_bytes({"a": torch.ones(3, dtype=kind), "b": [torch.zeros(2, 3).t()]}))

    state = load_verified(path, FileDigest.of(path), MIB)

    assert state["a"].dtype == kind
    assert state["b"][0].shape == (3, 2)
    with pytest.raises(CorruptFile, match="is expected"):
        load_verified(path, FileDigest(sha256="0" * 64, bytes=path.stat().st_size), MIB)


@pytest.mark.parametrize("older", [False, True], ids=["zip", "before-1.6"])
def test_a_file_of_pytorch_is_read_as_pytorch_reads_it(tmp_path: Path, older: bool) -> None:
    """Parameters, views of one storage, empty tensors, scalars, and all that people keep beside them."""
    weight = nn.Parameter(torch.randn(4, 6))
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    state = {
        "parameter": weight, "transposed": weight.detach().t(), "part": weight.detach()[1:3, ::2],
        "none": torch.empty(0, 3), "scalar": torch.tensor(7), "module": module.state_dict(), "epoch": 3,
        "best": 0.25, "name": "é", "nothing": None, "flags": [True, False], "shape": torch.Size([2, 3]),
        "large": 1 << 70, "pair": (1, (2, 3, 4, 5)), 5: "five",
    }  # fmt: skip
    path = tmp_path / "state.pt"
    path.write_bytes(saved(state, _use_new_zipfile_serialization=not older))

    found, expected = load_verified(path, FileDigest.of(path), MIB), torch.load(path, weights_only=True)

    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[name], value)
            assert found[name].stride() == value.stride()
        elif name == "module":
            assert all(torch.equal(found[name][key], tensor) for key, tensor in value.items())
        else:
            assert found[name] == value


def test_a_file_of_safetensors_is_read(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b": torch.ones(2, dtype=torch.bfloat16), "c": torch.tensor([True])}
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(tensors))

    found = load_verified(path, FileDigest.of(path), MIB)

    assert all(torch.equal(found.pop(name), value) for name, value in tensors.items())
    assert not found


def test_what_a_training_with_two_groups_and_odd_buffers_saves_comes_back(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    model.register_buffer("mask", torch.tensor([True, False]))
    model.register_buffer("codes", torch.tensor([-1, 5], dtype=torch.int8))
    groups = [{"params": [model.weight]}, {"params": [model.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    path = tmp_path / "state.pt"
    path.write_bytes(to_bytes({"model": model.state_dict(), "optimizer": optimizer.state_dict()}))

    state = load_verified(path, FileDigest.of(path), MIB)

    assert state["model"]["mask"].dtype == torch.bool
    assert state["model"]["codes"].tolist() == [-1, 5]
    optimizer.load_state_dict(state["optimizer"])
    assert [group["betas"] for group in optimizer.param_groups] == [(0.9, 0.95)] * 2


@pytest.mark.parametrize("bytes_claimed", [4 << 30, MIB + 1])
def test_row_56_a_file_that_is_larger_than_needed_is_not_read(tmp_path: Path, bytes_claimed: int) -> None:
    """One with holes takes no room on the volume, and all of its size in memory."""
    path = tmp_path / "state.pt"
    path.touch()
    os.truncate(path, bytes_claimed)

    with pytest.raises(
        UntrustedFile, match=rf"its recorded size is {bytes_claimed:,} bytes; at most 1,048,576 are needed"
    ):
        load_verified(path, FileDigest(sha256="0" * 64, bytes=bytes_claimed), MIB)


def test_row_56_a_model_is_no_larger_than_its_file(trained: Place) -> None:
    """A few bytes of model.json could ask for a network of any size."""
    path = trained.folder.model_config
    spec = json.loads(path.read_text())
    path.write_text(json.dumps({**spec, "input_shape": [1, 50_000, 50_000]}))
    record_path = trained.folder.record("train")
    record = json.loads(record_path.read_text())
    record["outputs"]["model.json"] = FileDigest.of(path).to_dict()
    record_path.write_text(json.dumps(record))

    with pytest.raises(BadInput, match=r"the model in model.json needs 100,000,000,040 for"):
        testing.eval(trained.context("eval"), StopRequest())


def test_a_name_that_is_not_known_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(saved({"a": Call(os.mkdir, "x")}))

    with pytest.raises(UntrustedFile, match=r"it names (posix|os)\.mkdir"):
        load_verified(path, FileDigest.of(path), MIB)


@pytest.mark.parametrize("where", ["pickletools.genops", "zipfile.ZipFile"])
def test_row_54_sigterm_while_weights_are_loaded_is_no_fault_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Terminated("stopped by SIGTERM")

    path = tmp_path / "state.pt"
    path.write_bytes(to_bytes({"a": torch.ones(3)}))
    monkeypatch.setattr(where, stopped)

    with pytest.raises(Terminated):
        load_verified(path, FileDigest.of(path), MIB)


def test_a_volume_that_does_not_answer_is_no_other_model(
    trained: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = trained.folder.model_config

    def silent(path: Path, **options: Any) -> IO[bytes]:
        if path == description:
            raise OSError(errno.ESTALE, "Stale file handle")
        return open_regular(path, **options)

    monkeypatch.setattr("jobrelay_runner.volume.record.open_regular", silent)

    with pytest.raises(OSError, match="Stale file handle"):
        testing.eval(trained.context("eval"), StopRequest())


def test_a_volume_that_does_not_answer_is_no_unreadable_record(
    trained: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, record = trained.context("eval"), trained.folder.record("train")

    def silent(path: Path, limit: int, **options: Any) -> bytes:
        if path == record:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read_bytes(path, limit, **options)

    monkeypatch.setattr("jobrelay_runner.volume.record.read_bytes", silent)

    with pytest.raises(Failed, match=r"cannot use .*train.json: Input/output error; this may pass"):
        testing.eval(context, StopRequest())


def _checkpoint(run: Path, content: bytes) -> None:
    """The only checkpoint of a run, with a sidecar that fits."""
    (run / "checkpoints").mkdir(parents=True)
    path = run / "checkpoints" / "epoch-0001.pt"
    path.write_bytes(content)
    digest = FileDigest.of(path).to_dict()
    sidecar = Sidecar(position=Position(epoch=1, step=0), settings={}, **digest)
    path.with_suffix(".json").write_text(sidecar.to_json())


def _forge(path: Path, content: bytes) -> None:
    """Other content, with the sidecar changed to fit."""
    path.write_bytes(content)
    sidecar = Sidecar.from_json(path.with_suffix(".json").read_bytes())
    forged = replace(sidecar, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    path.with_suffix(".json").write_text(forged.to_json())
