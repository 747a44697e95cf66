"""Records, proofs, last words, and files that are written whole or not at all."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrelay_runner.volume.files import write_atomically, write_json
from jobrelay_runner.volume.paths import TERMINATION_MESSAGE_BYTES, check_name
from jobrelay_runner.volume.record import (
    Closing,
    Cost,
    FileDigest,
    LogDigest,
    RecordError,
    differing,
    matches,
    parse_closing,
    read_record,
)

COST = Cost(wall_seconds=1.0, cpu_seconds=1.0, peak_memory_bytes=1, peak_memory_from="process")
LOG = LogDigest(file="logs/train-a.log", sha256="0" * 64, bytes=0, lines=0)


def test_a_proof_fits_the_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    digest = FileDigest.of(file)

    assert matches(file, digest)
    file.write_bytes(b"Content")
    assert not matches(file, digest)
    file.write_bytes(b"content ")
    assert not matches(file, digest)
    assert differing(tmp_path, {"file": digest, "absent": digest}) == ["file", "absent"]
    assert not matches(tmp_path / "no\0file", digest)


def test_a_record_that_is_not_there_is_none_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    assert read_record(tmp_path / "train.json") is None
    for text in ("", "{", "[]", '{"run": "a"}'):
        (tmp_path / "train.json").write_text(text)
        with pytest.raises(RecordError, match=r"train\.json is not a readable record"):
            read_record(tmp_path / "train.json")


@pytest.mark.parametrize("seconds", ["1e999", "-1", '"long"'])
def test_last_words_with_a_cost_that_cannot_be_are_nobodys(seconds: str) -> None:
    message = Closing(stage="train", exit_code=1, log=LOG, cost=COST).message()

    assert parse_closing(message)
    assert parse_closing(message.replace('"wall_seconds":1.0', f'"wall_seconds":{seconds}')) is None


@given(st.text(max_size=10000))
def test_the_last_words_fit_whatever_the_error(error: str) -> None:
    closing = Closing(stage="train", exit_code=1, error=error, log=LOG, cost=COST)

    message = closing.message()

    assert len(message.encode()) <= TERMINATION_MESSAGE_BYTES
    read = parse_closing(message)
    assert read is not None
    assert error.startswith(read.error or "")
    assert read.exit_code == 1


@given(st.text() | st.none())
def test_what_others_leave_as_last_words_is_not_taken_for_ours(message: str | None) -> None:
    assert parse_closing(message) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=100)))
def test_a_file_holds_what_was_written(tmp_path: Path, blocks: list[bytes]) -> None:
    write_atomically(tmp_path / "file", iter(blocks))

    assert (tmp_path / "file").read_bytes() == b"".join(blocks)
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 (as a person sees it)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    write_json(file, {"a": 1})
    before = file.read_bytes()

    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": float("nan")})

    def blocks() -> object:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(file, blocks())  # type: ignore[arg-type]
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


@given(st.text(alphabet=string.ascii_lowercase + string.digits + "-", min_size=1, max_size=40))
def test_run_ids_are_dns_labels(name: str) -> None:
    if name.startswith("-") or name.endswith("-"):
        with pytest.raises(ValueError, match="must be lower-case letters"):
            check_name(name, "--run")
    else:
        assert check_name(name, "--run") == name


@pytest.mark.parametrize("name", ["", "A", "a_b", "a/b", "..", "a.b", "ä", "a" * 41, "a\n"])
def test_other_run_ids_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="--run"):
        check_name(name, "--run")
