"""How a long measurement tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Takes the items, their number and a word for them; hands the items on."""
