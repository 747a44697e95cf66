"""The figures of the built-in programs, from the files of a trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from jobrelay.sweep.design import Trial
from jobrelay.sweep.table import Row
from jobrelay_runner.volume.record import Record, RecordError, read_record
from jobrelay_runner.volume.safe_read import RECORD_BYTES, read_text

#: Figures with their formats, in column order; those of a stage that did not finish are empty.
FIGURES: Final = {
    "train_acc": ".6f",
    "val_acc": ".6f",  # on held-out training images
    "test_acc": ".6f",
    "train_loss": ".6f",
    "test_loss": ".6f",
    "train_seconds": ".3f",  # only the epochs
    "seconds_per_epoch": ".3f",
    "images_per_second": ".1f",
    "train_wall_seconds": ".3f",  # the whole stage
    "cpu_seconds": ".3f",
    "peak_memory_mib": ".1f",
}


def row_of(folder: Path, run: str, trial: Trial, cause: str = "") -> Row:
    """The row of a fetched run. cause: why it failed, if known better than from its records."""
    try:
        train, test = (read_record(folder / f"{stage}.json", root=folder) for stage in ("train", "eval"))
        figures = {**_of_training(folder, train), **_of_test(test)}
    except RecordError as error:
        return Row(run, trial, "failed", str(error))
    except KeyError as error:
        return Row(run, trial, "failed", f"its figures cannot be read: {error.args[0]} is missing")
    except (OSError, ValueError, TypeError, ZeroDivisionError) as error:
        return Row(run, trial, "failed", f"its figures cannot be read: {error}")
    for stage, record in (("train", train), ("eval", test)):
        if record is None or record.status != "succeeded":
            reason = record.error if record and record.error else f"{stage} left no result"
            return Row(run, trial, "failed", cause or reason, figures)
    result = f"test acc {figures['test_acc']:.4f} in {figures['train_seconds']:.1f} s of training"
    return Row(run, trial, "succeeded", "", figures, result)


def _of_training(folder: Path, record: Record | None) -> dict[str, float]:
    if record is None or record.status != "succeeded" or record.cost is None:
        return {}
    epochs = [json.loads(line) for line in read_text(folder / "history.jsonl", RECORD_BYTES).splitlines()]
    seconds = sum(epoch["seconds"] for epoch in epochs)
    held_out = {"val_acc": record.metrics["val_accuracy"]} if "val_accuracy" in record.metrics else {}
    return held_out | {
        "train_acc": record.metrics["accuracy"],
        "train_loss": record.metrics["loss"],
        "train_seconds": seconds,
        "seconds_per_epoch": seconds / len(epochs),
        "images_per_second": record.metrics["images_per_second"],
        "train_wall_seconds": record.cost.wall_seconds,
        "cpu_seconds": record.cost.cpu_seconds,
        "peak_memory_mib": record.cost.peak_memory_bytes / 2**20,
    }


def _of_test(record: Record | None) -> dict[str, float]:
    if record is None or record.status != "succeeded":
        return {}
    return {name: record.metrics[name] for name in ("test_acc", "test_loss")}
