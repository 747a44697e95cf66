"""A small pipeline with parameters, for tests of sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: Accuracy rises with the epochs, the loss is the learning rate.
EVALUATE: Final = """
import json, pathlib
rate, epochs, seed = pathlib.Path("model").read_text().split()
figures = {"acc": int(epochs) / 10 + int(seed) / 1000, "loss": float(rate), "top": {"five": 1}}
pathlib.Path("eval.json").write_text(json.dumps(figures))
print("evaluated", flush=True)
"""
TRAIN: Final = """
import pathlib, sys
pathlib.Path("model").write_text(" ".join(sys.argv[1:]))
print("trained", *sys.argv[1:], flush=True)
"""
PIPELINE: Final = """
params: {lr: 0.1, epochs: 1, seed: 0, unused: 1}
stages:
  train:
    run: python train.py {lr} {epochs} {seed}
    cpu: 50m
  evaluate:
    run: python evaluate.py
    metrics: eval.json
    cpu: 50m
"""


def write_pipeline(folder: Path, *, train: str = TRAIN, pipeline: str = PIPELINE) -> Path:
    """Write jobrelay.yaml and its two programs; return its path."""
    (folder / "train.py").write_text(train)
    (folder / "evaluate.py").write_text(EVALUATE)
    (folder / "jobrelay.yaml").write_text(pipeline)
    return folder / "jobrelay.yaml"
