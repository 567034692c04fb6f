"""The optional libraries: a missing one is one line that says how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wbctool.errors import ExtraMissing


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Imports of an extra's libraries. Raises ExtraMissing, naming the command that installs them, where one is absent.

    what: who needs them, as the user knows it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "wbctool").partition(".")[0] in {"wbctool", "training"}:
            raise
        raise ExtraMissing(f"{what} needs {error.name}: pip install 'wbctool[{extra}]'") from error
