"""What share of the machine's peak multiplication rate a training reaches."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)
from torch.utils.flop_counter import FlopCounterMode

from jobrelay_runner.usage.cgroup import usable_cpus
from jobrelay_train.models.registry import ModelSpec, build


@dataclass(frozen=True)
class Roofline:
    """A model's work and the machine's peak.

    flops: of one image, forward and backward, only convolutions and matrix products (a multiplication and
    an addition are two). peak: FLOP/s of a matrix product of 1024 x 1024 with all CPUs, by precision.
    """

    flops: float
    peak: dict[str, float]

    def share(self, images_per_second: float, precision: str) -> float:
        """Return the fraction of the peak that this rate uses."""
        return self.flops * images_per_second / self.peak[precision]


def measure(model: str) -> Roofline:
    """Measure this machine with this model, on images of 28 x 28."""
    torch.set_num_threads(usable_cpus())
    spec = ModelSpec.model_validate(
        {"name": model, "input_shape": (1, 28, 28), "class_names": [str(n) for n in range(10)],
         "mean": 0, "std": 1, "dataset": "mnist"}
    )  # fmt: skip
    images, labels = torch.zeros(64, 1, 28, 28), torch.zeros(64, dtype=torch.long)
    network = build(spec)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(F.cross_entropy(network(images), labels))
    matrix = torch.rand(1024, 1024)
    peak = {"fp32": _rate(matrix), "bf16": _rate(matrix.bfloat16())}
    return Roofline(counter.get_total_flops() / len(images), peak)


def _rate(matrix: torch.Tensor) -> float:
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return 2 * matrix.shape[0] ** 3 / best
