"""A stage that runs as several Pods: what is rendered, and what a user is told of the Pods together."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobrelay import manifests
from jobrelay.console import Console
from jobrelay.errors import BadInput, Exit
from jobrelay.executors.base import Submission
from jobrelay.executors.cluster import preflight
from jobrelay.kube.labels import LABEL_RUN
from jobrelay.kube.read import last_pod, pods_of
from jobrelay.manifests import Plan
from jobrelay.runs.report import RunReport
from jobrelay.runs.results import Fetched
from jobrelay.runs.stage.log_copies import LogCollector
from jobrelay.runs.stage.reporting import stage_report
from jobrelay.verdicts import JobView, Patience, Verdict, Waiting, judge, may_resume
from jobrelay_runner.volume.record import LogDigest, parse_closing
from jobrelay_train.config.loading import resolve
from tests.support import BASE, changed, pod_spec
from tests.support import objects as o

Object = dict[str, Any]

NODES = ("train.strategy=ddp", "train.nodes=3")


def rendered(*overrides: str, run: str = "2026-a") -> Plan:
    return manifests.render(o.base(), resolve(o.base().config, overrides), run)


# --- rendering -----------------------------------------------------------------------------------


def test_train_becomes_an_indexed_job() -> None:
    train = rendered(*NODES).jobs["train"]
    assert {key: train["spec"][key] for key in ("completionMode", "completions", "parallelism")} == {
        "completionMode": "Indexed", "completions": 3, "parallelism": 3,
    }  # fmt: skip
    assert pods_of(train) == 3


@pytest.mark.parametrize("stage", ["eval", "infer"])
def test_the_other_stages_stay_as_they_are(stage: Any) -> None:
    alone, together = rendered().jobs[stage], rendered(*NODES).jobs[stage]
    assert together["spec"].keys() == alone["spec"].keys()
    assert pods_of(together) == 1


def test_one_node_is_rendered_as_ever() -> None:
    plan = rendered("train.strategy=ddp", "train.nodes=1")
    assert plan.services == ()
    assert "completionMode" not in plan.jobs["train"]["spec"]
    assert "affinity" in pod_spec(plan.jobs["train"])


def test_the_pods_find_the_first_by_its_name() -> None:
    plan = rendered(*NODES)
    (service,) = plan.services
    template = plan.jobs["train"]["spec"]["template"]
    assert service["metadata"]["name"] == "train-2026-a"  # a Service's begins with a letter
    assert service["metadata"]["labels"][LABEL_RUN] == "2026-a"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert template["spec"]["subdomain"] == service["metadata"]["name"]
    environment = {v["name"]: v for v in template["spec"]["containers"][0]["env"]}
    assert environment["JOBRELAY_LEADER"]["value"] == "2026-a-train-0.train-2026-a"
    assert environment["JOBRELAY_ADDRESS"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    assert o.names(plan.objects()).index("Service train-2026-a") < o.names(plan.objects()).index(
        "Job 2026-a-train"
    )


def test_the_pods_prefer_different_nodes() -> None:
    affinity = pod_spec(rendered(*NODES).jobs["train"])["affinity"]
    assert "podAffinity" not in affinity  # towards the volume: all would go to one node
    (apart,) = affinity["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert apart["podAffinityTerm"]["labelSelector"]["matchLabels"][LABEL_RUN] == "2026-a"


NODE = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
REQUIRED = {"requiredDuringSchedulingIgnoredDuringExecution": []}


@pytest.mark.parametrize(
    ("affinity", "kept"),
    [
        ({}, {}),
        ({"nodeAffinity": NODE}, {"nodeAffinity": NODE}),
        ({"podAffinity": REQUIRED}, {"podAffinity": REQUIRED}),
        ({"podAntiAffinity": REQUIRED}, {}),
    ],
    ids=["none", "nodes", "required", "apart"],
)
def test_what_a_manifest_says_of_affinity_stays(tmp_path: Path, affinity: Object, kept: Object) -> None:
    folder = changed(tmp_path / "m", lambda spec, job: spec.update(affinity=affinity))
    plan = manifests.render(manifests.load(folder), resolve({}, NODES), "a")
    found = pod_spec(plan.jobs["train"])["affinity"]
    apart = found.pop("podAntiAffinity")
    assert len(apart["preferredDuringSchedulingIgnoredDuringExecution"]) == 1
    assert found == kept
    assert apart.keys() >= affinity.get("podAntiAffinity", {}).keys()


@pytest.mark.parametrize(
    "change",
    [
        lambda spec, job: spec.update(affinity="x"),
        lambda spec, job: spec.update(affinity={"podAffinity": []}),
        lambda spec, job: spec.update(
            affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": {}}}
        ),
        lambda spec, job: job["spec"].update(backoffLimit="many"),
        lambda spec, job: job["spec"].update(completionMode="Indexed", completions=2),
    ],
    ids=["affinity", "podAffinity", "podAntiAffinity", "backoffLimit", "completions"],
)
def test_a_manifest_that_cannot_be_spread_is_bad_input(tmp_path: Path, change: Any) -> None:
    with pytest.raises(BadInput):
        manifests.load(changed(tmp_path / "m", change))


def test_the_hash_does_not_depend_on_the_name_of_the_run() -> None:
    assert rendered(*NODES).hash == rendered(*NODES, run="b").hash
    assert rendered(*NODES).hash != rendered("train.strategy=ddp", "train.nodes=2").hash


@pytest.mark.parametrize(("minor", "limit"), [(24, 8), (25, 8), (26, 2), (36, 2)])
def test_as_many_may_fail_as_one_takes_along(minor: int, limit: int) -> None:
    """From 1.26 on, those that only follow are not counted: then the limit is that of the manifest."""
    sent = manifests.for_server(rendered(*NODES).jobs["train"], minor)
    assert sent["spec"]["backoffLimit"] == limit
    alone = manifests.for_server(rendered().jobs["train"], minor)
    assert alone["spec"]["backoffLimit"] == 2


def test_the_network_is_open_between_them_alone() -> None:
    policy = yaml.safe_load((BASE / "networkpolicy-peers.yaml").read_text())
    (ingress,), (egress,) = policy["spec"]["ingress"], policy["spec"]["egress"]
    assert ingress["from"] == egress["to"] == [{"podSelector": policy["spec"]["podSelector"]}]
    for plan, matches in ((rendered(*NODES), True), (rendered(), False)):
        labels = plan.jobs["train"]["spec"]["template"]["metadata"]["labels"]
        selector = policy["spec"]["podSelector"]
        assert selector["matchLabels"].items() <= labels.items()
        assert all(e["key"] in labels for e in selector["matchExpressions"]) is matches


@pytest.mark.parametrize("minor", [20, 23])
def test_an_older_server_is_refused(minor: int) -> None:
    with pytest.raises(BadInput, match=rf"needs Indexed Jobs, and so Kubernetes 1\.24.* has 1\.{minor}"):
        preflight.check_version(rendered(*NODES), minor)
    preflight.check_version(rendered(*NODES), 24)
    preflight.check_version(rendered(), minor)


# --- verdicts ------------------------------------------------------------------------------------

JOB = o.job("train", completionMode="Indexed", completions=3, parallelism=3)
BACKOFF = o.condition("Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
FAILED = o.job("train", BACKOFF, completionMode="Indexed", completions=3, parallelism=3)


def at(second: int) -> str:
    return f"2026-11-21T14:30:{second:02}Z"


def pod(index: int, phase: str = "Running", suffix: str = "", created: int = 0, **status: Any) -> Object:
    found = o.pod(JOB, phase, f"{index}-{suffix or 'x7k2p'}", at(created), **status)
    found["metadata"]["annotations"] = {"batch.kubernetes.io/job-completion-index": str(index)}
    return found


def running(index: int) -> Object:
    return pod(index, containerStatuses=[o.running()], conditions=[o.SCHEDULED])


def failed(index: int, code: int, ended: int, created: int = 0, message: str = "") -> Object:
    state = o.terminated(code, message=message)
    state["state"]["terminated"]["finishedAt"] = at(ended)
    return pod(index, "Failed", f"{created}", created, containerStatuses=[state])


def unscheduled(index: int, text: str) -> Object:
    return pod(index, "Pending", conditions=[o.condition("PodScheduled", "False", "Unschedulable", text)])


def verdict(*pods: Object, job: Object = FAILED, lost: tuple[Object, ...] = ()) -> Verdict:
    judged = judge(JobView(job, pods, lost=lost))
    assert isinstance(judged, Verdict), judged
    return judged


def waits(*pods: Object, events: tuple[Object, ...] = ()) -> Waiting:
    judged = judge(JobView(JOB, pods, events))
    assert isinstance(judged, Waiting), judged
    return judged


def test_index_0_speaks_for_the_stage() -> None:
    job = o.job("train", o.condition("Complete"), completionMode="Indexed", completions=3)
    done = [pod(index, "Succeeded", created=index) for index in range(3)]
    assert verdict(*done, job=job).pod == "mnist-a-train-0-x7k2p"
    assert last_pod([*done, pod(0, suffix="newer", created=9)]) == pod(0, suffix="newer", created=9)


@pytest.mark.parametrize(
    ("pods", "index"),
    [
        ([failed(0, 76, 8), failed(1, 17, 7), failed(2, 76, 9)], 1),
        ([failed(0, 1, 9), failed(1, 1, 8), failed(2, 1, 7)], 2),
        # the first attempt was ended by 2, the last one by 0
        ([failed(2, 17, 3), failed(0, 76, 4), failed(0, 17, 9, created=5), failed(2, 76, 9, created=5)], 0),
        # the others were ended when the Job had failed
        ([failed(0, 143, 9), failed(1, 17, 7), failed(2, 143, 9)], 1),
        ([failed(0, 76, 8), failed(1, 76, 7)], 1),
    ],
    ids=[
        "followers-say-so",
        "the-first-of-all",
        "of-the-last-attempt",
        "ended-with-the-job",
        "followers-alone",
    ],
)
def test_the_verdict_names_the_one_that_was_lost_first(pods: list[Object], index: int) -> None:
    found = verdict(*pods)
    assert found.pod
    assert found.pod.startswith(f"mnist-a-train-{index}-")


def test_row_33_one_that_was_deleted_is_the_cause() -> None:
    gone = running(1)
    gone["metadata"] |= {"deletionTimestamp": at(5), "deletionGracePeriodSeconds": 0}
    found = verdict(failed(0, 76, 8), failed(2, 76, 8), lost=(gone,))
    assert (found.exit_code, found.reason, found.pod) == (Exit.DISRUPTED, "Deleted", gone["metadata"]["name"])
    assert may_resume(JobView(FAILED, [failed(0, 76, 8)], lost=[gone]), found, Patience())


def test_what_a_follower_says_is_told_where_it_is_all_there_is() -> None:
    said = o.closing(code=76, error="index 2 has not come")
    found = verdict(failed(0, 76, 8, message=said))
    assert (found.exit_code, found.message) == (Exit.FAILED, "index 2 has not come")


def test_all_at_work() -> None:
    waiting = waits(running(0), running(1), running(2))
    assert (waiting.phase, waiting.detail) == ("running", "")
    assert len(waiting.deadlines) == 3


def test_row_23_one_that_finds_no_room_is_told_with_its_index() -> None:
    waiting = waits(running(0), unscheduled(1, "0/2 nodes are available"), running(2))
    assert (waiting.phase, waiting.detail) == ("scheduling", "index 1: 0/2 nodes are available")
    late = next(limit.verdict for limit in waiting.deadlines if limit.key.startswith("schedule"))
    assert (late.exit_code, late.pod) == (Exit.COULD_NOT_START, "mnist-a-train-1-x7k2p")


def test_row_19_one_whose_image_is_missing_is_told_with_its_index() -> None:
    bad = pod(
        2, "Pending", conditions=[o.SCHEDULED], containerStatuses=[o.waiting("ErrImageNeverPull", "no")]
    )
    waiting = waits(running(0), running(1), bad)
    assert waiting.detail == "index 2: ErrImageNeverPull: no"
    assert min(limit.seconds for limit in waiting.deadlines) == 0


def test_row_17_one_that_is_not_created() -> None:
    refused = o.event(JOB, "FailedCreate", "pods is forbidden: exceeded quota: small")
    waiting = waits(running(0), running(1), events=(refused,))
    assert waiting.phase == "starting"
    assert "exceeded quota" in waiting.detail
    # one that was there once only waits for its next attempt
    again = waits(running(0), running(1), failed(2, 17, 5), events=(refused,))
    assert (again.phase, again.detail) == ("running", "")


@pytest.mark.parametrize(
    "text",
    [
        "0/2 nodes are available: 2 node(s) had volume node affinity conflict.",
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.",
    ],
)
def test_a_volume_of_one_node_is_explained(text: str) -> None:
    waiting = waits(running(0), unscheduled(1, text), running(2))
    hints = [str(limit.verdict.hint) for limit in waiting.deadlines]
    assert any("ReadWriteMany" in hint for hint in hints)


def test_a_volume_that_is_attached_elsewhere_is_explained() -> None:
    text = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) mnist-a-train-0-x7k2p'
    stuck = pod(1, "Pending", conditions=[o.SCHEDULED], containerStatuses=[o.waiting("ContainerCreating")])
    waiting = waits(running(0), stuck, running(2), events=(o.event(stuck, "FailedAttachVolume", text),))
    assert waiting.detail == f"index 1: FailedAttachVolume: {text}"
    assert any("ReadWriteMany" in str(limit.verdict.hint) for limit in waiting.deadlines)


# --- logs ----------------------------------------------------------------------------------------


class Executor:
    """Gives the log of each Pod, in two parts; of one it loses the second."""

    limits_resources = True

    def __init__(self, loses: int | None = None) -> None:
        self.loses = loses

    def read_log(self, pod: Object, container: str, sink: Any) -> None:
        sink(b"half ")
        if pod["metadata"]["name"].split("-")[3] != str(self.loses):
            sink(b"a line\n")


def read(executor: Any, folder: Path, *pods: Object, stderr: io.StringIO | None = None) -> LogCollector:
    console = Console(stderr=stderr or io.StringIO())
    collector = LogCollector(executor, "train", "train", folder, console.log_of)
    collector.notice(JobView(JOB, pods))
    collector.finish(5)
    return collector


def test_every_log_is_shown_with_its_index(tmp_path: Path) -> None:
    stderr = io.StringIO()
    read(Executor(), tmp_path, *map(running, range(3)), stderr=stderr)
    assert sorted(stderr.getvalue().splitlines()) == [f"train.{index} │ half a line" for index in range(3)]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"half a line\n"}
    assert len(list(tmp_path.iterdir())) == 3


COMPLETE = o.job("train", o.condition("Complete"), completionMode="Indexed", completions=3)
PRINTED = b"half a line\n"


def succeeded(index: int) -> Object:
    """A Pod that has printed one line, and says so."""
    said = parse_closing(o.closing())
    assert said
    digest = LogDigest(
        sha256=hashlib.sha256(PRINTED).hexdigest(), bytes=len(PRINTED), lines=1, file=f"logs/{index}.log"
    )
    message = replace(said, log=digest).message()
    return pod(index, "Succeeded", containerStatuses=[o.terminated(0, "Completed", message)])


@pytest.mark.parametrize(
    ("loses", "there", "complete"),
    [(None, 3, True), (0, 3, False), (2, 3, False), (None, 2, False)],
    ids=["all", "index-0-is-cut", "index-2-is-cut", "row-37-index-2-is-gone"],
)
def test_the_log_of_each_is_compared_with_what_it_says(
    tmp_path: Path, loses: int | None, there: int, complete: bool
) -> None:
    pods = [succeeded(index) for index in range(there)]
    collector = read(Executor(loses), tmp_path / "logs", *pods)
    view = JobView(COMPLETE, pods)
    found = verdict(*pods, job=COMPLETE)
    report = stage_report("train", Submission(COMPLETE, "created"), found, view, collector, "", True)
    assert report.log_complete is complete
    # what the volume has in its place counts if it is what each of them says
    fetched = Fetched(tmp_path, 0, 0, ("train",), ())
    home = RunReport("a", "here", tmp_path, [report], fetched)
    for index in (1, 2):
        (tmp_path / "logs" / f"{index}.log").write_bytes(PRINTED)
    assert home.has_log(report) is (there == 3)
    (tmp_path / "logs/1.log").write_bytes(b"half")
    assert not home.has_log(report)
