"""Where the arithmetic happens: device, threads, random numbers."""

from __future__ import annotations

import hashlib

import torch

from jobs.cgroup import usable_cpus
from jobs.contract.config import RunConfig
from jobs.errors import BadInput


def prepare(config: RunConfig) -> torch.device:
    """Choose the device, set the number of threads and seed torch's generators.

    On a CPU the same seed then gives the same weights, bit for bit, for the same number of threads
    and version of torch. Raises BadInput for a device that this machine does not have.
    """
    # torch counts the machine's cores; in a container with a CPU quota its threads would only
    # wait for each other's share of it.
    torch.set_num_threads(usable_cpus())
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device(_device_name(config.device))


def describe(device: torch.device) -> str:
    """For a log line: `cpu, 2 threads` or the accelerator's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu, {threads} thread{'s' if threads > 1 else ''}"
    return device.type


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator whose seed depends on all of `parts`, such as the run's seed and the epoch."""
    text = "/".join(str(part) for part in parts)
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1  # 63 bits
    return torch.Generator().manual_seed(seed)


def _device_name(wanted: str) -> str:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(name for name, there in available.items() if there)
    if not available[wanted]:
        has = ", ".join(name for name, there in available.items() if there)
        raise BadInput(
            f"device: {wanted} is not available here ({has} is); --set device=auto takes the best there is"
        )
    return wanted
