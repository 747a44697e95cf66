"""fp32 or bf16: measure which of them this machine computes faster.

bf16 (bfloat16) has the range of float32 and a third of its digits. Processors with instructions for it
(AVX512-BF16, AMX, tensor cores) multiply twice to sixteen times as many values per second; others emulate it
and take longer. The features that a processor reports do not show which case applies.

Under autocast only convolutions and matrix products are in bf16; the weights, their gradients' sums,
normalisation and loss stay in float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

import torch
from torch import Tensor, nn

Precision = Literal["fp32", "bf16"]

#: A matrix product of this size takes one to three milliseconds, and is bound by arithmetic, not by memory.
_SIZE: Final = 512
_ROUNDS: Final = 5
#: With hardware support bf16 is twice as fast, without it slower. No machine is near this factor, so a
#: machine always makes the same choice, and the same seed gives the same weights.
_WORTH: Final = 1.3


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context for a forward pass in this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def fastest(device: torch.device, model: nn.Module) -> Precision:
    """Measure which precision this device multiplies faster, in a few tens of milliseconds."""
    if device.type not in ("cpu", "cuda"):
        return "fp32"
    if device.type == "cpu" and any(_is_depthwise(module) for module in model.modules()):
        return "fp32"  # a step of mobilenet_v3_small or efficientnet_b0 takes twice as long in bf16
    # On a CPU, by one thread and its CPU time, so that other load on the machine does not count.
    clock = time.perf_counter if device.type == "cuda" else time.thread_time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        square = torch.ones(_SIZE, _SIZE, device=device)
        fp32, bf16 = _seconds(clock, square, square.bfloat16())
    finally:
        torch.set_num_threads(threads)
    return "bf16" if fp32 > _WORTH * bf16 else "fp32"


def _is_depthwise(module: nn.Module) -> bool:
    """Whether it convolves every channel separately: no matrix product, and not faster in bf16."""
    return isinstance(module, nn.Conv2d) and module.groups > 1


def _seconds(clock: Callable[[], float], *matrices: Tensor) -> list[float]:
    """Return the seconds to square each matrix: the best of several rounds, in turn."""
    best = [float("inf")] * len(matrices)
    for _ in range(_ROUNDS):
        for number, matrix in enumerate(matrices):
            _wait_for(matrix.device)
            started = clock()
            matrix @ matrix
            _wait_for(matrix.device)
            best[number] = min(best[number], clock() - started)
    return best


def _wait_for(device: torch.device) -> None:
    """Wait for an accelerator, which works asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
