"""Where the arithmetic happens: device, threads, random numbers."""

from __future__ import annotations

import hashlib

import torch

from jobrelay_runner.errors import BadInput
from jobrelay_runner.text.counting import counted
from jobrelay_runner.usage.cgroup import usable_cpus
from jobrelay_train.config.schema import RunConfig


def prepare(config: RunConfig) -> torch.device:
    """Choose the device, use all CPUs that this process may use, and seed torch's generators.

    On a CPU the same seed then gives the same weights, bit for bit, for the same number of CPUs
    and version of torch. Raises BadInput for a device that this machine does not have.
    """
    use_processors()
    seed(config)
    return torch.device(_device_name(config.device))


def device_of(config: RunConfig, rank: int) -> torch.device:
    """Return the device for the process of this rank on this machine. Raises BadInput if there is none."""
    best = "cuda" if torch.cuda.is_available() else "cpu"
    name = best if config.device == "auto" else _device_name(config.device)
    if name != "cuda":
        return torch.device(name)
    count, wanted = torch.cuda.device_count(), config.train.processes_a_node
    if wanted > count:
        raise BadInput(
            f"{wanted} processes need {wanted} GPUs, and {counted(count, 'GPU')} can be used here: "
            f"--set train.processes={count}"
        )
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def seed(config: RunConfig, *parts: int) -> None:
    """Seed torch's generators; `parts` gives each of several processes its own numbers."""
    torch.manual_seed(generator(config.seed, *parts).initial_seed() if parts else config.seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def use_processors(sharing: int = 1) -> None:
    """Give torch as many threads as there are CPUs, divided by the number of processes that share them.

    torch counts the machine's cores; in a container with a CPU quota, its threads would compete for the
    quota and wait. The same would happen if every process had as many threads as there are CPUs.
    """
    torch.set_num_threads(max(1, usable_cpus() // sharing))


def stay_forkable() -> None:
    """Restrict torch to this thread: a forked process would wait forever for the others."""
    torch.set_num_threads(1)


def describe(device: torch.device, replicas: int = 1) -> str:
    """Describe the device for a log line: `cpu, 2 threads` or the accelerator's name.

    replicas: copies of the model, each with torch's number of threads.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = replicas * torch.get_num_threads()
        return f"cpu, {threads} thread{'s' if threads > 1 else ''}"
    return device.type


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator whose seed depends on all of `parts`, such as the run's seed and the epoch."""
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
