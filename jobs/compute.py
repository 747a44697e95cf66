"""Where the arithmetic happens: device, threads, random numbers."""

from __future__ import annotations

import hashlib

import torch

from jobs.cgroup import usable_cpus
from jobs.contract.config import RunConfig
from jobs.contract.counting import counted
from jobs.errors import BadInput


def prepare(config: RunConfig) -> torch.device:
    """Choose the device, use all processors that this process may, and seed torch's generators.

    On a CPU the same seed then gives the same weights, bit for bit, for the same number of processors
    and version of torch. Raises BadInput for a device that this machine does not have.
    """
    use_processors()
    seed(config)
    return torch.device(_device_name(config.device))


def device_of(config: RunConfig, rank: int) -> torch.device:
    """The device of the process of this rank, of several on one machine. Raises BadInput if there is none."""
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
    """Seed torch's generators; with `parts`, a process among several gets numbers of its own."""
    torch.manual_seed(generator(config.seed, *parts).initial_seed() if parts else config.seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def use_processors(sharing: int = 1) -> None:
    """As many threads as there are processors, if so many processes share them.

    torch counts the machine's cores; in a container with a CPU quota its threads would only wait for
    each other's share of it. So they would if every process had as many as there are processors.
    """
    torch.set_num_threads(max(1, usable_cpus() // sharing))


def stay_forkable() -> None:
    """Let torch use no thread but this one: a forked process would wait for the others for ever."""
    torch.set_num_threads(1)


def describe(device: torch.device, replicas: int = 1) -> str:
    """For a log line: `cpu, 2 threads` or the accelerator's name.

    replicas: of the model, each with torch's number of threads.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = replicas * torch.get_num_threads()
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
