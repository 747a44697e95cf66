"""fp32 or bf16: what this machine computes faster, found out by doing it.

bf16 (bfloat16) has the range of float32 and a third of its digits. Processors with instructions for it
(AVX512-BF16, AMX, tensor cores) multiply twice to sixteen times as many of them; the others emulate it
and take longer. What a processor says of itself does not tell which.

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

#: A matrix product of this size takes a millisecond or three, and is bound by arithmetic, not by memory.
_SIZE: Final = 512
_ROUNDS: Final = 5
#: Where bf16 is in the hardware it is twice as fast, where it is not it is slower: nothing lies near
#: this, and so one machine always chooses the same, and the same seed gives the same weights.
_WORTH: Final = 1.3


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a forward pass is made in this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def fastest(device: torch.device, model: nn.Module) -> Precision:
    """What this device multiplies faster: measured, in a few tens of milliseconds."""
    if device.type not in ("cpu", "cuda"):
        return "fp32"
    if device.type == "cpu" and any(_is_depthwise(module) for module in model.modules()):
        return "fp32"  # a step of mobilenet_v3_small or efficientnet_b0 takes twice as long in bf16
    # On a CPU by one thread, and in its own time: what others do on the machine does not count.
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
    """Whether it is a convolution of every channel by itself: no matrix product, and no faster in bf16."""
    return isinstance(module, nn.Conv2d) and module.groups > 1


def _seconds(clock: Callable[[], float], *matrices: Tensor) -> list[float]:
    """What the square of each takes: the best of some rounds, in turn."""
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
    """An accelerator works behind the program's back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
