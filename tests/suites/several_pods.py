"""Stages with several Pods, on both executors; like conformance, inherited by one class per folder."""

from __future__ import annotations

import hashlib
import json
import textwrap
from pathlib import Path

from tests.support import LITTLE, Object, Place, pod_spec, set_command, write_manifests

#: The keys that make train a Job of three Pods.
NODES = ("--set", "train.strategy=ddp", "--set", "train.nodes=3", *LITTLE)

#: The jobs' own entry point, with a stage of a few lines in place of the one that imports torch.
_STAGE = """
import os, sys, time
from pathlib import Path
from jobrelay_runner.context import StageResult
from jobrelay_train import __main__, program
from jobrelay_train.distributed.rendezvous import rendezvous

volume = Path(os.environ["JOBRELAY_VOLUME"])

def stage(context, stop):
    index = context.index
    outputs = {{}}
{body}
    return StageResult(outputs=outputs, metrics={{"accuracy": index + 0.5}})

program._load = lambda *_: stage
sys.exit(__main__.main(["train"]))
"""

_MEETS = """
with rendezvous(context) as meeting:
    print("index", index, "met", meeting.token, flush=True)
    if index == 0:
        context.fence.write(context.folder.model, meeting.token)
        outputs = context.digests(context.folder.model)
"""

#: As the docstring of jobrelay_train.distributed.rendezvous has it.
_SUMS = """
import torch
from torch.distributed import PrefixStore, TCPStore, all_reduce, destroy_process_group, init_process_group
with rendezvous(context) as meeting:
    store = TCPStore(
        meeting.address, meeting.port, is_master=meeting.index == 0, master_listen_fd=meeting.take_listener()
    )
    init_process_group("gloo", store=PrefixStore(meeting.token, store), rank=index, world_size=3)
    total = torch.tensor([10.0**index])
    all_reduce(total)
    print("index", index, "sum", int(total), flush=True)
    destroy_process_group()
"""

#: One of three is lost after they have met, once.
_LOSES_ONE = """
marker = volume / "lost"
again = marker.exists()
with rendezvous(context) as meeting:
    print("index", index, "met", flush=True)
    if index == 1 and not again:
        marker.touch()
        os._exit(17)
    if not again and meeting.lost(seconds=20) is not None:
        raise RuntimeError("Connection closed by peer")  # as torch.distributed does
"""


def stage(folder: Path, body: str, backoff_limit: int = 0, image: str = "") -> Path:
    """Manifests whose train runs `body`; eval and infer print their names."""

    def change(stage: str, job: Object) -> None:
        program = _STAGE.format(body=textwrap.indent(textwrap.dedent(body), "    "))
        set_command(job, ["python", "-c", program if stage == "train" else f"print('{stage}')"])
        job["spec"]["backoffLimit"] = backoff_limit
        pod_spec(job)["terminationGracePeriodSeconds"] = 5

    return write_manifests(folder, change)


class SeveralPods:
    """What every executor must do with train.nodes=3."""

    def test_all_meet_and_one_writes(self, place: Place) -> None:
        folder = stage(place.folder / "m", _MEETS)
        result = place.run("run", "train", "--run", "a", "-k", str(folder), "-o", "json", *NODES)

        (train,) = result.json()["stages"]
        assert (train["pods"], train["log_complete"]) == (3, True)
        assert train["metrics"] == {"accuracy": 0.5}  # those of index 0
        home = place.folder / "runs/a"
        token = (home / "model.pt").read_text()
        for index in range(3):
            assert f"train.{index} │ index {index} met {token}" in result.err
            (log,) = (home / "logs").glob(f"train-a-train-{index}-*.log")
            assert log.read_text() == f"index {index} met {token}\n"
        record = json.loads((home / "train.json").read_text())
        assert record["pod"].startswith("a-train-0-")
        assert hashlib.sha256(token.encode()).hexdigest() == record["outputs"]["model.pt"]["sha256"]
        assert train["verdict"]["pod"] == record["pod"]
        assert not list(home.rglob("*.partial"))

    def test_they_compute_together(self, place: Place) -> None:
        folder = stage(place.folder / "m", _SUMS)
        result = place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", *NODES)
        for index in range(3):
            assert f"train.{index} │ index {index} sum 111" in result.err

    def test_the_same_again_ends_at_once(self, place: Place) -> None:
        folder = stage(place.folder / "m", _MEETS)
        arguments = ("run", "train", "--run", "a", "-k", str(folder), *NODES)
        place.run(*arguments)
        before = (place.folder / "runs/a/train.json").read_bytes()
        deleted = place.run("delete", "a").out
        assert "Job a-train deleted" in deleted
        result = place.run(*arguments)

        assert "complete already" in result.err
        for index in range(3):
            assert f"train.{index} │ train: nothing to do: done on" in result.err
        assert (place.folder / "runs/a/train.json").read_bytes() == before

    def test_one_that_is_lost_is_replaced_and_all_meet_again(self, place: Place) -> None:
        folder = stage(place.folder / "m", _LOSES_ONE)
        result = place.run(
            "run", "train", "--run", "a", "-k", str(folder), "-o", "json", *NODES,
            "--set", "train.backoff_limit=1",
        )  # fmt: skip

        (train,) = result.json()["stages"]
        assert (train["pods"], train["log_complete"]) == (6, True)
        for index in (0, 2):
            assert f"train.{index} │ train: index 1 of this stage is lost" in result.err
        assert sorted(line for line in result.err.splitlines() if " met" in line) == [
            f"train.{index} │ index {index} met" for index in (0, 0, 1, 1, 2, 2)
        ]

    def test_the_verdict_names_the_one_that_was_lost_first(self, place: Place) -> None:
        folder = stage(place.folder / "m", _LOSES_ONE)
        result = place.run("run", "train", "--run", "a", "-k", str(folder), *NODES, expect=1)

        assert "Pod a-train-1-" in result.err
        assert "exit code 17" in result.err
        record = json.loads((place.folder / "runs/a/train.json").read_text())
        assert (record["status"], record["exit_code"]) == ("failed", 76)

    def test_one_that_refuses_its_input_ends_all(self, place: Place) -> None:
        body = (
            "from jobrelay_runner.errors import BadInput\n"
            "if index == 2: raise BadInput('not this')\ntime.sleep(60)"
        )
        folder = stage(place.folder / "m", body, backoff_limit=5)
        result = place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", *NODES, expect=2)
        assert "Pod a-train-2-" in result.err
        assert "not this" in result.err

    def test_logs_after_the_end(self, place: Place) -> None:
        folder = stage(place.folder / "m", _MEETS)
        place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", *NODES)
        lines = place.run("logs", "a", "train").out.splitlines()
        assert [line.partition(" met ")[0] for line in lines] == ["index 0", "index 1", "index 2"]
        (row,) = place.run("status", "a", "-o", "json").json()
        assert row["state"] == "succeeded"
        assert row["pod"].startswith("a-train-0-")
