"""Several calls to the API at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

A = TypeVar("A")
B = TypeVar("B")

_THREADS: Final = 8


def in_parallel(call: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """`call` on every item, the results in the order of the items; the first error is raised.

    An interrupt does not wait for calls that nobody answers.
    """
    threads = ThreadPoolExecutor(_THREADS)
    try:
        return list(threads.map(call, items))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
