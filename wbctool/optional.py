"""Imports of optional libraries, with an error that says how to install a missing one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wbctool.errors import MissingDependency


@contextmanager
def require_extra(extra: str, feature: str) -> Iterator[None]:
    """Run imports of an extra's libraries.

    Args:
        extra: The extra that installs them.
        feature: The feature that needs them, as the user knows it.

    Raises:
        MissingDependency: A library is missing; the message names the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "wbctool").partition(".")[0] in {"wbctool", "wbctool_training"}:
            raise
        raise MissingDependency(f"{feature} needs {error.name}: pip install 'wbctool[{extra}]'") from error
