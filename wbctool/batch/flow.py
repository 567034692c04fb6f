"""Steps of a pipeline that overlap and still keep their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, in the items' order, while the pool works on up to ``ahead`` items after it.

    Nothing more is taken from ``items`` until a result is fetched, so however slow the one who fetches, what waits in
    memory is bounded. Raises what ``work`` raises, at that item's turn. Once the iterator is closed, items that nobody
    has begun on are dropped.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            while waiting and (len(waiting) > ahead or waiting[0][1].done()):
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()
