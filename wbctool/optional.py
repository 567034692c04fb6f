"""The optional libraries: a missing one is one line that says how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wbctool.errors import MissingDependency


@contextmanager
def require_extra(extra: str, feature: str) -> Iterator[None]:
    """Imports of an extra's libraries. Raises MissingDependency, naming the command that installs them, where one is absent.

    feature: who needs them, as the user knows it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "wbctool").partition(".")[0] in {"wbctool", "wbctool_training"}:
            raise
        raise MissingDependency(f"{feature} needs {error.name}: pip install 'wbctool[{extra}]'") from error
