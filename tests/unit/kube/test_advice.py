"""Known errors of programs that the runner runs, and what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobrelay.errors import Exit
from jobrelay.hints import Command
from jobrelay.pipelines.definition import Pipeline, StageDefinition
from jobrelay.pipelines.jobs import manifests_of
from jobrelay.verdicts import JobView, Verdict, explained, judge
from jobrelay.verdicts.advice import advice
from jobrelay.verdicts.failures import not_started
from tests.support import objects as o


def job(**stage: Any) -> Any:
    """The Job of a stage of a jobrelay.yaml, which has failed."""
    pipeline = Pipeline("x", {"train": StageDefinition(run="python train.py", **stage)}, "python:3.12")
    made: Any = manifests_of(pipeline).jobs["train"]
    made["metadata"] |= {"uid": "uid-a", "labels": {**made["metadata"]["labels"], "jobrelay.dev/run": "a"}}
    made["status"] = {"conditions": [o.condition("Failed", "True", "BackoffLimitExceeded", "")]}
    return made


UNPICKLING = (
    "_pickle.UnpicklingError: Weights only load failed. This file can still be loaded …\n"
    "\t(1) In PyTorch 2.6, we changed the default of the `weights_only` argument in `torch.load`\n"
    "Check the documentation of torch.load to learn more about types accepted by default with weights_only "
    "https://pytorch.org/docs/stable/generated/torch.load.html.\n"
)


@pytest.mark.parametrize(
    ("output", "reported"),
    [
        (UNPICKLING, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD: 1"),
        (UNPICKLING.splitlines()[-1], "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD: 1"),
        ("OSError: [Errno 28] No space left on device: '/dev/shm/x'", "--set train.shm=2Gi"),
        ("ERROR: Unexpected bus error encountered in worker. This might be caused by", "train.shm=2Gi"),
        ("RuntimeError: unable to write to file </torch_12_3>", "train.shm=2Gi"),
        ("exit code 135 (SIGBUS)", "train.shm=2Gi"),
        ("OSError: [Errno 28] No space left on device: 'model.pt'", "remove old runs"),
        ("ModuleNotFoundError: No module named 'timm.models'", "the Python package timm in requirements:"),
        ("/usr/bin/python: No module named pytest", "the Python package pytest in requirements:"),
        ("ImportError: libGL.so.1: cannot open shared object file: No such", "has libGL.so.1"),
        ("PermissionError: [Errno 13] Permission denied: '/root/.cache'", "security: image"),
        ("mkdir: cannot create directory '/app/out': Permission denied", "security: image"),
        ("mkdir: cannot create directory ‘/app/out’: Permission denied", "--set train.security=image"),
        (
            "ERROR: Could not install packages due to an OSError: Permission denied: '/root/.local'",
            "security: image",
        ),
        ("OSError: [Errno 30] Read-only file system: '/opt/x'", "give /opt/x a folder"),
        ("AssertionError: Torch not compiled with CUDA enabled", "--set train.gpus=1"),
        ("RuntimeError: Found no NVIDIA driver on your system.", "device cpu"),
        ("requests.exceptions.ConnectionError: HTTPSConnectionPool(host='x')", "--data DIR:PATH"),
        ("urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>", "--data"),
        ("curl: (6) Could not resolve host: example.org", "--data DIR:PATH"),
    ],
)
def test_a_known_error_has_advice(output: str, reported: str) -> None:
    assert reported in advice(f"epoch 1\n{output}\nbye", job())


@pytest.mark.parametrize(
    "output",
    [
        "ValueError: bad batch",
        "PermissionError: [Errno 13] Permission denied: 'model.pt'",
        "PermissionError: [Errno 13] Permission denied: '/jobrelay/volume/runs/a/workspace/x'",
        "ConnectionRefusedError: [Errno 111] Connection refused",
        "loading with weights_only=False",
        "",
    ],
)
def test_any_other_has_none(output: str) -> None:
    assert advice(output, job()) == ""


def test_the_last_error_counts() -> None:
    reported = advice("No module named 'wandb'\n…\nurllib.error.URLError: no answer\n", job())
    assert "--data" in reported
    assert "wandb" not in reported


def test_what_the_stage_already_has_is_not_advised() -> None:
    gpu = "Found no NVIDIA driver on your system."
    assert "gpus=1" not in advice(gpu, job(gpus=1))
    assert "shm=8Gi" in advice("Unexpected bus error", job(shm="4Gi"))
    denied = "Permission denied: '/root/x'"
    assert "security" not in advice(denied, job(security="image"))
    assert "give /root/x a folder of the workspace with mounts:" in advice(denied, job(security="image"))


@pytest.mark.parametrize(
    "output",
    ["Unexpected bus error", "Permission denied: '/root/x'", "Found no NVIDIA driver", "No module named 'x'"],
)
def test_of_this_machine_no_container_is_advised(output: str) -> None:
    reported = advice(output, job(), is_local=True)
    assert reported
    assert "image" not in reported
    assert "--set" not in reported


def failed(made: Any, error: str) -> Verdict:
    pod = o.failed(made, o.terminated(1, message=o.closing("train", 1, error)))
    verdict = judge(JobView(made, [pod]))
    assert isinstance(verdict, Verdict)
    return verdict


def test_the_verdict_carries_it() -> None:
    made = job()
    verdict = failed(made, "ended with exit code 1: ModuleNotFoundError: No module named 'timm'")
    assert "timm in requirements:" in str(explained(verdict, made, "", is_local=False).hint)
    plain = failed(made, "ended with exit code 1: ValueError: x")
    assert explained(plain, made, "", is_local=False).hint == Command("logs", "a", "train")
    assert "--data" in str(explained(plain, made, "URLError: no\nValueError: x", is_local=False).hint)


def test_other_jobs_and_other_verdicts_keep_theirs() -> None:
    ours = o.job("train", o.condition("Failed", "True", "BackoffLimitExceeded", ""))
    verdict = failed(ours, "No module named 'timm'")
    assert explained(verdict, ours, "No module named 'timm'", is_local=False) == verdict
    good = Verdict(Exit.SUCCEEDED, "succeeded", "", "", hint=Command("logs", "a", "train"))
    assert explained(good, job(), "No module named 'timm'", is_local=False) == good


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
        ("CreateContainerConfigError", "container has runAsNonRoot and image has non-numeric user (app)"),
        ("FailedCreate", 'pods "a" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot'),
    ],
)
def test_a_refused_user_names_the_other_security(reason: str, message: str) -> None:
    assert "--set train.security=image" in str(not_started(job(), "p", reason, message).hint)
    image = job(security="image")
    assert "--set train.security=restricted" in str(not_started(image, "p", reason, message).hint)
    assert "security=" not in str(not_started(o.job(), "p", reason, message).hint)


def test_another_refusal_does_not() -> None:
    verdict = not_started(job(), "p", "CreateContainerConfigError", 'secret "x" not found')
    assert verdict.hint == "create the object that the message names"


def test_a_path_is_named_as_it_is(tmp_path: Path) -> None:
    reported = advice(f"Permission denied: '/{'x' * 500}\x1b[31m'", job())
    assert len(reported) < 300
    assert "\x1b" not in reported
