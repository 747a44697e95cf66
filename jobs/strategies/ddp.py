"""Distributed data parallel: every process has its part of each batch; the gradients are averaged.

As DistributedDataParallel does it: all have the same weights at all times, and a step is the step that
one process would do with the whole batch, but for batch normalisation, which sees its own part alone.
"""

from __future__ import annotations

import io
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
from torch.nn.parallel import DistributedDataParallel

from jobs import compute, crew
from jobs.assignment import Outcome
from jobs.checkpoint import Position
from jobs.errors import PeerLost
from jobs.learner import Learner
from jobs.meeting import Meeting
from jobs.progress import Progress
from jobs.rendezvous import rendezvous
from jobs.stopping import StopRequest
from jobs.training import Training
from jobs.weights import one_line, to_bytes

_LOOPBACK: Final = "lo0" if sys.platform == "darwin" else "lo"


def run(training: Training) -> Outcome:
    """Train in several processes of one Pod or many, each with the weights of its own."""
    processes, nodes = training.config.train.processes_a_node, training.config.train.nodes
    if nodes == 1:
        with tempfile.TemporaryDirectory() as folder:
            place = _Place(0, processes, lambda: FileStore(f"{folder}/store", processes), _LOOPBACK)
            return crew.run(processes, lambda rank: _work(training, place, rank), training.stop)
    with rendezvous(training.assignment) as meeting:
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
        return crew.run(processes, lambda rank: _work(training, place, rank), training.stop)


@dataclass(frozen=True)
class _Place:
    """Where the processes meet. first: the rank of the first one here. size: how many there are in all.

    interface: of the network, that they are to speak over; None: the one that the host's name leads to.
    served: the store itself, on index 0, for as long as this lives.
    """

    first: int
    size: int
    store: Callable[[], Store]
    interface: str | None
    served: Store | None = None


def _serve(meeting: Meeting) -> Store:
    return TCPStore(
        meeting.address,
        meeting.port,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=meeting.take_listener(),
    )


def _work(training: Training, place: _Place, here: int) -> Outcome:
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
        outcome = training.finish(learner, progress, Ddp(learner))
        dist.barrier()  # nobody goes while another still needs it
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise PeerLost(f"process {rank} of {place.size} has lost another one: {one_line(error)}") from error
    dist.destroy_process_group()
    return outcome


def _begin(training: Training, learner: Learner) -> Progress:
    """The leader reads the checkpoint, and gives it to all."""
    if dist.get_rank() == 0:
        progress = training.begin(learner)
        place = {"epoch": progress.position.epoch, "step": progress.position.step}
        from_the_leader(to_bytes({"place": place, **progress.state()}), learner.device)
        return progress
    progress = training.progress(learner)
    state = torch.load(io.BytesIO(from_the_leader(b"", learner.device)), weights_only=True)
    progress.restore(state)
    progress.position = Position(**state["place"])
    compute.seed(training.config, dist.get_rank(), progress.position.epoch, progress.position.step)
    return progress


class Ddp:
    """One process of a team. torch.distributed must be initialised."""

    def __init__(self, learner: Learner) -> None:
        self._rank, self._size = dist.get_rank(), dist.get_world_size()
        self.leads = self._rank == 0
        self._done = 0
        self._device = learner.device
        learner.trained = DistributedDataParallel(
            learner.model,
            device_ids=[learner.device] if learner.device.type == "cuda" else None,
            forward_sync_buffers=False,  # each has statistics of its own; the leader's are saved
            gradient_as_bucket_view=True,
        )

    def steps(self, first: int, total: int, stop: StopRequest) -> Iterator[int]:
        # Nobody may stop alone: the others would wait for its gradients. So all are asked, while they work.
        self._done = first
        anybody = torch.zeros(1, dtype=torch.int32, device=self._device)
        while self._done < total and not anybody:
            anybody.fill_(stop.requested)
            answer = dist.all_reduce(anybody, dist.ReduceOp.MAX, async_op=True)
            yield self._done
            self._done += 1
            answer.wait()

    def part(self, places: slice) -> tuple[slice, float]:
        count = places.stop - places.start
        if count < self._size:  # the last few images of an epoch: everybody takes all of them
            return places, 1.0
        first = places.start + count * self._rank // self._size
        last = places.start + count * (self._rank + 1) // self._size
        return slice(first, last), self._size * (last - first) / count

    def meet(self, sums: Tensor) -> tuple[int, Tensor]:
        total = sums.clone()
        dist.all_reduce(total)
        return self._done, total

    def go_on(self) -> None:
        pass  # the next step's gradients wait for everybody


def from_the_leader(content: bytes, device: torch.device) -> bytes:
    """What rank 0 gives, at every rank."""
    length = torch.tensor(len(content), device=device)
    dist.broadcast(length, 0)
    values = torch.frombuffer(bytearray(content.ljust(1)), dtype=torch.uint8).to(device)
    if dist.get_rank() != 0:
        values = torch.empty(int(length), dtype=torch.uint8, device=device)
    dist.broadcast(values, 0)
    return values.cpu().numpy().tobytes()
