"""The processes that train together, as one of them sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from jobs.stopping import StopRequest


class Team(Protocol):
    """What the loop has to ask the others, or to tell them."""

    leads: bool  # this process speaks for all, and alone writes files

    def steps(self, first: int, total: int, stop: StopRequest) -> Iterator[int]:
        """The steps of an epoch, from `first` on, that this process takes part in; ends early on a stop."""

    def part(self, places: slice) -> tuple[slice, float]:
        """Which of a batch's places are this process's, and what their mean counts in the step."""

    def meet(self, sums: Tensor) -> tuple[int, Tensor]:
        """Wait until all have come to the end of their steps.

        Returns how many steps of the epoch are done, and the sum of everybody's `sums`.
        """

    def go_on(self) -> None:
        """Wait until the one that leads has saved what is to be saved."""
