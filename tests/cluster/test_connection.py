"""What the way to the API server can do wrong, made by a proxy before the real one.

The numbers are those of the catalogue of faults. No run fetches: what is compared is what the
launcher itself has read.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from faultproxy import FaultProxy, Rule
from jobrelay.executors.base import ChangeCounter
from jobrelay.executors.cluster.api import Api, collection
from jobrelay.executors.cluster.watch import Watch
from tests.support import PATIENCE, Place, Result, programs
from tests.support.kubectl import Kubectl

#: Prints for some seconds.
STEPS = """
import time
for i in range({count}):
    print("step", i, flush=True)
    time.sleep(0.1)
"""
#: Of small wants: these tests tell seconds, and are not to wait for room on a busy node.
ALONE = ("--run", "a", "--no-fetch", "--set", "train.cpu=20m", "--set", "train.memory=64Mi")
#: A watch that is silent is opened again after so many seconds.
NOTICED = 31.5


def steps(place: Place, count: int = 30) -> list[str]:
    """Arguments of a run of train alone, that prints for `count` tenths of a second."""
    folder = place.folder / "m"
    if not folder.exists():
        programs(folder, train=STEPS.format(count=count))
    return ["run", "train", "-k", str(folder), *ALONE]


def said(count: int) -> bytes:
    return b"".join(b"step %d\n" % i for i in range(count))


def kept_log(place: Place) -> bytes:
    (path,) = (place.folder / "runs/a/logs").glob("train-*.log")
    return path.read_bytes()


def one_pod(kubectl: Kubectl) -> bool:
    """Whether there was one Job, and it had one Pod."""
    return len(kubectl.items("jobs")) == len(kubectl.items("pods")) == 1


def ends_well(place: Place, kubectl: Kubectl, count: int = 30) -> Result:
    result = place.run(*steps(place, count))
    assert kept_log(place) == said(count)
    assert one_pod(kubectl)
    return result


def gaps(proxy: FaultProxy, fault: str) -> list[float]:
    """Seconds from each strike to the next request for the same."""
    found = []
    for struck in proxy.struck(fault):
        assert struck.struck
        # a log that has fallen silent is first asked about at its Pod
        kind = struck.path.removesuffix("/log") if struck.kind == "log" else struck.path
        later = [r.started for r in proxy.requests if r.path.startswith(kind) and r.started > struck.struck]
        found.append(min(later) - struck.struck if later else float("inf"))
    return found


# --- 1: half-open connections ---


def test_row_1_watches_that_are_half_open(place: Place, kubectl: Kubectl, proxy: FaultProxy) -> None:
    # each watch falls silent where its first event has begun to come, before the Pod is known
    proxy.add(Rule("stall", on="watch", after=50, times=3))
    ends_well(place, kubectl)
    jobs_and_pods = [gap for gap in gaps(proxy, "stall") if gap < 1000]
    assert len(jobs_and_pods) >= 2
    assert max(jobs_and_pods) < NOTICED


def test_row_1_a_log_and_a_watch_that_are_half_open(
    place: Place, kubectl: Kubectl, proxy: FaultProxy
) -> None:
    proxy.add(Rule("stall", on="log", after=100, times=1))
    proxy.add(Rule("stall", on="watch", path="*/jobs", after=1500, times=1))
    proxy.add(Rule("stall", on="plain", method="GET", path="*/pods/*", times=1))
    ends_well(place, kubectl, 10)
    assert max(gaps(proxy, "stall")) < NOTICED


def test_row_1_everything_is_half_open_for_good(place: Place, kubectl: Kubectl, proxy: FaultProxy) -> None:
    process = place.start(*steps(place, 400), "--api-timeout", "10")
    place.wait_for(process, "train │ step 2")
    begun = time.monotonic()
    proxy.freeze()
    _, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 5, err
    assert "does not answer" in err
    assert "run the same command again to re-attach" in err
    assert "Traceback" not in err
    assert time.monotonic() - begun < 30
    assert one_pod(kubectl)


# --- 2 to 5: what a watch may meet ---


def test_row_2_watches_that_are_reset_again_and_again(
    place: Place, kubectl: Kubectl, proxy: FaultProxy
) -> None:
    proxy.add(Rule("reset", on="watch", after_seconds=(0.0, 0.5), probability=0.9, seed=2))
    ends_well(place, kubectl)
    assert len(proxy.struck("reset")) > 5


def test_row_2_connections_of_every_kind_are_cut(place: Place, kubectl: Kubectl, proxy: FaultProxy) -> None:
    proxy.add(Rule("reset", after=(0, 3000), probability=0.3, seed=3))
    proxy.add(Rule("close", after=(0, 3000), probability=0.4, seed=4))
    ends_well(place, kubectl)
    assert proxy.struck("reset")
    assert proxy.struck("close")


@pytest.mark.parametrize("after", [0, 1], ids=["at-once", "after-an-event"])
def test_row_3_gone_within_the_watch(place: Place, kubectl: Kubectl, proxy: FaultProxy, after: int) -> None:
    proxy.add(Rule("gone", on="watch", after=after, times=9))
    ends_well(place, kubectl, 10)
    assert len(proxy.struck("gone")) >= 3


def test_row_3_gone_as_the_answer(place: Place, kubectl: Kubectl, proxy: FaultProxy) -> None:
    proxy.add(Rule("status", on="watch", status=410, times=9))
    ends_well(place, kubectl, 10)
    assert len(proxy.struck("status")) == 9


def test_row_3_gone_for_ever_does_not_flood_the_server(
    place: Place, kubectl: Kubectl, proxy: FaultProxy
) -> None:
    proxy.add(Rule("gone", on="watch"))
    begun = time.monotonic()
    ends_well(place, kubectl)
    seconds = time.monotonic() - begun
    assert len(proxy.struck("gone")) < 3 * (8 + seconds / 2)  # with the longest pauses: one in 5 s each


def test_row_3_a_watch_from_a_version_that_is_gone(kubectl: Kubectl) -> None:
    kubectl.make_namespace()
    changes = ChangeCounter()
    watch = Watch(Api(kubectl.context), collection("v1", "pods", kubectl.namespace), {}, changes)
    watch._version = "1"  # as if it had slept since the cluster was made
    watch.start()
    try:
        assert watch.listed.wait(20)
        kubectl.apply(POD)
        assert kubectl.wait_until(lambda: bool(watch.objects()))
    finally:
        watch.stop()


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p"},
    "spec": {"containers": [{"name": "c", "image": "jobrelay:0.1.0", "command": ["sleep", "1"]}]},
}


@pytest.mark.parametrize("how", ["insert", "halve"])
def test_row_4_events_that_are_no_json(place: Place, kubectl: Kubectl, proxy: FaultProxy, how: Any) -> None:
    proxy.add(Rule("garble", on="watch", how=how, after=1, times=30))
    ends_well(place, kubectl, 10)
    assert len(proxy.struck("garble")) >= 3


@pytest.mark.parametrize("path", ["*/jobs", "*/pods"])
def test_row_4_the_event_that_ends_the_job_is_lost(
    place: Place, kubectl: Kubectl, proxy: FaultProxy, path: str
) -> None:
    process = place.start(*steps(place))
    place.wait_for(process, "train │ step 2")
    # from now on each watch loses the first event that it is told; nothing follows that of the end
    proxy.add(Rule("garble", on="watch", how="halve", path=path, times=2))
    proxy.outage(0.1)
    begun = time.monotonic()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert time.monotonic() - begun < 20
    assert kept_log(place) == said(30)


def test_row_5_too_busy(place: Place, kubectl: Kubectl, proxy: FaultProxy) -> None:
    process = place.start(*steps(place))
    place.wait_for(process, "train │ step 2")
    proxy.add(Rule("status", status=429, retry_after=2, times=6))
    proxy.outage(0)  # so that all of them ask again
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert kept_log(place) == said(30)
    busy = proxy.struck("status")
    assert len(busy) == 6
    for request in busy:  # nobody asks for the same again before it was told to
        again = [r.started for r in proxy.requests if (r.path, r.query) == (request.path, request.query)]
        assert min(at for at in [*again, float("inf")] if at > request.started) - request.started > 1.9


# --- 6: an outage ---


def test_row_6_an_outage_of_ten_seconds_is_waited_for(
    place: Place, kubectl: Kubectl, proxy: FaultProxy
) -> None:
    process = place.start(*steps(place, 60))
    place.wait_for(process, "train │ step 2")
    proxy.outage(10)  # and the stage ends during it
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert kept_log(place) == said(60)
    assert one_pod(kubectl)


def test_row_6_an_outage_while_the_job_is_created(place: Place, kubectl: Kubectl, proxy: FaultProxy) -> None:
    proxy.add(Rule("refuse", method="POST", path="*/jobs", seconds=5, times=1))
    ends_well(place, kubectl, 5)


def test_row_6_answers_of_503(place: Place, kubectl: Kubectl, proxy: FaultProxy) -> None:
    process = place.start(*steps(place, 300), "--api-timeout", "10")
    place.wait_for(process, "train │ step 2")
    proxy.add(Rule("status", status=503))
    proxy.outage(0)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5, err
    assert "re-attach" in err
    proxy.clear()
    again_ends_well(place, kubectl, 300)


def test_row_6_an_outage_that_is_too_long_and_then_again(
    place: Place, kubectl: Kubectl, proxy: FaultProxy
) -> None:
    process = place.start(*steps(place, 500), "--api-timeout", "10")
    place.wait_for(process, "train │ step 2")
    proxy.outage(25)
    begun = time.monotonic()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5, err
    assert time.monotonic() - begun < 25
    assert "does not answer" in err
    assert "run the same command again to re-attach" in err

    time.sleep(max(begun + 25.5 - time.monotonic(), 0))
    again_ends_well(place, kubectl, 500)


def again_ends_well(place: Place, kubectl: Kubectl, count: int) -> None:
    again = place.run(*steps(place, count))
    assert "re-attached to Job a-train" in again.err, again.err
    assert one_pod(kubectl)
    assert kept_log(place) == said(count)


# --- 7: the reply to a create is lost ---


@pytest.mark.parametrize("fault", ["lose-reply", "lose-request"])
@pytest.mark.parametrize("kind", ["jobs", "configmaps", "namespaces"])
def test_row_7_a_create_that_is_not_answered(
    place: Place, kubectl: Kubectl, proxy: FaultProxy, kind: str, fault: Any
) -> None:
    proxy.add(Rule(fault, method="POST", path=f"*/{kind}", times=2))
    ends_well(place, kubectl, 3)
    assert proxy.struck(fault)


@pytest.mark.parametrize("fault", ["lose-reply", "lose-request"])
def test_row_7_the_volume_pod_leaves_nothing_behind(
    place: Place, kubectl: Kubectl, proxy: FaultProxy, fault: Any
) -> None:
    # a Pod of its own is made only to fetch; that it was made, and removed, is not answered either
    place.run(*steps(place, 3))
    proxy.add(Rule(fault, method="POST", path="*/pods", times=1))
    proxy.add(Rule(fault, method="DELETE", path="*/pods/*", times=1))
    listed = place.run("list", "--recorded", "-o", "json").json()
    assert isinstance(listed, list)
    assert len(proxy.struck(fault)) == 2
    assert kubectl.wait_until(lambda: len(kubectl.items("pods")) == 1)


def test_row_7_nobody_answers_the_create_of_the_volume_pod(
    place: Place, kubectl: Kubectl, proxy: FaultProxy
) -> None:
    place.run(*steps(place, 3))
    proxy.add(Rule("lose-reply", method="POST", path="*/pods"))
    proxy.add(Rule("lose-reply", method="GET", path="*/pods/jobrelay-volume-*"))
    place.run("list", "--recorded", "--api-timeout", "3", expect=5)
    assert kubectl.wait_until(lambda: len(kubectl.items("pods")) == 1)


# --- 1, 2 and exec: results on their way home ---


def test_row_1_a_fetch_that_is_half_open(place: Place, kubectl: Kubectl, proxy: FaultProxy) -> None:
    place.run(*steps(place, 3))
    proxy.add(Rule("stall", on="exec", after=1))
    begun = time.monotonic()
    result = place.run("list", "--recorded", expect=5)
    assert "run the same command again" in result.err
    assert time.monotonic() - begun < 60
    assert kubectl.wait_until(lambda: len(kubectl.items("pods")) == 1)


# --- 8: credentials ---


def test_row_8_a_token_that_has_expired_and_is_renewed(
    place: Place, kubectl: Kubectl, proxy: FaultProxy
) -> None:
    process = place.start(*steps(place))
    place.wait_for(process, "train │ step 2")
    # each asks again with what the kubeconfig says by then
    proxy.add(Rule("status", status=401, path="*/log", times=1))
    proxy.add(Rule("status", status=401, path="*/pods", on="watch", times=1))
    proxy.add(Rule("status", status=401, path="*/jobs", on="watch", times=1))
    proxy.outage(0)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert len(proxy.struck("status")) == 3
    assert kept_log(place) == said(30)


def test_row_8_a_token_that_has_expired(place: Place, kubectl: Kubectl, proxy: FaultProxy) -> None:
    process = place.start(*steps(place, 200))
    place.wait_for(process, "train │ step 2")
    proxy.add(Rule("status", status=401))
    proxy.outage(0)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5, err
    assert "no longer accepts the credentials" in err
    assert "log in again" in err
    assert "re-attach" in err
    proxy.clear()
    again_ends_well(place, kubectl, 200)


def test_row_8_a_token_that_was_never_good(place: Place, kubectl: Kubectl, proxy: FaultProxy) -> None:
    proxy.add(Rule("status", status=401))
    result = place.run(*steps(place), expect=2)
    assert "does not accept the credentials" in result.err


# --- 40, 41: the log ---


@pytest.mark.parametrize("fault", ["reset", "close"])
@pytest.mark.parametrize("follow", ["true", "false"], ids=["while-followed", "in-the-last-read"])
def test_row_40_the_log_is_cut_as_the_stage_ends(
    place: Place, kubectl: Kubectl, proxy: FaultProxy, fault: Any, follow: str
) -> None:
    # the last words are all in one piece, and of it only a part arrives
    program = "import time; print('begun', flush=True); time.sleep(2); print('last words\\n' * 500, end='')"
    folder = programs(place.folder / "m", train=program)
    proxy.add(Rule(fault, on="log", query={"follow": follow}, after=(1000, 15000), times=3))
    place.run("run", "train", "-k", str(folder), *ALONE)
    assert kept_log(place) == b"begun\n" + b"last words\n" * 500
    assert proxy.struck(fault)


#: 100,000 lines over twelve seconds. Then it is silent: what a busy containerd has not read yet of a
#: container that ends, it may never read (its issue 7289), and what is cut here is the way to the launcher.
NUMBERED = """
import sys, time
begun = time.monotonic()
for i in range(100000):
    sys.stdout.write(f"line {i:06}\\n")
    if i % 500 == 499:
        sys.stdout.flush()
        time.sleep(max(begun + i * 12 / 100000 - time.monotonic(), 0))
time.sleep(3)
"""


@pytest.mark.parametrize("fault", ["reset", "close"])
def test_row_41_a_log_that_is_cut_twenty_times_is_byte_identical(
    place: Place, kubectl: Kubectl, proxy: FaultProxy, fault: Any
) -> None:
    folder = programs(place.folder / "m", train=NUMBERED)
    # some cuts come within what was read before, some behind it
    proxy.add(Rule(fault, on="log", after=(0, 1_500_000), times=30, seed=41))
    place.run("run", "train", "-k", str(folder), *ALONE, "-q")
    expected = b"".join(b"line %06d\n" % i for i in range(100_000))
    assert kept_log(place) == expected
    assert len(proxy.struck(fault)) >= 20


def test_row_44_a_line_of_a_megabyte_that_grows_while_it_is_cut(
    place: Place, kubectl: Kubectl, proxy: FaultProxy
) -> None:
    program = """
        import sys, time
        for i in range(60):
            sys.stdout.write("%05d\\r" % i * 3000)
            sys.stdout.flush()
            time.sleep(0.1)
        print("and so on")
        for i in range(20):
            print("step", i, flush=True)
            time.sleep(0.1)
    """
    folder = programs(place.folder / "m", train=program)
    proxy.add(Rule("reset", on="log", after_seconds=(0.3, 1.2), times=12, seed=44))
    place.run("run", "train", "-k", str(folder), *ALONE, "-q")
    long = b"".join(b"%05d\r" % i * 3000 for i in range(60))
    assert kept_log(place) == long + b"and so on\n" + said(20)
    assert len(proxy.struck("reset")) > 1
