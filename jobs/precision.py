"""fp32 or bf16: what this machine computes faster, found out by doing it.

bf16 (bfloat16) has the range of float32 and a third of its digits. Processors with instructions for it
(AVX512-BF16, AMX, tensor cores) multiply twice to sixteen times as many of them; the others emulate it
and take longer. What the processor says of itself does not tell which, nor does it know the model.

Under autocast only convolutions and matrix products are in bf16; the weights, their gradients' sums,
normalisation and loss stay in float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

import torch

Precision = Literal["fp32", "bf16"]

#: bf16 has to be worth it: near a draw the choice would differ from one start to the next.
_WORTH: Final = 1.15
_ROUNDS: Final = 3


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a forward pass is made in this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def measure(device: torch.device, step: Callable[[Precision], None]) -> Precision:
    """The faster one for `step`, which does the same piece of work in either precision.

    The best of three rounds each, taken in turn: other programs on the machine slow both down.
    """
    seconds = {"fp32": float("inf"), "bf16": float("inf")}
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for round_ in range(1 + _ROUNDS):  # the first one prepares the kernels, and does not count
        for precision in precisions:
            _wait_for(device)
            started = time.perf_counter()
            step(precision)
            _wait_for(device)
            if round_:
                seconds[precision] = min(seconds[precision], time.perf_counter() - started)
    return "bf16" if seconds["fp32"] > _WORTH * seconds["bf16"] else "fp32"


def _wait_for(device: torch.device) -> None:
    """Accelerators work behind the program's back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
