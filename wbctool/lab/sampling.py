"""Some of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def evenly_spaced(items: Sequence[Item], number: int) -> list[Item]:
    """At most ``number`` items, evenly spread over all, in order.

    >>> spread("abcdefgh", 3)
    ['a', 'c', 'f']
    """
    number = min(number, len(items))
    return [items[index * len(items) // number] for index in range(number)]
