"""Folders of fetched runs and sweeps, for tests of their pages."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from jobrelay.sweep.built_in_table import FIGURES
from jobrelay.sweep.design import Trial
from jobrelay.sweep.table import Row, to_csv
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.files import write_json
from jobrelay_runner.volume.record import Cost, FileDigest, LogDigest, Record
from jobrelay_train.config.schema import STAGES

NAMES = ("T-shirt/top", "Trouser", "Shirt")
MOMENTS = {
    "created": "2026-11-21T16:00:00Z",
    "pod_created": "2026-11-21T16:00:01Z",
    "scheduled": "2026-11-21T16:00:01Z",
    "image_ready": "2026-11-21T16:00:04Z",
    "started": "2026-11-21T16:00:05Z",
    "begun": "2026-11-21T16:00:05.250Z",
    "imported": "2026-11-21T16:00:07.250Z",
    "working": "2026-11-21T16:00:07.250Z",
    "first_batch": "2026-11-21T16:00:07.500Z",
    "recorded": "2026-11-21T16:00:17.250Z",
    "ended": "2026-11-21T16:00:18Z",
    "finished": "2026-11-21T16:00:18Z",
    "seen": "2026-11-21T16:00:18.100Z",
}
METRICS: dict[Stage, dict[str, float]] = {
    "train": {"loss": 0.5, "accuracy": 0.9},
    "eval": {"test_loss": 0.4, "test_acc": 0.8},
    "infer": {"samples": 4, "correct": 2},
}


def write_run(folder: Path, *, failed: Stage | None = None, beside: str = "", empty: int = 0) -> Path:
    """A run up to its end, or to the stage that failed.

    beside: added to every text that others could write. empty: number of extra pictures with nothing found.
    """
    (folder / "results").mkdir(parents=True)
    (folder / "logs").mkdir()
    (folder / "config.yaml").write_text(f"seed: 0\nmodel:\n  name: cnn # {beside}\n", "utf-8", "replace")
    done = STAGES[: STAGES.index(failed)] if failed else STAGES
    written = {"train": _trained, "eval": _tested, "infer": partial(_inferred, empty=empty)}
    for stage in done:
        _write_record(folder, stage, written[stage](folder, beside), "succeeded", beside)
    if failed:
        _write_record(folder, failed, [], "failed", beside)
    write_json(folder / "report.json", outcome([*done, *([failed] if failed else [])], failed, beside))
    return folder


def outcome(stages: list[Stage], failed: Stage | None = None, beside: str = "") -> dict[str, Any]:
    """report.json, of these stages."""
    return {
        "run": "a",
        "place": f"context lab{beside}",
        "exit_code": int(bool(failed)),
        "incomplete": None,
        "stages": [
            {
                "stage": stage,
                "how": "created",
                "seconds": 12.0,
                "pods": 1,
                "log_complete": True,
                "verdict": _verdict(stage, stage == failed, beside),
                "metrics": METRICS[stage],
                "timeline": MOMENTS,
                "cost": {} if stage == failed else _cost().to_dict(),
                "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
                "suggestion": {"cpu": "300m", "memory": None},
            }
            for stage in stages
        ],
    }


def write_sweep(folder: Path, *, failed: bool = False, beside: str = "") -> Path:
    """Three trials of a sweep, of which the last one may have failed."""
    tried = ((2, 0.01), (10, 0.005), (1, 0.00001))
    trials = [
        Trial((("train.epochs", epochs), ("train.learning_rate", rate), ("model.name", f"cnn{beside}")), 0)
        for epochs, rate in tried
    ]
    rows = [
        Row(f"s-{number}", trial, "succeeded", "", dict.fromkeys(FIGURES, 10.0) | {"test_acc": accuracy})
        for number, (trial, accuracy) in enumerate(zip(trials, (0.8, 0.9, 0.7), strict=True))
    ]
    if failed:
        rows[-1] = Row("s-2", trials[-1], "failed", f"OOMKilled{beside}")
    (folder / "plots").mkdir(parents=True)
    (folder / "sweep.csv").write_text(to_csv(rows, FIGURES), "utf-8", "replace")
    (folder / "observations.txt").write_text(f"best: 0.9000{beside}\n", "utf-8", "replace")
    plan = [{"run": row.run, "settings": dict(row.trial.settings), "seed": 0} for row in rows]
    (folder / "sweep.json").write_text(json.dumps({"name": f"s{beside}", "trials": plan}))
    (folder / "plots/train.epochs-accuracy.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="40"><script>alert(1)</script></svg>'
    )
    (folder / "plots/train.epochs-accuracy.png").write_bytes(png())
    return folder


def png(width: int = 224, height: int = 272) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (90, 90, 90)).save(buffer, format="PNG")
    return buffer.getvalue()


def _trained(folder: Path, beside: str) -> list[str]:
    lines = [
        {
            "epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 0.3 / epoch, "seconds": 2.0,
            "images_per_second": 3000.0, "learning_rate": 0.005,
        }
        for epoch in range(1, 6)
    ]  # fmt: skip
    (folder / "history.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "model.pt").write_bytes(b"weights")
    return ["history.jsonl", "model.pt"]


def _tested(folder: Path, beside: str) -> list[str]:
    names = [name + beside for name in NAMES]
    results = {
        "test_loss": 0.4, "test_acc": 0.8, "samples": 30, "correct": 24,
        "dataset": f"clothes{beside}", "model": "cnn",
        "per_class": [{"name": n, "precision": 0.8, "recall": 0.8, "f1": 0.8, "support": 10} for n in names],
        "class_names": names,
        "confusion_matrix": [[8, 0, 2], [0, 10, 0], [4, 0, 6]],
    }  # fmt: skip
    (folder / "eval_results.json").write_text(json.dumps(results))
    return ["eval_results.json"]


def _inferred(folder: Path, beside: str, empty: int = 0) -> list[str]:
    predictions: list[dict[str, Any]] = []
    for number, (probability, correct) in enumerate([(0.6, True), (0.7, False), (0.95, False), (0.99, True)]):
        name = f"results/{number:05}_shirt.png"
        (folder / name).write_bytes(png())
        predictions.append({
            "image": f"p{number}.png{beside}", "file": name, "predicted_name": "Shirt" + beside,
            "probability": probability, "true_name": NAMES[2 if correct else 0] + beside, "correct": correct,
        })  # fmt: skip
    nothing = [f"e{number}.png{beside}" for number in range(empty)]
    for number, name in enumerate(nothing):
        picture = f"results/e{number}_nothing found.png"
        (folder / picture).write_bytes(png())
        predictions.append({"image": name, "nothing_found": True, "predicted": None, "picture": picture})
    lines = ",\n  ".join(json.dumps(each) for each in predictions)
    (folder / "predictions.json").write_text(f"[\n  {lines}\n]\n")
    told = {
        "source": f"data/photos{beside}", "images": 4, "correct": 2, "images_per_second": 1200.0,
        "batch_size": 4, "nothing_found": nothing,
        "skipped": [{"file": f"broken.png{beside}", "reason": f"no image{beside}"}],
        "latency": {"requests": 200, "p50_ms": 1.2, "p99_ms": 4.0}, "device": f"cpu{beside}",
    }  # fmt: skip
    (folder / "inference.json").write_text(json.dumps(told))
    drawn = [each.get("file") or each["picture"] for each in predictions]
    return [*drawn, "predictions.json", "inference.json"]


def _write_record(folder: Path, stage: Stage, outputs: list[str], status: Any, beside: str) -> None:
    log = folder / f"logs/{stage}-a-{stage}-x1.log"
    log.write_text(f"{stage} was here\n\x1b[31m{beside}\x1b[0m\n", "utf-8", "replace")
    digest = FileDigest.of(log)
    record = Record(
        run="a",
        stage=stage,
        status=status,
        pod=f"a-{stage}-x1",
        config_hash="0" * 64,
        started=MOMENTS["begun"],
        pipeline=list(STAGES),
        finished=MOMENTS["recorded"],
        exit_code=int(status == "failed"),
        error=f"ValueError: no such class{beside}" if status == "failed" else None,
        outputs={name: FileDigest.of(folder / name) for name in outputs},
        metrics=METRICS[stage] if status == "succeeded" else {},
        means={"device": f"cpu{beside}"},
        log=LogDigest(sha256=digest.sha256, bytes=digest.bytes, file=f"logs/{log.name}", lines=2),
        cost=_cost(),
        moments={name: when for name, when in MOMENTS.items() if name in ("imported", "working")},
        versions={"torch": "2.13.0"},
    )
    write_json(folder / f"{stage}.json", record.to_dict())


def _cost() -> Cost:
    return Cost(wall_seconds=12.0, cpu_seconds=3.0, peak_memory_bytes=300 * 2**20, peak_memory_from="cgroup")


def _verdict(stage: Stage, failed: bool, beside: str) -> dict[str, Any]:
    if not failed:
        return {"exit_code": 0, "outcome": "succeeded", "reason": "", "message": "", "pod": f"a-{stage}-x1"}
    return {
        "exit_code": 1, "outcome": "failed", "reason": "OOMKilled", "message": f"limit 2Gi{beside}",
        "pod": f"a-{stage}-x1", "hint": f"--set {stage}.memory=4Gi{beside}",
    }  # fmt: skip


def write_programs(
    folder: Path,
    files: Mapping[Stage, Mapping[str, str | bytes]],
    *,
    logs: Mapping[Stage, str] | None = None,
    means: Mapping[str, str] | None = None,
    metrics: Mapping[Stage, Mapping[str, float]] | None = None,
) -> Path:
    """A run of programs of any kind, all of which succeeded. files: what each stage wrote in the workspace.

    A file that an earlier stage wrote too is one that the later one changed.
    """
    (folder / "logs").mkdir(parents=True)
    before: set[str] = set()
    for stage, contents in files.items():
        for name, content in contents.items():
            path = folder / "workspace" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
        names = [f"workspace/{name}" for name in contents]
        log = folder / f"logs/{stage}-p.log"
        log.write_text((logs or {}).get(stage, "done\n"), "utf-8", "replace")
        digest = FileDigest.of(log)
        record = Record(
            run="a",
            stage=stage,
            status="succeeded",
            pod="p",
            config_hash="0" * 64,
            started=MOMENTS["begun"],
            pipeline=list(files),
            finished=MOMENTS["recorded"],
            exit_code=0,
            outputs={name: FileDigest.of(folder / name) for name in names},
            changed=[name for name in names if name in before],
            metrics=dict((metrics or {}).get(stage, {})),
            means={"command": f"python {stage}.py", **(means or {})},
            log=LogDigest(sha256=digest.sha256, bytes=digest.bytes, file=f"logs/{log.name}", lines=1),
            cost=_cost(),
        )
        before.update(names)
        write_json(folder / f"{stage}.json", record.to_dict())
    return folder
