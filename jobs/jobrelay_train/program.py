"""A built-in program in the form that the runner expects."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable

import yaml

from jobrelay_runner.context import Program, StageContext, StageResult
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.safe_read import UnsafeFile, read_bytes
from jobrelay_train.config.schema import STAGES, RunConfig
from jobrelay_train.config.yamlio import MAX_BYTES

Context = StageContext[RunConfig]


def program_of(stage: Stage, config: RunConfig) -> Program[RunConfig]:
    """Return what a stage runs under this configuration."""
    folders = (config.data.folder, config.infer.folder if stage == "infer" else None)
    return Program(
        config,
        config.stage_hash(stage),
        tuple(dict.fromkeys(folder for folder in folders if folder)),
        functools.partial(_load, stage, config),
        pipeline=STAGES,
        means={"code": config.code} if config.code else {},
    )


def _load(stage: Stage, config: RunConfig) -> Callable[[Context, StopRequest], StageResult]:
    # OpenMP reads this when torch loads it. Its threads wait for each other many times per step, by
    # default in a busy loop: two trainings that share two cores take two to ten times as long as with
    # threads that sleep. Replicas of the model make up for the time that sleeping costs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # By name, because `train` is a module and a function; only now, as the supervisor must not load torch.
    function: Callable[[Context, StopRequest], StageResult]
    function = getattr(importlib.import_module(f"jobrelay_train.{stage}"), stage)
    if config.model.is_torchvisions:  # takes a second or more, which otherwise comes after the gate
        importlib.import_module("jobrelay_train.vision").models()
    return function


def keep_config(context: Context) -> None:
    """Write the run's configuration to config.yaml, unless the file already holds it."""
    text = yaml.safe_dump(context.config.result_config(), sort_keys=False)
    path = context.folder.config
    try:
        kept = read_bytes(path, MAX_BYTES, root=context.folder.root)
    except (FileNotFoundError, UnsafeFile):
        kept = None
    if kept != text.encode():
        context.fence.write(path, text)
