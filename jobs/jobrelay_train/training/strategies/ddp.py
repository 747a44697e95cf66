"""Distributed data parallel: every process has its part of each batch; the gradients are averaged.

As DistributedDataParallel does it: all have the same weights at all times, and a step is the step that
one process would do with the whole batch, but for batch normalisation, which sees its own part alone.
Not by that class itself: it imports PyTorch's compiler into every process, 84 MiB and seconds before the
first batch, to ask it for a setting. The gradients of the models here are averaged at once, as one vector.
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
from jobrelay_train.distributed import launch
from jobrelay_train.distributed.membership import Meeting
from jobrelay_train.distributed.rendezvous import rendezvous
from jobrelay_train.distributed.shared_memory import Exchange
from jobrelay_train.models.registry import outline
from jobrelay_train.models.serialization.checkpoint import Position
from jobrelay_train.models.serialization.weights import from_bytes, to_bytes
from jobrelay_train.training.fit import Training
from jobrelay_train.training.state import Progress
from jobrelay_train.training.step import Learner
from jobrelay_train.training.strategy import Part

_LOOPBACK: Final = "lo0" if sys.platform == "darwin" else "lo"


def run(training: Training) -> StageResult:
    """Train in several processes of one Pod or many, each with the weights of its own."""
    processes, nodes = training.config.train.processes_a_node, training.config.train.nodes
    if nodes == 1:
        with tempfile.TemporaryDirectory() as folder:
            place = _Place(
                first=0,
                size=processes,
                store=lambda: FileStore(f"{folder}/store", processes),
                interface=_LOOPBACK,
                memory=_memory(training, processes),
            )
            return launch.run(processes, lambda rank: _work(training, place, rank), training.stop)
    with rendezvous(training.context) as meeting:
        # Served by this process, which only waits for those that train.
        served = _serve(meeting) if meeting.index == 0 else None
        place = _Place(
            meeting.index * processes,
            nodes * processes,
            lambda: PrefixStore(
                meeting.token, TCPStore(meeting.address, meeting.port, wait_for_workers=False)
            ),
            _LOOPBACK if meeting.address == "127.0.0.1" else None,
            served,
        )
        return launch.run(processes, lambda rank: _work(training, place, rank), training.stop)


@dataclass(frozen=True)
class _Place:
    """Where the processes meet. first: the rank of the first one here. size: how many there are in all.

    interface: of the network, that they are to speak over; None: the one that the host's name leads to.
    served: the store itself, on index 0, for as long as this lives. memory: where all of them are here.
    """

    first: int
    size: int
    store: Callable[[], Store]
    interface: str | None
    served: Store | None = None
    memory: Exchange | None = None


def _memory(training: Training, processes: int) -> Exchange:
    values = sum(parameter.numel() for parameter in outline(training.spec).parameters())
    return Exchange(processes, values)


def _serve(meeting: Meeting) -> Store:
    return TCPStore(
        meeting.address,
        meeting.port,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=meeting.take_listener(),
    )


def _work(training: Training, place: _Place, here: int) -> StageResult:
    """One of the processes: the `here`-th of those on this machine."""
    rank = place.first + here
    device = compute.device_of(training.config, here)
    compute.use_processors(sharing=training.config.train.processes_a_node)
    if place.interface:
        os.environ["GLOO_SOCKET_IFNAME"] = place.interface
    try:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=place.store(), rank=rank, world_size=place.size)
        learner = training.learner(device)
        progress = _begin(training, learner)
        try:
            result = training.finish(learner, progress, Ddp(learner, place.memory))
        except Terminated:
            dist.barrier()  # the leader still saves, and a Pod that goes now counts as lost
            raise
        dist.barrier()  # nobody goes while another still needs it
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise PeerLost(f"process {rank} of {place.size} has lost another one: {one_line(error)}") from error
    dist.destroy_process_group()
    return result


def _begin(training: Training, learner: Learner) -> Progress:
    """The leader reads the checkpoint, and gives it to all."""
    if dist.get_rank() == 0:
        progress = training.begin(learner)
        place = {"epoch": progress.position.epoch, "step": progress.position.step}
        from_the_leader(to_bytes({"place": place, **progress.state()}), learner.device)
        return progress
    progress = training.progress(learner)
    state = from_bytes(from_the_leader(b"", learner.device))
    progress.restore(state)
    progress.position = Position(**state["place"])
    compute.seed(training.config, dist.get_rank(), progress.position.epoch, progress.position.step)
    return progress


class Ddp:
    """One process of a team. torch.distributed must be initialised.

    memory: what gradients on CPUs are averaged by; None: they go over the network, or from GPU to GPU.
    """

    def __init__(self, learner: Learner, memory: Exchange | None = None) -> None:
        self._rank, self._size = dist.get_rank(), dist.get_world_size()
        self.leads = self._rank == 0
        self._done = 0
        self._device = learner.device
        self._memory = memory if learner.device.type == "cpu" else None
        self._learning = [parameter for parameter in learner.model.parameters() if parameter.requires_grad]
        self._gradients = torch.empty(sum(p.numel() for p in self._learning), device=learner.device)
        learner.agree = self._average

    def steps(self, first: int, total: int, stop: StopRequest) -> Iterator[int]:
        # Nobody may stop alone: the others would wait for its gradients. So all are asked, while they work.
        self._done = first
        stopping = False
        while self._done < total and not stopping:
            answer = self._ask(stop.requested)
            yield self._done
            stopping = answer()
            self._done += 1

    def _ask(self, stops: bool) -> Callable[[], bool]:
        """Begin to ask whether anybody stops; what is returned waits for the answer."""
        if self._memory:
            memory, step = self._memory, self._done
            memory.raise_flag(self._rank, step, stops)
            return lambda: memory.any_flag(step)
        anybody = torch.full((1,), stops, dtype=torch.int32, device=self._device)
        asked = dist.all_reduce(anybody, dist.ReduceOp.MAX, async_op=True)

        def answer() -> bool:
            asked.wait()
            return bool(anybody)

        return answer

    def _average(self) -> None:
        """Give every parameter the mean of everybody's gradients."""
        torch.cat([_gradient(parameter).flatten() for parameter in self._learning], out=self._gradients)
        self._gradients /= self._size
        if self._memory:
            self._memory.add_up(self._rank, self._gradients)
        else:
            dist.all_reduce(self._gradients)
        start = 0
        for parameter in self._learning:
            mean = self._gradients[start : start + parameter.numel()]
            _gradient(parameter).copy_(mean.view_as(parameter))
            start += parameter.numel()

    def part(self, places: slice) -> Part:
        count = places.stop - places.start
        if count < self._size:  # the last few images of an epoch: everybody takes all of them
            return Part(places, counts=self.leads)
        first = places.start + count * self._rank // self._size
        last = places.start + count * (self._rank + 1) // self._size
        return Part(slice(first, last), weight=self._size * (last - first) / count)

    def meet(self, sums: Tensor) -> tuple[int, Tensor]:
        total = sums.clone()
        dist.all_reduce(total)
        return self._done, total

    def go_on(self) -> None:
        pass  # the next step's gradients wait for everybody


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None  # every parameter has its part in every loss
    return parameter.grad


def from_the_leader(content: bytes, device: torch.device) -> bytes:
    """What rank 0 gives, at every rank."""
    length = torch.tensor(len(content), device=device)
    dist.broadcast(length, 0)
    values = torch.frombuffer(bytearray(content.ljust(1)), dtype=torch.uint8).to(device)
    if dist.get_rank() != 0:
        values = torch.empty(int(length), dtype=torch.uint8, device=device)
    dist.broadcast(values, 0)
    return values.cpu().numpy().tobytes()
