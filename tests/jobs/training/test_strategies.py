"""Several processes that train together: the same files, records and endings as one alone."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from jobrelay_runner.context import StageResult
from jobrelay_runner.errors import Failed, PeerLost, Terminated
from jobrelay_runner.signals import StopRequest
from jobrelay_train.config.loading import load_config
from jobrelay_train.distributed import launch
from jobrelay_train.distributed.shared_memory import Exchange, SharedMemory
from jobrelay_train.training.precision import fastest
from jobrelay_train.training.schedule import learning_rate
from jobrelay_train.training.strategies import Strategy, ddp
from jobrelay_train.training.strategies.hogwild import Hogwild, Ledger
from tests.support.volume import Ended, Place, finish, read_until, write_data

TOGETHER = ["hogwild", "ddp"]
#: Some twenty seconds, to be disturbed in.
LONG = ("data.name=mnist", "model.name=mnist-hogwild-net", "train.epochs=40", "train.batch_size=10")


@pytest.fixture(params=TOGETHER)
def long_run(request: pytest.FixtureRequest, place: Place) -> Place:
    return Place(place.root, settings=(*LONG, f"train.strategy={request.param}"))


@pytest.mark.parametrize("strategy", TOGETHER)
def test_every_strategy_leaves_what_one_process_leaves(place: Place, strategy: str) -> None:
    alone = Place(
        place.root, run="alone", settings=(*place.settings, "train.epochs=4", "train.augment=false")
    )
    together = Place(place.root, run="together", settings=(*alone.settings, f"train.strategy={strategy}"))

    for run in (alone, together):
        for stage in ("train", "eval", "infer"):
            ended = run.do(stage)
            assert ended.code == 0, ended.out

    def files(place: Place) -> set[str]:
        found = (path.relative_to(place.folder.path) for path in place.folder.path.rglob("*"))
        return {str(path) for path in found if path.parts[0] not in ("results", "logs")}

    assert files(together) == files(alone)
    record, expected = together.record("train"), alone.record("train")
    assert record.outputs.keys() == expected.outputs.keys()
    assert record.metrics.keys() == expected.metrics.keys()
    assert record.means["strategy"] == f"{strategy} with 2 processes"
    assert record.moments.keys() == expected.moments.keys() >= {"first_batch"}
    assert [json.loads(line)["epoch"] for line in together.folder.history.read_text().splitlines()] == [
        1, 2, 3, 4,
    ]  # fmt: skip
    assert together.record("eval").metrics["test_acc"] > 0.9  # the place of a bar is not hard to learn


def test_ddp_takes_the_steps_that_one_process_takes(place: Place) -> None:
    # Batches of 7 for two processes, and a last one of 6: parts of unequal size, weighed by it. What
    # is left of a difference is the order of summation. (A perceptron has no batch normalisation.)
    settings = (*place.settings, "train.batch_size=7", "train.precision=fp32")
    alone = Place(place.root, run="alone", settings=settings)
    together = Place(place.root, run="together", settings=(*settings, "train.strategy=ddp"))
    assert alone.do("train").code == 0
    assert together.do("train").code == 0

    expected, found = (torch.load(run.folder.model, weights_only=True) for run in (alone, together))

    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("strategy", ["single", *TOGETHER])
def test_no_process_imports_the_compiler(place: Place, strategy: str) -> None:
    """It takes 84 MiB and seconds before the first batch, in every one of them."""
    settings = (*place.settings, "train.epochs=1", f"train.strategy={strategy}")
    ended = finish(Place(place.root, settings=settings).start("train", python=("-X", "importtime")))

    assert ended.code == 0, ended.out
    assert "torch.nn.functional" in ended.out  # imports are listed here
    assert "torch._dynamo" not in ended.out + ended.err


def test_ddp_counts_the_last_images_of_an_epoch_once(tmp_path: Path) -> None:
    """Nine images, batches of 4, four processes: the last image is taken by all of them."""
    write_data(tmp_path / "data" / "mnist", train=9)
    settings = (
        "data.name=mnist", "model.name=perceptron", "train.epochs=3", "train.batch_size=4",
        "train.augment=false", "train.precision=fp32",
    )  # fmt: skip
    alone = Place(tmp_path, run="alone", settings=settings)
    together = Place(
        tmp_path, run="together", settings=(*settings, "train.strategy=ddp", "train.processes=4")
    )

    for run in (alone, together):
        ended = run.do("train")
        assert ended.code == 0, ended.out

    expected, found = (
        [json.loads(line) for line in run.folder.history.read_text().splitlines()]
        for run in (alone, together)
    )
    assert [row["accuracy"] for row in found] == [row["accuracy"] for row in expected]
    assert [row["loss"] for row in found] == pytest.approx([row["loss"] for row in expected], rel=1e-4)


def test_hogwild_reports_the_learning_rate_of_the_last_step(place: Place) -> None:
    """Whoever does it: with three steps an epoch, the leader often does another one."""
    settings = (*place.settings, "train.epochs=8", "train.batch_size=100")
    run = Place(place.root, settings=(*settings, "train.strategy=hogwild", "train.processes=3"))
    ended = run.do("train")
    assert ended.code == 0, ended.out

    train = load_config(None, run.settings).train
    rows = [json.loads(line) for line in run.folder.history.read_text().splitlines()]
    assert [row["learning_rate"] for row in rows] == [
        learning_rate(train, 3 * epoch - 1, 3) for epoch in range(1, 9)
    ]


def test_row_54_sigterm_saves_and_the_next_attempt_goes_on(long_run: Place) -> None:
    process = long_run.start("train")
    read_until(process, b"epoch 2/40")
    process.send_signal(signal.SIGTERM)
    ended = finish(process)

    assert ended.code == 143, ended.out
    (told,) = [line for line in ended.out.splitlines() if "stopped by SIGTERM after epoch" in line]
    saved = told.split("saved as ")[1]
    assert (long_run.folder.path / saved).exists()

    again = Place(long_run.root, settings=(*long_run.settings, "train.epochs=6")).do("train")

    assert again.code == 0, again.out
    assert f"({saved})" in again.out
    rows = [json.loads(line) for line in long_run.folder.history.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("which", [0, 1], ids=["the-leader", "another"])
def test_a_process_that_is_killed_ends_all_and_is_named(long_run: Place, which: int) -> None:
    process = long_run.start("train")
    read_until(process, b"epoch 1/40")
    (stage,) = _children(process.pid)
    workers = sorted(_children(stage))
    os.kill(workers[which], signal.SIGKILL)
    began = time.monotonic()
    ended = finish(process)

    assert time.monotonic() - began < 20
    assert ended.code == 1
    error = f"process {which} of 2 was killed by SIGKILL (out of memory?); the stage ended the others"
    assert f"train: {error}" in ended.out
    assert long_run.record("train").error == error
    assert not any(_is_there(worker) for worker in workers)
    assert Place(long_run.root, settings=(*long_run.settings, "train.epochs=5")).do("train").code == 0


def test_nobody_is_left_behind_by_a_supervisor_that_is_killed(long_run: Place) -> None:
    process = long_run.start("train")
    read_until(process, b"epoch 1/40")
    (stage,) = _children(process.pid)
    workers = _children(stage)
    process.kill()
    finish(process)

    deadline = time.monotonic() + 20
    while any(_is_there(pid) for pid in (stage, *workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_training_that_diverges_ends_all(place: Place) -> None:
    settings = ("train.learning_rate=10", "train.weight_decay=1", "train.batch_size=10", "train.epochs=4")
    run = Place(place.root, settings=(*place.settings, *settings, "train.strategy=ddp"))

    ended = run.do("train")

    assert ended.code == 78
    assert "training has diverged" in ended.out
    assert "Traceback" not in ended.out


def test_more_processes_than_processors_are_warned_of(place: Place) -> None:
    settings = (*place.settings, "train.strategy=hogwild", "train.processes=9", "train.batch_size=400")
    run = Place(place.root, settings=settings)
    ended = run.do("train")

    assert ended.code == 0, ended.out
    for warning in ("9 processes share ", "a batch of 400 is larger than the data (300 images)"):
        assert f"warning: {warning}" in ended.out
        assert warning in run.record("train").means["warnings"]


def ledger_of(size: int) -> Ledger:
    return Ledger(size, SharedMemory([]))


def test_hogwild_takes_every_batch_once() -> None:
    ledger, stop = ledger_of(1), StopRequest()
    first, second = Hogwild(0, ledger), Hogwild(1, ledger)
    one, two = first.steps(3, 10, stop), second.steps(3, 10, stop)

    assert [next(one), next(two), next(two), next(one), *two] == [3, 4, 5, 6, 7, 8, 9]
    assert list(one) == []
    assert first.all_reduce(torch.zeros(2))[0] == 10


def test_hogwild_stops_all_when_one_is_asked_to() -> None:
    ledger, stop, asked = ledger_of(1), StopRequest(), StopRequest()
    first, second = Hogwild(0, ledger), Hogwild(1, ledger)
    steps = second.steps(0, 10, stop)
    assert next(steps) == 0
    asked.requested = True

    assert list(first.steps(0, 10, asked)) == []
    assert list(steps) == []
    assert first.all_reduce(torch.zeros(2))[0] == 1


def test_hogwild_knows_what_was_done_however_late_it_leaves_the_barrier() -> None:
    ledger = ledger_of(2)
    slow = copy.copy(ledger)
    slow.have_worked = _SlowToLeave(ledger)  # type: ignore[context]
    leader, other = Hogwild(0, ledger), Hogwild(1, slow)
    assert len(list(leader.steps(0, 10, StopRequest()))) == 10

    def lead() -> int:
        done, _ = leader.all_reduce(torch.zeros(2))
        leader.barrier()
        return done

    with ThreadPoolExecutor() as pool:
        of_the_leader = pool.submit(lead)
        done, _ = other.all_reduce(torch.zeros(2))
        other.barrier()

        assert (of_the_leader.result(), done) == (10, 10)
    assert next(leader.steps(0, 10, StopRequest())) == 0


class _SlowToLeave:
    """A barrier that lets a process go when the leader waits for it at the next one."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def wait(self) -> None:
        self._ledger.have_worked.wait()
        while self._ledger.may_resume.n_waiting == 0:
            time.sleep(0.01)


def test_shared_memory_is_seen_by_a_forked_process() -> None:
    values = torch.arange(24.0).view(2, 3, 2, 2).to(memory_format=torch.channels_last)
    memory = SharedMemory([values], copies=2)
    memory.share(values[:1])
    shared = memory.share(values)
    assert shared.stride() == values.stride()
    assert torch.equal(shared, values)

    child = os.fork()
    if child == 0:
        shared.numpy()[1, 2] = 7  # NumPy: torch's threads do not survive a fork
        os._exit(0)
    os.waitpid(child, 0)

    assert shared[1, 2].tolist() == [[7, 7], [7, 7]]
    assert values[1, 2].tolist() == [[20, 21], [22, 23]]


@pytest.mark.parametrize(("slower", "chosen"), [(2.2, "bf16"), (1.1, "fp32"), (0.5, "fp32")])
def test_precision_is_what_is_multiplied_faster(
    monkeypatch: pytest.MonkeyPatch, slower: float, chosen: str
) -> None:
    monkeypatch.setattr("jobrelay_train.training.precision._seconds", lambda *_: [slower, 1.0])

    assert fastest(torch.device("cpu"), torch.nn.Conv2d(3, 3, 3)) == chosen
    assert fastest(torch.device("cpu"), torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, groups=3))) == "fp32"


def test_precision_that_was_begun_with_is_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobrelay_train.train import train

    monkeypatch.setattr("jobrelay_train.training.state.fastest", lambda *_: "bf16")
    stop = StopRequest()
    assert train(place.context("train"), stop).means["precision"] == "bf16"
    monkeypatch.setattr("jobrelay_train.training.state.fastest", lambda _: "fp32")

    assert train(place.context("train", "train.epochs=3"), stop).means["precision"] == "bf16"


def _children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(child) for child in found.stdout.split()]


def _is_there(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.fixture
def pods(place: Place) -> list[Place]:
    """Two Pods of one training, each of two processes."""
    settings = (*LONG, "train.epochs=4", "train.strategy=ddp", "train.nodes=2")
    return [
        Place(place.root, settings=settings, environment={"JOB_COMPLETION_INDEX": str(index)})
        for index in range(2)
    ]


def test_processes_of_several_pods_train_together(pods: list[Place]) -> None:
    first, second = both(pods)

    assert (first.code, second.code) == (0, 0), first.out + second.out
    assert "ddp with 4 processes" in first.out
    assert "epoch" not in second.out
    assert pods[0].record("train").means["strategy"] == "ddp with 4 processes"


def test_a_pod_that_is_lost_ends_the_other_and_the_next_attempt_goes_on(pods: list[Place]) -> None:
    first, second = (pod.start("train", pod=f"pod-{index}") for index, pod in enumerate(pods))
    read_until(first, b"epoch 1/4")
    (stage,) = _children(second.pid)
    os.kill(stage, signal.SIGKILL)
    ended = finish(first)

    assert finish(second).code == 137
    assert ended.code == 76, ended.out
    assert "train: index 1 of this stage is lost" in ended.out
    assert "Traceback" not in ended.out

    again, _ = both(pods)

    assert again.code == 0, again.out
    assert "resuming from epoch " in again.out


def both(pods: list[Place]) -> list[Ended]:
    """Start a training of several Pods, and wait for their ends."""
    started = [pod.start("train", pod=f"pod-{index}") for index, pod in enumerate(pods)]
    return [finish(process) for process in started]


def test_sums_and_flags_are_everybodys() -> None:
    exchange = Exchange(3, 5)

    def work(rank: int) -> list[float]:
        found = []
        for step in range(20):
            values = torch.full((5 - step % 2,), float(10**rank + step))
            exchange.raise_flag(rank, step, rank == 1 and step % 7 == 3)
            if rank == step % 3:  # somebody is always late
                time.sleep(0.005)
            found.append(exchange.add_up(rank, values).unique().item() + 0.5 * exchange.any_flag(step))
        return found

    found = launch.run_workers(3, work, StopRequest())

    assert found == [111 + 3 * step + 0.5 * (step % 7 == 3) for step in range(20)]


def test_the_cause_is_the_process_that_is_lost_and_not_the_one_that_notices() -> None:
    def work(rank: int) -> None:
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        raise PeerLost("another one is lost")

    with pytest.raises(Failed, match=r"process 1 of 2 was killed by SIGKILL \(out of memory\?\)"):
        launch.run_workers(2, work, StopRequest())


@pytest.mark.parametrize("threads", [False, True])
def test_row_54_sigterm_that_comes_while_processes_are_started_is_heard(
    monkeypatch: pytest.MonkeyPatch, threads: bool
) -> None:
    stop, start = StopRequest(), BaseProcess.start

    def started(process: BaseProcess) -> None:
        start(process)
        os.kill(os.getpid(), signal.SIGTERM)  # it runs, and nobody but it knows of it
        time.sleep(0.1)  # for another thread to take it

    def work(rank: int) -> None:
        for _ in range(1000):
            if stop.requested:
                raise Terminated("heard")
            time.sleep(0.02)

    monkeypatch.setattr(BaseProcess, "start", started)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop.install()
    over = threading.Event()
    if threads:
        threading.Thread(target=over.wait).start()  # which does not hold SIGTERM back
    try:
        with pytest.raises(Terminated, match="heard"):
            launch.run_workers(1, work, stop)
    finally:
        over.set()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_row_54_no_process_ends_while_the_main_one_saves(tmp_path: Path, place: Place) -> None:
    saved = tmp_path / "saved"

    def stopped(strategy: Strategy) -> StageResult:
        if strategy.is_main:
            time.sleep(1)
            saved.touch()
        raise Terminated("stopped")

    def work(rank: int) -> None:
        try:
            ddp.worker(context, group, rank, stopped)
        finally:
            assert saved.exists()

    context = place.context("train", "train.strategy=ddp")
    group = ddp.ProcessGroup(0, 2, lambda: dist.FileStore(str(tmp_path / "store"), 2), ddp._LOOPBACK)

    with pytest.raises(Terminated):
        launch.run_workers(2, work, StopRequest())
