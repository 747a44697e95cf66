"""The processes that train together, as one of them sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from jobrelay_runner.signals import StopRequest


class Part(NamedTuple):
    """What one process does of a batch.

    weight: what the mean loss of these places counts in the step. counts: whether its loss and right answers
    are added to the epoch's; not where another process does the same places.
    """

    places: slice
    weight: float = 1.0
    counts: bool = True


class Team(Protocol):
    """What the loop has to ask the others, or to tell them."""

    leads: bool  # this process speaks for all, and alone writes files

    def steps(self, first: int, total: int, stop: StopRequest) -> Iterator[int]:
        """The steps of an epoch, from `first` on, that this process takes part in; ends early on a stop."""

    def part(self, places: slice) -> Part:
        """What of a batch is this process's. All parts that count are the batch, each image once."""

    def meet(self, sums: Tensor) -> tuple[int, Tensor]:
        """Wait until all have come to the end of their steps.

        Returns how many steps of the epoch are done, and the sum of everybody's `sums`.
        """

    def go_on(self) -> None:
        """Wait until the one that leads has saved what is to be saved."""
