"""Words for the user that depend on a number."""

from __future__ import annotations


def number_of(n: int, noun: str) -> str:
    """A number with its noun, which takes an s in the plural.

    >>> number_of(1, "slide"), number_of(0, "cell")
    ('1 slide', '0 cells')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
