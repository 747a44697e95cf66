"""How a training is done: by one process, or by several together.

single    one process with all processors
hogwild   several processes on one machine; all write to the same weights, and no one waits
ddp       several processes, on one machine or many; each has its part of every batch, and the gradients
          are averaged

All of them leave the same files and can be interrupted and gone on with in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from jobrelay_runner.context import StageResult
from jobrelay_train.training.fit import Training


def run(training: Training) -> StageResult:
    """Train as the configuration says."""
    # By name: torch.distributed takes a while to import, which one process alone does without.
    strategy: Callable[[Training], StageResult]
    strategy = import_module(f"{__name__}.{training.config.train.strategy}").run
    return strategy(training)
