"""Pods with another index than 0: they take part, write nothing of the run, and end as index 0 does."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from jobrelay_runner.volume.record import parse_closing
from tests.jobs.runner.test_supervisor import Supervised
from tests.support.volume import Place, finish, read_until

PRINTS = "print('working', flush=True)"
WAITS = "print('working', flush=True); time.sleep(60)"


@pytest.fixture
def leader(tmp_path: Path) -> Supervised:
    return Supervised(tmp_path / "volume")


def at_work_until(sign: Path, then: str = "pass") -> str:
    """What a stage does: says `on`, and ends, or what is told, once the file is there."""
    return f"""
        print("on", flush=True)
        while not Path({str(sign)!r}).exists():
            time.sleep(0.02)
        {then}
    """


def files(supervised: Supervised) -> list[str]:
    folder = supervised.folder.path
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_complete_record_lets_every_index_end_at_once(leader: Supervised) -> None:
    assert leader.do(PRINTS).code == 0
    record = leader.folder.record("train").read_bytes()
    ended = leader.do(PRINTS, pod="pod-2", index=1)

    assert ended.code == 0
    assert "nothing to do: done on" in ended.out
    assert leader.folder.record("train").read_bytes() == record
    closing = parse_closing(leader.termination.read_text())
    assert closing
    assert closing.skipped


def test_it_ends_well_once_index_0_has_written_the_record(leader: Supervised, tmp_path: Path) -> None:
    first = leader.start(at_work_until(tmp_path / "end"))
    read_until(first, b"on")
    second = leader.start(PRINTS, pod="pod-2", index=1)
    read_until(second, b"working")
    assert second.poll() is None
    (tmp_path / "end").touch()
    assert finish(first).code == 0
    assert finish(second).code == 0
    assert leader.record.pod == "pod-1"
    assert files(leader) == ["logs/train-pod-1.log", "logs/train-pod-2.log", "train.json"]
    closing = parse_closing(leader.termination.read_text())  # it was the last to write there
    assert closing
    assert closing.log.file == "logs/train-pod-2.log"


def test_it_does_not_take_over_from_index_0(leader: Supervised, tmp_path: Path) -> None:
    first = leader.start(at_work_until(tmp_path / "end"))
    read_until(first, b"on")
    ended = leader.do("raise BadInput('mine')", pod="pod-2", index=1)
    assert ended.code == 78
    (tmp_path / "end").touch()
    assert finish(first).code == 0
    assert (leader.record.status, leader.record.pod) == ("succeeded", "pod-1")


@pytest.mark.parametrize("body", ["raise SystemExit(3)", "raise BadInput('no')"], ids=["crash", "refusal"])
def test_its_success_is_worth_nothing_if_index_0_fails(leader: Supervised, tmp_path: Path, body: str) -> None:
    first = leader.start(at_work_until(tmp_path / "end", body))
    read_until(first, b"on")
    second = leader.start(PRINTS, pod="pod-2", index=1)
    read_until(second, b"working")
    (tmp_path / "end").touch()
    assert finish(first).code != 0
    ended = finish(second)
    assert ended.code == 76
    assert "index 0 (pod-1) failed" in ended.out


def test_its_success_is_worth_nothing_if_index_0_is_replaced(leader: Supervised) -> None:
    first = leader.start(WAITS)
    read_until(first, b"working")
    second = leader.start(PRINTS, pod="pod-2", index=1)
    read_until(second, b"working")
    os.kill(first.pid, signal.SIGKILL)
    finish(first)
    third = leader.start(WAITS, pod="pod-3")
    ended = finish(second)
    assert ended.code == 76
    assert "index 0 (pod-1) was lost; pod-3 has replaced it" in ended.out
    third.terminate()
    assert finish(third).code == 143


def test_it_heeds_sigterm_while_it_waits(leader: Supervised) -> None:
    first = leader.start(WAITS)
    read_until(first, b"working")
    second = leader.start(PRINTS, pod="pod-2", index=1)
    read_until(second, b"working")
    second.terminate()
    assert finish(second).code == 143
    first.terminate()
    assert finish(first).code == 143


def test_it_may_not_write(leader: Supervised) -> None:
    first = leader.start(WAITS)
    read_until(first, b"working")
    ended = leader.do("context.fence.write(context.folder.model, b'')", pod="pod-2", index=1)
    assert ended.code == 1
    assert "model.pt: only the Pod with index 0 writes" in ended.out
    assert not leader.folder.model.exists()
    first.terminate()
    finish(first)


def test_a_peer_that_is_lost_has_a_code_of_its_own(leader: Supervised) -> None:
    ended = leader.do(
        "from jobrelay_runner.errors import PeerLost; raise PeerLost('index 2 is gone')", index=1
    )
    assert ended.code == 76
    closing = parse_closing(leader.termination.read_text())
    assert closing
    assert closing.error == "index 2 is gone"
    assert not leader.folder.record("train").exists()


NODES = ("--set", "train.strategy=ddp", "--set", "train.nodes=2")


@pytest.mark.parametrize("index", ["", "2", "-1", "one"])
def test_an_index_that_cannot_be(place: Place, index: str) -> None:
    place.environment = {"JOB_COMPLETION_INDEX": index}
    ended = place.do("train", *NODES)
    assert ended.code == 78
    assert f"JOB_COMPLETION_INDEX={index!r} is not the index of one" in ended.err
    assert not place.folder.path.exists()
