"""Sweeps of any pipeline, as every executor must carry them out."""

from __future__ import annotations

import csv
import io
import json

from tests.support import Place
from tests.support.trials import write_pipeline


def test_trials_share_jobs_and_each_has_its_own_run(place: Place) -> None:
    write_pipeline(place.folder)
    arguments = (
        "sweep",
        "--name",
        "s",
        "--grid",
        "lr=0.1,0.01",
        "--grid",
        "epochs=1,2",
        "--choose-on",
        "acc",
    )

    result = place.run(*arguments, "--pack", "3", "-o", "csv")

    folder = place.folder / "sweeps/s"
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert (folder / "sweep.csv").read_text() == result.out
    assert [row["status"] for row in rows] == ["succeeded"] * 4
    assert [(row["lr"], row["epochs"], row["evaluate.acc"]) for row in rows] == [
        ("0.1", "1", "0.1"), ("0.1", "2", "0.2"), ("0.01", "1", "0.1"), ("0.01", "2", "0.2"),
    ]  # fmt: skip
    assert len(list((folder / "packs").iterdir())) == 1  # and the fourth by itself
    for row in rows:
        run = folder / "runs" / row["run"]
        record = json.loads((run / "train.json").read_text())
        assert record["means"]["params.lr"] == row["lr"]
        assert list(record["outputs"]) == ["workspace/model"]
        assert (run / record["log"]["file"]).read_text() == f"trained {row['lr']} {row['epochs']} 0\n"
    plan = json.loads((folder / "sweep.json").read_text())
    assert (plan["choose_on"], plan["larger"]) == ("evaluate.acc", True)
    assert "best by evaluate.acc (largest): 0.2 with " in (folder / "observations.txt").read_text()
    assert rows[-1]["run"] in (folder / "report.html").read_text()
    again = place.run(*arguments, "-o", "csv")
    assert again.out == result.out
    assert "trained" not in again.err
