"""A data set of the user's own that is read item by item, as a tensor that is never in memory as a whole.

Whatever random numbers an item draws (torch, random, numpy) are a function of the run's seed, the epoch and
the item alone. So a training that resumes in the middle of an epoch gets the same batches as without the
interruption, with any number of worker processes.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch import Tensor

from jobrelay_runner.signals import die_with_parent
from jobrelay_runner.usage.cgroup import usable_cpus
from jobrelay_train import compute

if TYPE_CHECKING:
    from torch.utils.data import Dataset

#: Batches that a worker process reads ahead, and the most memory that all of these may take.
_AHEAD: Final = 2
_AHEAD_BYTES: Final = 512 * 2**20
_MOST_WORKERS: Final = 8


@dataclass(frozen=True)
class Items:
    """Some items of a map-style data set, read on access: use it like a tensor (N, …).

    read: returns one item, a tensor of this dtype and shape, and checks it. rows: int64 (N,). salt: the seed
    of the random numbers, with the epoch if there is one.
    """

    read: Callable[[int], Tensor]
    item_shape: tuple[int, ...]
    dtype: torch.dtype
    rows: Tensor
    salt: tuple[int | str, ...]

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.rows), *self.item_shape))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        rows = self.rows[which if isinstance(which, slice) else which.cpu()].tolist()
        batch = torch.empty((len(rows), *self.item_shape), dtype=self.dtype)
        with own_random_numbers() as reseed:
            for place, row in enumerate(rows):
                reseed(*self.salt, row)
                batch[place] = self.read(row)
        return batch

    def __getitems__(self, positions: Sequence[int]) -> Tensor:
        """Return a whole batch, for torch's DataLoader."""
        return self[torch.tensor(positions, dtype=torch.int64)]

    def chosen(self, which: Tensor) -> Items:
        """Select items by position; nothing is read yet."""
        return replace(self, rows=self.rows[which])

    def of_epoch(self, epoch: int) -> Items:
        """Return the same items with the random numbers of one epoch."""
        return replace(self, salt=(*self.salt, "epoch", epoch))

    def to(self, device: torch.device) -> Items:
        """Return itself: a batch goes to the device when it is read."""
        return self


@contextmanager
def own_random_numbers() -> Iterator[Callable[..., None]]:
    """Give the block random numbers of its own, to be seeded by the function that it gets."""
    numpy: Any = sys.modules.get("numpy")
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state() if numpy else None

    def reseed(*parts: int | str) -> None:
        seed = compute.generator(*parts).initial_seed()
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        if numpy:
            numpy.random.seed(seed % 2**32)

    try:
        yield reseed
    finally:
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        if numpy:
            numpy.random.set_state(before[2])


def read_ahead(items: Items, order: Tensor, places: Sequence[slice], *, pin: bool) -> Iterator[Tensor]:
    """Yield the batches at these ranges of positions in an epoch's order, read ahead by other processes."""
    from torch.utils.data import DataLoader  # takes a while to import

    batches = [order[place].tolist() for place in places]
    workers = _workers(max((len(batch) for batch in batches), default=0) * _item_bytes(items))
    loader: Iterable[Tensor] = DataLoader(
        cast("Dataset[Tensor]", items),  # by its methods
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_start_worker if workers else None,
        pin_memory=pin,
        generator=torch.Generator(),  # or it would draw from torch's own, which the model draws from
    )
    return iter(loader)


def _item_bytes(items: Items) -> int:
    return torch.empty((), dtype=items.dtype).element_size() * int(torch.Size(items.item_shape).numel())


def _workers(batch_bytes: int) -> int:
    """Return how many processes read: one less than there are CPUs, as long as memory allows.

    The processes of a strategy have none: multiprocessing does not let a daemon start others.
    """
    if multiprocessing.current_process().daemon:
        return 0
    allowed = _AHEAD_BYTES // max(1, _AHEAD * batch_bytes)
    return max(0, min(_MOST_WORKERS, usable_cpus() - 1, allowed))


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(number: int) -> None:
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # the training finishes its step, and then ends this process
    die_with_parent()
