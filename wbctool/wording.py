"""Words for the user that depend on a number."""

from __future__ import annotations


def pluralize(count: int, noun: str) -> str:
    """A number with its noun, which takes an s in the plural.

    >>> pluralize(1, "slide"), pluralize(0, "cell")
    ('1 slide', '0 cells')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
