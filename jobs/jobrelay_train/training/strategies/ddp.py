"""Distributed data parallel: every process has its part of each batch; the gradients are averaged.

It works like DistributedDataParallel: all processes have the same weights at all times, and a step is the
step that one process would do with the whole batch, except that batch normalisation sees only its own part.
That class itself is not used, because it imports PyTorch's compiler into every process, 84 MiB and seconds
before the first batch, only to read a setting. Here all gradients are averaged at once, as one vector.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import FileStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from jobrelay_runner.context import StageResult
from jobrelay_runner.errors import PeerLost, Terminated, one_line
from jobrelay_runner.signals import StopRequest
from jobrelay_train import compute
from jobrelay_train.distributed.launch import run_workers
from jobrelay_train.distributed.membership import Membership
from jobrelay_train.distributed.rendezvous import rendezvous
from jobrelay_train.distributed.shared_memory import Exchange
from jobrelay_train.models.registry import ModelSpec, outline
from jobrelay_train.program import Context
from jobrelay_train.training.state import TrainState
from jobrelay_train.training.strategies import Shard, Work

_LOOPBACK: Final = "lo0" if sys.platform == "darwin" else "lo"


@dataclass(frozen=True)
class ProcessGroup:
    """How the processes find each other.

    first: the rank of the first process here. size: how many processes there are in all. interface: the
    network interface to use; None: the one of the host's name. memory: shared, if all processes are here.
    """

    first: int
    size: int
    store: Callable[[], Store]
    interface: str | None
    memory: Exchange | None = None


def run(context: Context, spec: ModelSpec, work: Work, stop: StopRequest) -> StageResult:
    """Train in several processes of one Pod or many, each with its own weights."""
    processes, nodes = context.config.train.processes_a_node, context.config.train.nodes

    def workers(group: ProcessGroup) -> StageResult:
        return run_workers(processes, lambda rank: worker(context, group, rank, work), stop)

    if nodes == 1:
        values = sum(parameter.numel() for parameter in outline(spec).parameters())
        with tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/store"
            memory = Exchange(processes, values)
            return workers(ProcessGroup(0, processes, lambda: FileStore(file, processes), _LOOPBACK, memory))
    with rendezvous(context) as membership:
        address, port = membership.address, membership.port
        # This process serves the store, since it only waits for the training processes.
        served = _serve(membership) if membership.index == 0 else None  # noqa: F841 (keeps the store alive)
        return workers(
            ProcessGroup(
                first=membership.index * processes,
                size=nodes * processes,
                store=lambda: PrefixStore(membership.token, TCPStore(address, port, wait_for_workers=False)),
                interface=_LOOPBACK if address == "127.0.0.1" else None,
            )
        )


def _serve(membership: Membership) -> Store:
    return TCPStore(
        membership.address,
        membership.port,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=membership.take_listener(),
    )


def worker(context: Context, group: ProcessGroup, local_rank: int, work: Work) -> StageResult:
    """One of the processes. Raises PeerLost if another one is lost."""
    rank = group.first + local_rank
    device = compute.device_of(context.config, local_rank)
    if group.interface:
        os.environ["GLOO_SOCKET_IFNAME"] = group.interface
    try:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=group.store(), rank=rank, world_size=group.size)
        try:
            result = work(Ddp(device, group.memory))
        except Terminated:
            dist.barrier()  # the main process is still saving, and a Pod that ends now counts as lost
            raise
        dist.barrier()  # no process ends while another still needs it
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise PeerLost(f"process {rank} of {group.size} has lost another one: {one_line(error)}") from error
    dist.destroy_process_group()
    return result


class Ddp:
    """One of the processes. torch.distributed must be initialised.

    memory: averages gradients on CPUs; None: over the network, or from GPU to GPU.
    """

    is_in_order = True

    def __init__(self, device: torch.device, memory: Exchange | None = None) -> None:
        self.device = device
        self._rank, self._size = dist.get_rank(), dist.get_world_size()
        self.is_main = self._rank == 0
        self._done = 0
        self._memory = memory if device.type == "cpu" else None
        self._parameters: list[Tensor] = []
        self._gradients = torch.empty(0)

    def prepare(self, state: TrainState) -> None:
        content = broadcast(state.to_bytes() if self.is_main else b"", self.device)
        if not self.is_main:
            state.become(content, self._rank)
        self._parameters = [parameter for parameter in state.model.parameters() if parameter.requires_grad]
        self._gradients = torch.empty(sum(p.numel() for p in self._parameters), device=self.device)

    def steps(self, first: int, total: int, stop: StopRequest) -> Iterator[int]:
        # No process may stop alone, because the others would wait for its gradients. So all exchange their
        # stop requests while they work.
        self._done = first
        stopping = False
        while self._done < total and not stopping:
            answer = self._ask(stop.requested)
            yield self._done
            stopping = answer()
            self._done += 1

    def _ask(self, stops: bool) -> Callable[[], bool]:
        """Start asking whether any process stops; return a function that waits for the answer."""
        if self._memory:
            memory, step = self._memory, self._done
            memory.raise_flag(self._rank, step, stops)
            return lambda: memory.any_flag(step)
        any_stops = torch.full((1,), stops, dtype=torch.int32, device=self.device)
        asked = dist.all_reduce(any_stops, dist.ReduceOp.MAX, async_op=True)

        def answer() -> bool:
            asked.wait()
            return bool(any_stops)

        return answer

    def backward(self, loss: Tensor) -> None:
        """Give every parameter the mean of all processes' gradients."""
        torch.autograd.backward(loss)
        torch.cat([_values(parameter).flatten() for parameter in self._parameters], out=self._gradients)
        self._gradients /= self._size
        if self._memory:
            self._memory.add_up(self._rank, self._gradients)
        else:
            dist.all_reduce(self._gradients)
        start = 0
        for parameter in self._parameters:
            mean = self._gradients[start : start + parameter.numel()]
            start += parameter.numel()
            if parameter.grad is not None or mean.any():  # else the parameter is part of no process's loss
                _gradient(parameter).copy_(mean.view_as(parameter))

    def shard(self, rows: slice) -> Shard:
        count = rows.stop - rows.start
        if count < self._size:  # the last few images of an epoch: every process takes all of them
            return Shard(rows, counts=self.is_main)
        first = rows.start + count * self._rank // self._size
        last = rows.start + count * (self._rank + 1) // self._size
        return Shard(slice(first, last), weight=self._size * (last - first) / count)

    def all_reduce(self, sums: Tensor) -> tuple[int, Tensor]:
        total = sums.clone()
        dist.all_reduce(total)
        return self._done, total

    def barrier(self) -> None:
        pass  # the next step's gradients wait for every process


def _values(parameter: Tensor) -> Tensor:
    """Return the values of the gradient, which is not created if there is none."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:  # in a network of the user's own that did not use it in this step
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def broadcast(content: bytes, device: torch.device) -> bytes:
    """Return rank 0's content at every rank."""
    length = torch.tensor(len(content), device=device)
    dist.broadcast(length, 0)
    values = torch.frombuffer(bytearray(content.ljust(1)), dtype=torch.uint8).to(device)
    if dist.get_rank() != 0:
        values = torch.empty(int(length), dtype=torch.uint8, device=device)
    dist.broadcast(values, 0)
    return values.cpu().numpy().tobytes()
