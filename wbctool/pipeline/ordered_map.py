"""A parallel map that keeps the order of its items and bounds how many are in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ordered(
    pool: Executor, func: Callable[[Item], Result], items: Iterable[Item], prefetch: int
) -> Iterator[tuple[Item, Result]]:
    """Apply a function to items in a pool and yield the results in the order of the items.

    The next item is taken only when a result is fetched. However slow the consumer is, the number of results that wait
    in memory is therefore bounded. (``Executor.map`` takes all items at once.)

    Args:
        pool: The pool that calls ``func``.
        func: The function.
        items: The items, taken in the consumer's thread.
        prefetch: How many items after the one that is fetched the pool works on.

    Yields:
        Each item with its result.

    Raises:
        Exception: What ``func`` raises, when that item's result is fetched. Closing the iterator cancels the items that
            no thread has begun.
    """
    pending: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            pending.append((item, pool.submit(func, item)))
            while pending and (len(pending) > prefetch or pending[0][1].done()):
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        for _, future in pending:
            future.cancel()
