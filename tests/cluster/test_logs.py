"""Logs that the kubelet does not have any more, or does not have yet."""

from __future__ import annotations

import signal
import time

from tests.support import PATIENCE, QUICK, Object, Place, changed, pod_spec, programs, write_manifests
from tests.support.kubectl import Kubectl


def _lost_while_the_launcher_sleeps(place: Place, kubectl: Kubectl, *arguments: str) -> tuple[int, str]:
    """A Pod that is gone before its log could be read; returns the launcher's end."""
    process = place.start("run", "train", "--run", "a", *arguments)
    assert kubectl.wait_until(lambda: kubectl.exists("job", "a-train"))
    process.send_signal(signal.SIGSTOP)
    assert kubectl.wait_until(lambda: kubectl.complete("a-train"), seconds=60)
    kubectl("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err


def test_row_37_a_pod_that_is_gone_before_its_log_was_read(place: Place, kubectl: Kubectl) -> None:
    code, err = _lost_while_the_launcher_sleeps(place, kubectl, *QUICK)
    assert code == 0, err
    logs = list((place.folder / "runs/a/logs").glob("train-*.log"))
    assert len(logs) == 1
    assert "epoch 1/1" in logs[0].read_text()


def test_row_37_a_gap_that_nothing_fills_is_told(place: Place, kubectl: Kubectl) -> None:
    folder = programs(place.folder / "m", train="import time; time.sleep(1); print('nobody reads this')")
    code, err = _lost_while_the_launcher_sleeps(place, kubectl, "-k", str(folder), "--no-fetch")
    assert code == 7, err
    assert "the log of train is incomplete" in err


LOUD = """
import sys, time
import jobrelay_train.train
from jobrelay_train.__main__ import main

train = jobrelay_train.train.train

def loud(context, stop):
    line = "x" * 992
    for number in range(25_000):
        print(f"{number:06} {line}")
    print("now it is quiet", flush=True)
    time.sleep(25)  # the kubelet looks every 10 s whether a log is too large
    print("and again", flush=True)
    time.sleep(15)  # the next launcher comes while it still runs
    return train(context, stop)

jobrelay_train.train.train = loud
sys.exit(main(["train"]))
"""


def test_row_42_a_log_that_was_rotated_away(place: Place, kubectl: Kubectl) -> None:
    def loud(stage: str, job: Object) -> None:
        if stage == "train":
            container = pod_spec(job)["containers"][0]
            container["command"] = ["python", "-c", LOUD]
            container.pop("args")

    folder = write_manifests(place.folder / "m", loud)
    arguments = ("run", "train", "--run", "a", "-k", str(folder), *QUICK)
    process = place.start(*arguments)
    assert kubectl.wait_until(lambda: bool(kubectl.items("pods")))
    process.kill()
    process.communicate()
    assert kubectl.wait_until(
        lambda: "and again" in kubectl("logs", "job/a-train", "--tail=20", check=False), seconds=90
    )
    assert "000000 x" not in kubectl("logs", "job/a-train", "--limit-bytes=20000000"), "it was not rotated"
    result = place.run(*arguments, "-q")
    log = next((place.folder / "runs/a/logs").glob("train-*.log")).read_bytes()
    assert "from the volume" in result.out
    assert log.startswith(b"000000 x")
    assert log.count(b"x" * 992) == 25_000


def test_row_45_a_log_that_is_asked_for_too_early(place: Place, kubectl: Kubectl) -> None:
    def slow_init(pod: Object, job: Object) -> None:
        first = {
            **pod["containers"][0],
            "name": "slow",
            "command": ["python", "-c", "import time; time.sleep(8)"],
        }
        pod["initContainers"] = [first]
        pod["containers"][0]["command"] = ["python", "-c", "print('the first line'); print('the last line')"]

    folder = changed(place.folder / "m", slow_init)
    process = place.start("run", "train", "--run", "a", "-k", str(folder), "--no-fetch")
    assert kubectl.wait_until(lambda: bool(kubectl.items("pods")))
    time.sleep(2)
    early = place.run("logs", "a", "train", expect=None)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "Traceback" not in early.err
    log = next((place.folder / "runs/a/logs").glob("train-*.log"))
    assert log.read_text() == "the first line\nthe last line\n"
    assert place.run("logs", "a", "train").out == "the first line\nthe last line\n"


def test_logs_when_the_jobs_are_gone_and_when_the_volume_is_gone(place: Place, kubectl: Kubectl) -> None:
    place.run("run-all", "--run", "a", *QUICK)
    before = place.run("logs", "a").out
    assert "epoch 1/1" in before
    place.run("delete", "a", "--data")
    assert place.run("logs", "a").out == before  # from the fetched run
    (place.folder / "runs").rename(place.folder / "elsewhere")
    assert "there is no run a" in place.run("logs", "a", expect=2).err
