"""jobrelay.yaml: what is read, and bad input, each reported before anything is created."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobrelay.errors import BadInput
from jobrelay.pipelines.config import ProgramConfig
from jobrelay.pipelines.definition import Pipeline
from jobrelay.pipelines.jobs import command_of, manifests_of
from jobrelay.pipelines.parameters import fill
from jobrelay.pipelines.reading import read, with_data, with_overrides


def pipeline(folder: Path, text: str) -> Pipeline:
    path = folder / "jobrelay.yaml"
    path.write_text(text)
    return read(path)


BAD = {
    "unknown-key": ("stages: {a: {run: x, cpus: 2}}", "cpus: there is no such key; did you mean cpu?"),
    "unknown-key-of-the-file": ("stage: {a: {run: x}}", "did you mean stages?"),
    "no-stages": ("stages: {}", "stages: there is none"),
    "not-a-label": ("stages: {Train_1: {run: x}}", "stage 'Train_1': must be lower-case"),
    "too-long-a-name": (f"stages: {{{'a' * 23}: {{run: x}}}}", "at most 22 characters"),
    "a-taken-name": ("stages: {report: {run: x}}", "is another file"),
    "twice": ("stages:\n  a: {run: x}\n  a: {run: y}", "the key 'a' appears twice"),
    "no-run": ("stages: {a: {cpu: 1}}", "stages.a.run: it is missing"),
    "absent-code": ("code: nowhere\nstages: {a: {run: x}}", "code: "),
    "absent-data": ("data: {d: nowhere}\nstages: {a: {run: x}}", "data.d: "),
    "absent-requirements": ("requirements: r.txt\nstages: {a: {run: x}}", "requirements: "),
    "mount-over-root": ("stages: {a: {run: x, mounts: {/: m}}}", "/ cannot be covered by a mount"),
    "mount-over-ours": ("stages: {a: {run: x, mounts: {/jobrelay/run: m}}}", "cannot be covered by a mount"),
    "mount-out": ("stages: {a: {run: x, mounts: {/m: ../m}}}", "'../m' leads out of the workspace"),
    "mount-twice": ("stages: {a: {run: x, mounts: {/m: a, /m/: b}}}", "/m is there twice"),
    "mount-of-no-data": ("stages: {a: {run: x, mounts: {/m: data/x}}}", "there is no data.x"),
    "no-mapping": ("- a", "a mapping with `stages:` is expected"),
    "gpus": ("stages: {a: {run: x, gpus: -1}}", "stages.a.gpus"),
    "security": ("security: root\nstages: {a: {run: x}}", "security"),
}


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_input(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(BadInput) as error:
        pipeline(tmp_path, text)
    assert expected in error.value.what + str(error.value.hint)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        pipeline(tmp_path, "stages: {a: {cpu: 1}, B: {run: x}}")
    assert "stages.a.run" in error.value.what
    assert "stage 'B'" in error.value.what


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("python t.py --lr {lr} --n={n}", "python t.py --lr 0.1 --n=3"),
        ("awk '{print}' x", "awk '{print}' x"),
        ("find . -exec rm {} ;", "find . -exec rm {} ;"),
        ('echo {"a": 1}', 'echo {"a": 1}'),
        ("echo {{lr}}", "echo {lr}"),
        ("{flag}", "true"),
        ("model-{n}.pt", "model-3.pt"),
    ],
)
def test_parameters(text: str, filled: str) -> None:
    assert fill(text, {"lr": 0.1, "n": 3, "flag": True}, "run") == filled


def test_a_parameter_that_is_not_there_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(BadInput) as error:
        fill("python t.py --lr {lrr}", {"lr": 0.1}, "stages.train.run")
    assert "stages.train.run: there is no parameter lrr" in error.value.what
    assert "{lr}?" in str(error.value.hint)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("python train.py --lr 0.1", ["python", "train.py", "--lr", "0.1"]),
        ("python a.py && python b.py", ["sh", "-c", "python a.py && python b.py"]),
        ("echo 'a b'", ["sh", "-c", "echo 'a b'"]),
        (("python", "a b"), ["python", "a b"]),
    ],
)
def test_text_needs_a_shell_only_where_it_uses_one(run: str | tuple[str, ...], words: list[str]) -> None:
    assert command_of(run) == words


def test_overrides_change_parameters_and_keys_of_stages(tmp_path: Path) -> None:
    given = pipeline(tmp_path, "params: {lr: 0.1}\nstages: {a: {run: 'x {lr}'}}")
    changed = with_overrides(given, ["lr=1e-3", "a.memory=2Gi"])
    assert ProgramConfig(changed).command("a") == ["x", "1e-3"]
    assert changed.stages["a"].memory == "2Gi"
    for text, expected in (("lrr=1", "did you mean lr?"), ("a.cpus=1", "a.cpu"), ("lr", "KEY=VALUE")):
        with pytest.raises(BadInput) as error:
            with_overrides(given, [text])
        assert expected in error.value.what + str(error.value.hint)


def test_data_of_the_command_line_is_mounted_in_every_stage(tmp_path: Path) -> None:
    (tmp_path / "Some Data").mkdir()
    given = pipeline(tmp_path, "stages: {a: {run: x}, b: {run: y}}")
    with_it = with_data(given, [f"{tmp_path / 'Some Data'}:/data", f"{tmp_path / 'Some Data'}:../data"])
    assert with_it.data == {"some-data": tmp_path / "Some Data"}
    for stage in with_it.stages.values():
        assert stage.mounts == {"/data": "data/some-data", "../data": "data/some-data"}
    with pytest.raises(BadInput, match="DIR:PATH is expected"):
        with_data(given, ["nowhere:/data"])


def test_a_job_has_what_its_stage_asks_for(tmp_path: Path) -> None:
    text = """
image: python:3.12
stages:
  a:
    run: [python, -c, "print('$(date)')"]
    cpu: 1500m
    memory: 2Gi
    gpus: 2
    shm: 3Gi
    retries: 2
    grace_seconds: 60
    queue: team
    env: {A: 1}
    secrets: {TOKEN: hub/token}
    mounts: {/opt/model: model, /opt: ., ../data: model}
  b: {run: x, security: image}
"""
    given = pipeline(tmp_path, text)
    loaded, config = manifests_of(given), ProgramConfig(given)
    job = loaded.jobs["a"]
    config.fill("a", job)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (main,) = pod["containers"]
    assert main["args"][:3] == ["stage", "a", "--"]
    assert main["args"][-1] == "print('$$(date)')"  # Kubernetes would replace $(date)
    assert main["resources"]["requests"] == {"cpu": "1500m", "memory": "2Gi"}
    assert main["resources"]["limits"] == {"memory": "2Gi", "nvidia.com/gpu": "2"}
    env = {variable["name"]: variable for variable in main["env"]}
    assert env["A"]["value"] == "1"
    assert env["OMP_NUM_THREADS"]["value"] == "2"
    assert env["TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    mounts = [(mount["mountPath"], mount.get("subPathExpr")) for mount in main["volumeMounts"]]
    work = "runs/$(JOBRELAY_RUN)/workspace"
    assert mounts[-2:] == [("/opt", work), ("/opt/model", f"{work}/model")]
    assert spec["backoffLimit"] == 2
    assert pod["terminationGracePeriodSeconds"] == 60
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert pod["securityContext"]["runAsNonRoot"] is True
    other = loaded.jobs["b"]["spec"]["template"]["spec"]
    assert other["securityContext"] == {}
    assert "securityContext" not in other["containers"][0]
    assert other["initContainers"][0]["args"] == ["wait", "a"]
    texts = [text for text in config.config_files().values() if isinstance(text, str)]
    assert not any("hub" in text for text in texts)


def test_the_record_has_how_a_stage_was_started(tmp_path: Path) -> None:
    config = ProgramConfig(
        pipeline(
            tmp_path,
            "image: python:3.12\nparams: {lr: 0.1}\n"
            "stages: {a: {run: 'python a.py --lr {lr} | tee log'}, b: {run: [python, a b.py], image: 'x:1'}}",
        )
    )
    tree = json.loads(config.config_files()["pipeline.json"])
    means = {name: stage["means"] for name, stage in tree["stages"].items()}
    assert means["a"].pop("code") == tree["code"]
    assert means["a"] == {
        "params.lr": "0.1", "command": "python a.py --lr 0.1 | tee log", "image": "python:3.12",
    }  # fmt: skip
    assert (means["b"]["command"], means["b"]["image"]) == ("python 'a b.py'", "x:1")
