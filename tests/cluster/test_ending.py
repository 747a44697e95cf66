"""Jobs that end in ways that only a cluster knows."""

from __future__ import annotations

import textwrap

from faultproxy import FaultProxy, Rule
from tests.support import (
    LONG,
    PATIENCE,
    QUICK,
    Object,
    Place,
    changed,
    pod_spec,
    programs,
    set_command,
    write_manifests,
)
from tests.support.kubectl import Kubectl

NEVER_FETCH = ("--run", "a", "--no-fetch")


def test_row_27_only_complete_or_failed_ends_a_job(place: Place, kubectl: Kubectl) -> None:
    kubectl.needs(31, "a Job that has failed only when its Pods have ended")
    program = """
        import signal, time
        said = []
        signal.signal(signal.SIGTERM, lambda *_: said.append(1))
        print("begun", flush=True)
        while not said:
            time.sleep(0.1)
        time.sleep(5)
        print("the last line, 5 s after SIGTERM", flush=True)
    """

    def own_deadline(stage: str, job: Object) -> None:
        set_command(job, ["python", "-c", textwrap.dedent(program)])
        # not before it heeds SIGTERM, which ends no first process of a container that has no handler for it
        job["spec"].update(activeDeadlineSeconds=20, backoffLimit=0)

    folder = write_manifests(place.folder / "m", own_deadline)
    result = place.run("run-all", "-k", str(folder), *NEVER_FETCH, expect=4)
    assert "the last line, 5 s after SIGTERM" in result.err
    assert "DeadlineExceeded" in result.err


def test_row_31_out_of_memory(place: Place) -> None:
    program = "x = bytearray(400 * 2**20); print('survived', flush=True)"
    folder = programs(place.folder / "m", train=program)
    result = place.run("run-all", "-k", str(folder), *NEVER_FETCH, "--set", "train.memory=128Mi", expect=1)
    assert "out of memory (limit 128 MiB" in result.err
    assert "--set train.memory=" in result.err
    assert "survived" not in result.err


def test_row_31_a_worker_that_is_out_of_memory(place: Place) -> None:
    program = """
        import os
        worker = os.fork()
        if worker == 0:
            x = bytearray(400 * 2**20)
            os._exit(0)
        _, status = os.waitpid(worker, 0)
        print("the worker ended with", status, flush=True)
        raise SystemExit(bool(status))
    """
    folder = programs(place.folder / "m", train=program)
    result = place.run("run-all", "-k", str(folder), *NEVER_FETCH, "--set", "train.memory=128Mi", expect=1)
    assert "out of memory (limit 128 MiB" in result.err
    assert "--set train.memory=256Mi --run" in result.err


def test_row_31_the_real_training_out_of_memory(place: Place) -> None:
    limits = ("--set", "train.memory=128Mi", "--set", "train.backoff_limit=0")
    result = place.run("run-all", "--run", "a", *limits, expect=1)
    assert "out of memory" in result.err
    assert "--set train.memory=" in result.err
    assert "128 MiB" in result.err


def test_row_38_a_job_that_is_deleted(place: Place, kubectl: Kubectl) -> None:
    folder = programs(place.folder / "m", train="import time; print('on', flush=True); time.sleep(60)")
    process = place.start("run-all", "-k", str(folder), *NEVER_FETCH)
    place.wait_for(process, "train │ on")
    kubectl("delete", "job", "a-train", "--wait=false")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 8
    assert "deleted" in err
    assert kubectl.wait_until(lambda: not kubectl.items("jobs"), seconds=60)  # and none was made in its place


def test_row_38_a_job_that_is_deleted_and_made_anew_by_somebody_else(place: Place, kubectl: Kubectl) -> None:
    folder = programs(place.folder / "m", train="import time; print('on', flush=True); time.sleep(60)")
    process = place.start("run-all", "-k", str(folder), *NEVER_FETCH)
    place.wait_for(process, "train │ on")
    job = kubectl.get("job", "a-train")
    kubectl("delete", "job", "a-train", "--wait=false")
    assert kubectl.wait_until(lambda: not kubectl.exists("job", "a-train"))
    template = {"metadata": {}, "spec": job["spec"]["template"]["spec"]}
    kubectl.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "a-train", "labels": job["metadata"]["labels"]},
            "spec": {"template": template, "backoffLimit": 0},
        }
    )
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 8  # another uid is another Job


def test_row_39_jobs_go_once_their_results_are_home_or_it_is_said_that_they_stay(
    place: Place, kubectl: Kubectl
) -> None:
    """Whether a server acts upon a time to live is a feature gate before 1.21."""
    result = place.run("run-all", "--run", "a", "--ttl", "3", *QUICK)
    assert (place.folder / "runs/a/eval_results.json").exists()
    stay = "--ttl has no effect here" in result.err
    assert not (stay and kubectl.minor >= 21)
    gone = kubectl.wait_until(lambda: not kubectl.items("jobs"), seconds=15 if stay else PATIENCE)
    assert gone is not stay


def test_row_50_a_sidecar_that_never_ends(place: Place) -> None:
    def with_sidecar(pod: Object, job: Object) -> None:
        sleeper = {**pod["containers"][0], "name": "sleeper", "resources": {}}
        pod["containers"].append({**sleeper, "command": ["python", "-c", "import time; time.sleep(100)"]})
        pod["terminationGracePeriodSeconds"] = 1

    folder = changed(place.folder / "m", with_sidecar)
    result = place.run("run-all", "-k", str(folder), *NEVER_FETCH, "--timeout", "10", expect=4)
    assert "the stage has ended; still running: sleeper" in result.err


def test_row_53_a_volume_that_is_full(place: Place) -> None:
    def small(stage: str, job: Object) -> None:
        if stage == "train":  # no file may be larger: the same error path as a full disk
            container = pod_spec(job)["containers"][0]
            container["command"] = ["sh", "-c", "ulimit -f 60; exec python -m jobrelay_train train"]
            container.pop("args")
            job["spec"]["backoffLimit"] = 0

    folder = write_manifests(place.folder / "m", small)
    result = place.run("run-all", "-k", str(folder), "--run", "a", *QUICK, expect=1)
    assert "cannot write" in result.err
    assert "make room" in result.err
    place.run("run-all", "--run", "a", *QUICK)  # with room it goes on


def test_row_54_sigterm_saves_and_the_next_pod_goes_on(place: Place, kubectl: Kubectl) -> None:
    process = place.start("run-all", "--run", "a", "-o", "json", *LONG)
    place.wait_for(process, "train │ epoch 2/")
    pod = kubectl.pods_alive("a-train")[0]
    kubectl("delete", "pod", pod, "--grace-period=5", "--wait=false")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "stopped by SIGTERM after epoch" in err  # PID 1 has passed it on
    assert "resuming from epoch" in err


def test_row_37_results_that_cannot_be_fetched_leave_table_and_json(
    place: Place, kubectl: Kubectl, proxy: FaultProxy
) -> None:
    proxy.add(Rule("status", status=403, method="POST", path="*/pods"))
    result = place.run("run-all", "--run", "a", *QUICK, "-o", "json", expect=7)
    assert [stage["verdict"]["exit_code"] for stage in result.json()["stages"]] == [0, 0, 0]
    assert "their results could not be fetched" in result.json()["incomplete"]
    assert "✓ infer" in result.err
    assert "fetch a" in result.err
    proxy.clear()
    assert "files" in place.run("fetch", "a").out


def test_the_next_run_asks_for_what_the_last_one_used(place: Place) -> None:
    arguments = ("run", "train", "--set", "model.name=perceptron", "--set", "train.epochs=1")
    little = ("--set", "train.cpu=50m")  # more is suggested on a node that is crowded, too
    first = place.run(*arguments, *little, "--run", "a", "-o", "json").json()["stages"][0]
    sized = (*arguments, "--set", "train.autosize=true", "-o", "json")
    second = place.run(*sized)
    again = place.run(*sized)

    assert first["resources"]["requests"]["cpu"] == "50m"
    suggested = first["suggestion"]
    assert suggested["cpu"]
    assert "train: autosize: cpu" in second.err
    assert "after run a" in second.err
    resources = second.json()["stages"][0]["resources"]
    assert str(resources["requests"]["cpu"]) == suggested["cpu"]
    assert resources["limits"]["memory"] == suggested["memory"] or not suggested["memory"]
    assert again.json()["run"] == second.json()["run"] != "a"
    assert again.json()["stages"][0]["how"] == "complete"
