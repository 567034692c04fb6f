"""Steps of a pipeline that overlap and still keep their order."""

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
    """Each item with its result, in the items' order, while the pool works on up to ``prefetch`` items after it.

    Nothing more is taken from ``items`` until a result is fetched, so however slow the one who fetches, what waits in
    memory is bounded. Raises what ``func`` raises, at that item's turn. Once the iterator is closed, items that nobody
    has begun on are dropped.
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
