"""Errors at the door of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from wbctool import errors
from wbctool.cli.exit_codes import exit_code_of


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Errors written for the user become one line and an exit code; others stay what they are, defects."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise typer.Exit(exit_code_of(error)) from error
    except errors.WbctoolError as error:
        from wbctool.layout import name_shown

        typer.echo(f"wbctool: {name_shown(str(error))}", err=True)
        raise typer.Exit(exit_code_of(error)) from error
