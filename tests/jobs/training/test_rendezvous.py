"""How the Pods of one stage meet, with real sockets, and what they learn of each other's end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from jobrelay_runner.errors import PeerLost, Superseded
from jobrelay_runner.fence import ClosedFence, WriterFence
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_train.config.loading import load_config
from jobrelay_train.distributed import rendezvous as rendezvous_module
from jobrelay_train.distributed.membership import Membership
from jobrelay_train.distributed.rendezvous import rendezvous
from jobrelay_train.program import Context, program_of
from tests.support import PATIENCE
from tests.support.volume import REPOSITORY, clean_environment

HERE = {"JOBRELAY_ADDRESS": "127.0.0.1"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous_module, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(rendezvous_module, "PORT", 0)  # any: tests run side by side


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path, "a")
    folder.path.mkdir(parents=True)
    return folder


def pod(run: RunFolder, index: int, nodes: int = 3, *settings: str) -> Context:
    config = load_config(None, ["train.strategy=ddp", f"train.nodes={nodes}", *settings])
    name = f"a-train-{index}-x7k2p"
    fence = ClosedFence.around(run, "train") if index else WriterFence.claim(run, "train", name)
    return Context("train", program_of("train", config), run, name, fence, index)


def meet(
    threads: ThreadPoolExecutor, *pods: Context, seconds: float = 10, leader: str = ""
) -> list[Future[Membership]]:
    environment = {**HERE, "JOBRELAY_LEADER": leader}
    return [threads.submit(rendezvous, pod, timeout_seconds=seconds, environment=environment) for pod in pods]


def test_all_learn_the_same(run: RunFolder, threads: ThreadPoolExecutor) -> None:
    pods = [pod(run, index) for index in range(3)]
    meetings = [future.result() for future in meet(threads, *reversed(pods))]

    assert {(m.address, m.port, m.token) for m in meetings} == {
        ("127.0.0.1", meetings[0].port, meetings[0].token)
    }
    assert sorted(m.index for m in meetings) == [0, 1, 2]
    leader = next(m for m in meetings if m.index == 0)
    descriptor = leader.take_listener()
    assert descriptor is not None
    with socket.socket(fileno=descriptor) as listener:
        assert listener.getsockname() == ("127.0.0.1", leader.port)
    assert all(m.take_listener() is None for m in meetings if m.index)
    for m in meetings:
        m.close()
    assert [m.lost(0.2) for m in meetings] == [None] * 3


def test_by_name_where_there_is_no_file(
    run: RunFolder, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(rendezvous_module, "PORT", port)
    elsewhere = RunFolder(tmp_path / "elsewhere", "a")  # as on a volume that shows new files late
    elsewhere.path.mkdir(parents=True)
    futures = meet(threads, pod(elsewhere, 1, 2), pod(run, 0, 2), leader="localhost")

    assert len({future.result().token for future in futures}) == 1


def test_who_does_not_come_is_named(run: RunFolder, threads: ThreadPoolExecutor) -> None:
    futures = meet(threads, pod(run, 0, 4), pod(run, 2, 4), seconds=1)
    for future in futures:
        with pytest.raises(PeerLost, match="indexes 1, 3 have not joined: 4 Pods train together"):
            future.result()


def test_index_0_does_not_come(run: RunFolder) -> None:
    with pytest.raises(PeerLost, match="index 0 has not joined"):
        rendezvous(pod(run, 1), timeout_seconds=0.3, environment=HERE)


def test_a_file_of_an_earlier_attempt_leads_nowhere(run: RunFolder, threads: ThreadPoolExecutor) -> None:
    path = run.rendezvous("train")
    with socket.create_server(("127.0.0.1", 0)) as stranger:  # its port belongs to somebody else by now
        path.write_text(json.dumps({"address": "127.0.0.1", "port": stranger.getsockname()[1]}))
        (late,) = meet(threads, pod(run, 1, 2))
        connection, _ = stranger.accept()
        connection.sendall(b'{"welcome": "of another"}\n')
        connection.close()
        (leader,) = meet(threads, pod(run, 0, 2))
        assert late.result().token == leader.result().token != "of another"


@pytest.mark.parametrize(
    "stale", [b"", b"{", b"[]", b'{"address": "127.0.0.1"}', b'{"address": 1, "port": "x"}']
)
def test_a_damaged_file_is_no_obstacle(run: RunFolder, threads: ThreadPoolExecutor, stale: bytes) -> None:
    run.rendezvous("train").write_bytes(stale)
    futures = meet(threads, pod(run, 1, 2), pod(run, 0, 2))
    assert len({future.result().token for future in futures}) == 1


def test_another_run_and_another_configuration_are_not_let_in(
    run: RunFolder, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    (leader,) = meet(threads, pod(run, 0, 2), seconds=3)
    while not run.rendezvous("train").exists():
        time.sleep(0.01)
    other = RunFolder(tmp_path, "b")
    other.path.mkdir()
    other.rendezvous("train").write_bytes(run.rendezvous("train").read_bytes())
    strangers = meet(threads, pod(other, 1, 2), pod(run, 1, 2, "seed=7"), seconds=1)
    for future in strangers:
        with pytest.raises(PeerLost, match=r"index 0 has not joined: .* is not index 0 of this run"):
            future.result()
    (right,) = meet(threads, pod(run, 1, 2))
    assert right.result().token == leader.result().token


NONSENSE = (b"", b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"[" * 60000 + b"\n", b"\xff\n")


@pytest.mark.parametrize(
    "said", [*NONSENSE, "index"], ids=["nothing", "http", "list", "deep", "bytes", "index"]
)
def test_whoever_else_knocks_is_turned_away(
    run: RunFolder, threads: ThreadPoolExecutor, said: bytes | str
) -> None:
    leading = pod(run, 0, 2)
    (leader,) = meet(threads, leading)
    while not run.rendezvous("train").exists():
        time.sleep(0.01)
    place = json.loads(run.rendezvous("train").read_text())
    with socket.create_connection((place["address"], place["port"])) as stranger:
        if isinstance(said, str):
            subject = rendezvous_module._identity(leading)
            said = json.dumps({**subject, "index": [1], "pod": "p"}).encode() + b"\n"
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        stranger.settimeout(10)
        assert stranger.recv(100) == b""
    (other,) = meet(threads, pod(run, 1, 2))
    assert other.result().token == leader.result().token


def test_those_who_never_say_who_they_are_hold_nobody_up(run: RunFolder, threads: ThreadPoolExecutor) -> None:
    """Twenty clients, of which one sends a byte now and then: each by itself would take three seconds."""
    (leader,) = meet(threads, pod(run, 0, 2), seconds=PATIENCE)
    while not run.rendezvous("train").exists():
        time.sleep(0.01)
    place = json.loads(run.rendezvous("train").read_text())
    strangers = [socket.create_connection((place["address"], place["port"])) for _ in range(20)]
    over = threading.Event()

    def dribble() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.2):
                strangers[0].sendall(b"{")

    slow = threads.submit(dribble)
    began = time.monotonic()
    try:
        (other,) = meet(threads, pod(run, 1, 2), seconds=PATIENCE)
        assert other.result().token == leader.result().token
        assert time.monotonic() - began < 20 * rendezvous_module._CONNECT_SECONDS / 2
    finally:
        over.set()
        slow.result()
        for stranger in strangers:
            stranger.close()


def test_whoever_dribbles_in_the_place_of_index_0_is_left_in_time(
    run: RunFolder, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous_module, "_CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as impostor:
        run.rendezvous("train").write_text(
            json.dumps({"address": "127.0.0.1", "port": impostor.getsockname()[1]})
        )
        (late,) = meet(threads, pod(run, 1, 2), seconds=PATIENCE)
        connection, _ = impostor.accept()
        with connection, contextlib.suppress(OSError):
            for _ in range(10 * PATIENCE):
                connection.sendall(b" ")
                time.sleep(0.1)
            raise AssertionError("it was listened to for ever")
    (leader,) = meet(threads, pod(run, 0, 2), seconds=PATIENCE)
    assert late.result().token == leader.result().token


def test_a_pod_that_was_replaced_while_it_waited(run: RunFolder, threads: ThreadPoolExecutor) -> None:
    (leader,) = meet(threads, pod(run, 0, 3))
    (first,) = meet(threads, pod(run, 1, 3))
    time.sleep(0.5)
    (second,) = meet(threads, pod(run, 1, 3))
    time.sleep(0.5)
    (last,) = meet(threads, pod(run, 2, 3))
    assert second.result().token == leader.result().token == last.result().token
    with pytest.raises(Superseded, match="a-train-1-x7k2p has joined with the same index"):
        first.result()


def test_an_index_0_that_is_superseded_calls_no_roll(run: RunFolder, threads: ThreadPoolExecutor) -> None:
    (earlier,) = meet(threads, pod(run, 0, 2))
    while not run.rendezvous("train").exists():
        time.sleep(0.01)
    (later,) = meet(threads, pod(run, 0, 2))
    with pytest.raises(Superseded):
        earlier.result()
    (other,) = meet(threads, pod(run, 1, 2))
    assert other.result().token == later.result().token


def test_the_one_that_was_lost_first_is_told_to_all(run: RunFolder, threads: ThreadPoolExecutor) -> None:
    meetings = [future.result() for future in meet(threads, *(pod(run, index) for index in range(3)))]
    meetings[2]._hang_up()  # as the kernel does for a process that was killed

    assert [m.lost(5) for m in meetings[:2]] == [2, 2]
    with (
        pytest.raises(PeerLost, match="index 2 of this stage is lost: Connection closed by peer"),
        meetings[1],
    ):
        raise RuntimeError("Connection closed by peer")
    meetings[0].close()


def test_an_error_of_its_own_stays_what_it_is(run: RunFolder, threads: ThreadPoolExecutor) -> None:
    meetings = [future.result() for future in meet(threads, pod(run, 0, 2), pod(run, 1, 2))]
    with pytest.raises(ValueError, match="mine"), meetings[1]:
        raise ValueError("mine")
    assert meetings[0].lost(5) == 1
    meetings[0].close()


def test_who_leaves_in_good_order_is_not_lost(run: RunFolder, threads: ThreadPoolExecutor) -> None:
    meetings = [future.result() for future in meet(threads, *(pod(run, index) for index in range(3)))]
    meetings[1].close()
    assert [meetings[0].lost(0.3), meetings[2].lost(0)] == [None, None]
    meetings[0].close()
    assert meetings[2].lost(0.3) is None
    meetings[2].close()


HANGS = """
import sys, time
from pathlib import Path
from jobrelay_train.distributed import membership, rendezvous
from tests.jobs.training.test_rendezvous import pod
from jobrelay_runner.volume.paths import RunFolder
membership.GRACE_SECONDS = 0.5
rendezvous.PORT = 0
with rendezvous.rendezvous(pod(RunFolder(Path(sys.argv[1]), "a"), int(sys.argv[2]), 2)):
    print("met", flush=True)
    time.sleep(60)
"""


def start(run: RunFolder, index: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", HANGS, str(run.root), str(index)],
        cwd=REPOSITORY, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_hangs_after_a_loss_is_ended(run: RunFolder, killed: int) -> None:
    processes = [start(run, index) for index in (0, 1)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == b"met\n"
    os.kill(processes[killed].pid, signal.SIGKILL)
    _, err = processes[1 - killed].communicate(timeout=PATIENCE)
    assert processes[1 - killed].returncode == 76
    assert f"index {killed} of this stage is lost".encode() in err
    processes[killed].communicate()
