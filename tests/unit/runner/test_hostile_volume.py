"""Whoever writes to the volume chooses what lies under a name: nothing hangs, nothing else is read."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrelay.cli import main as cli
from jobrelay.runs import results
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import FileDigest, LogDigest, Record, RecordError, read_record
from jobrelay_runner.volume.records import list_runs
from jobrelay_runner.volume.safe_read import RECORD_BYTES
from jobrelay_runner.volume.verify import check_run
from jobrelay_train.config.schema import STAGES
from tests.support import PATIENCE
from tests.support.pages import write_run

Harm = Callable[[RunFolder, Path], object]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A complete run on a volume, and an empty working folder."""
    folder = RunFolder(tmp_path / "volume", "a")
    write_run(folder.path)
    (folder.path / "report.json").unlink(missing_ok=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "train-x.log").write_text("TOP SECRET")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """A read that hangs ends the process of the tests, instead of waiting for ever."""
    timer = threading.Timer(PATIENCE, os._exit, [99])
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def in_place_of(name: str, kind: str) -> Harm:
    def harm(run: RunFolder, outside: Path) -> None:
        path = run.path / name
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(outside / "secret" / "train-x.log")
        else:
            with path.open("wb") as file:
                file.truncate(1 << 40)

    return harm


def promises(name: str) -> Harm:
    """An output of that name, that would take for ever or lies elsewhere."""

    def harm(run: RunFolder, outside: Path) -> None:
        change(run.record("train"), outputs={name: {"sha256": "0" * 64, "bytes": 0}})

    return harm


def log_is(name: str) -> Harm:
    def harm(run: RunFolder, outside: Path) -> None:
        log = {"sha256": "0" * 64, "bytes": 0, "file": name, "lines": 0}
        change(run.record("train"), log=log)

    return harm


def folder_is_a_link(name: str) -> Harm:
    def harm(run: RunFolder, outside: Path) -> None:
        (run.path / name).rename(outside / f"old-{name}")
        (run.path / name).symlink_to(outside / "secret")

    return harm


HARMS = {
    **{
        f"{name}-{kind}": in_place_of(name, kind)
        for name in ("train.json", "eval_results.json", "model.pt")
        for kind in ("fifo", "link", "sparse")
    },
    "output-device": promises("/dev/zero"),
    "output-outside": promises("../../../secret/train-x.log"),
    "output-in-two-ways": promises("./model.pt"),
    "log-device": log_is("/dev/zero"),
    "log-outside": log_is("../../secret"),
    "results-link": folder_is_a_link("results"),
    "logs-link": folder_is_a_link("logs"),
    "many-errors": lambda run, outside: change(
        run.record("train"), outputs={f"/{number}": {} for number in range(1000)}
    ),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_every_look_at_the_volume_ends_and_tells(
    run: RunFolder, tmp_path: Path, harm: Harm, capsys: pytest.CaptureFixture[str]
) -> None:
    harm(run, tmp_path)
    where = ["--local", "--volume", str(run.root)]

    assert not all(check.good for check in check_run(run))
    (known,) = list_runs(run.root)
    assert set(known["records"]) == set(STAGES)
    for command in (["list"], ["verify", "a"], ["fetch", "a"], ["report", "a"], ["logs", "a"]):
        code = cli.main([*command, *where])
        out, err = capsys.readouterr()
        assert code in (0, 2, 7), err
        assert "Error:" not in err
        assert "TOP SECRET" not in out
        assert len(err) < 4000
    assert cli.main(["verify", "a", *where]) == 7
    assert not any("TOP SECRET" in path.read_text("utf-8", "replace") for path in Path("runs").rglob("*.log"))


def test_a_record_is_as_large_as_ours_can_be_at_most(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    with path.open("wb") as file:
        file.truncate(RECORD_BYTES + 1)
    with pytest.raises(RecordError, match="is not a readable record: it is larger than"):
        read_record(path)


def test_a_file_is_hashed_no_further_than_its_proof(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a" * 100)
    digest = FileDigest.of(tmp_path / "log")
    with (tmp_path / "log").open("ab") as file:
        file.truncate(1 << 43)
    record = Record(
        run="a", stage="train", status="succeeded", pod="p", config_hash="0" * 64, started="",
        log=LogDigest(file="log", lines=0, **digest.to_dict()),
    )  # fmt: skip
    (tmp_path / "train.json").write_text(record.to_json())
    assert results.proven_log(tmp_path, "train") is None


@pytest.mark.parametrize("lines", [None, 0, 1, 2, 3, 99])
@pytest.mark.parametrize("text", [b"", b"a\n", b"a\nb", b"a\n\nb\n", b"\n\n", b"x" * 700_000 + b"\ny\n"])
def test_the_tail_of_a_log_is_what_kubectl_would_print(
    run: RunFolder, text: bytes, lines: int | None, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    change(run.record("train"), log=None)
    for path in (run.path / "logs").iterdir():
        path.unlink()
    (run.logs / "train-x.log").write_bytes(text)
    tail = [] if lines is None else ["--tail", str(lines)]
    assert cli.main(["logs", "a", "train", *tail, "--local", "--volume", str(run.root)]) == 0
    ends = text.splitlines(keepends=True)
    assert capsysbinary.readouterr().out == b"".join(
        ends if lines is None else ends[max(len(ends) - lines, 0) :]
    )
