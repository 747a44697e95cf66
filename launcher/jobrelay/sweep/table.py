"""sweep.csv: one row per trial, computed only from the trial's files, and therefore reproducible."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jobrelay.sweep.design import Trial
from jobrelay_runner.volume.record import Record, RecordError, read_record
from jobrelay_runner.volume.safe_read import RECORD_BYTES, read_text

#: Column → decimal places, in column order; the columns of a stage that did not finish are empty.
FIGURES: Final = {
    "train_acc": 6,
    "val_acc": 6,  # on held-out training images
    "test_acc": 6,
    "train_loss": 6,
    "test_loss": 6,
    "train_seconds": 3,  # only the epochs
    "seconds_per_epoch": 3,
    "images_per_second": 1,
    "train_wall_seconds": 3,  # the whole stage
    "cpu_seconds": 3,
    "peak_memory_mib": 1,
}


@dataclass(frozen=True)
class Row:
    """The result of one trial."""

    run: str
    trial: Trial
    status: str  # succeeded | failed | not run
    cause: str = ""
    figures: dict[str, float] = field(default_factory=dict)

    def summary(self) -> str:
        """The result as text for a log line."""
        if self.status != "succeeded":
            return f"{self.status}: {self.cause}"
        figures = self.figures
        return f"test acc {figures['test_acc']:.4f} in {figures['train_seconds']:.1f} s of training"


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
    return Row(run, trial, "succeeded", "", figures)


def to_csv(rows: Sequence[Row]) -> str:
    """The table as CSV with a header; numbers have the decimal places of FIGURES."""
    keys = list(dict.fromkeys(key for row in rows for key, _ in row.trial.settings))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *keys, "seed", "status", *FIGURES, "cause"])
    for row in rows:
        settings = dict(row.trial.settings)
        figures = [
            f"{row.figures[name]:.{digits}f}" if name in row.figures else ""
            for name, digits in FIGURES.items()
        ]
        cells = [_cell(settings.get(key)) for key in keys]
        writer.writerow([row.run, *cells, row.trial.seed, row.status, *figures, " ".join(row.cause.split())])
    return out.getvalue()


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


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
