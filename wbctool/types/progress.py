"""The progress of a long measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Wraps items, given their number and a word for them, and shows how many of them have been taken."""


def no_progress(items: Iterable[Any], total: int, description: str) -> Iterable[Any]:  # noqa: ARG001
    """Show nothing."""
    return items
