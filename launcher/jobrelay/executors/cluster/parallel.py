"""Parallel calls to the API."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

A = TypeVar("A")
B = TypeVar("B")

_THREADS: Final = 8


def in_parallel(call: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Apply `call` to every item; returns results in the order of the items. Raises the first error.

    An interrupt does not wait for calls that get no answer.
    """
    threads = ThreadPoolExecutor(_THREADS)
    try:
        return list(threads.map(call, items))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
