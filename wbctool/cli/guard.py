"""Errors at the door of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from wbctool import errors
from wbctool.cli.exit_codes import get_exit_code


@contextmanager
def handle_errors() -> Iterator[None]:
    """Errors written for the user become one line and an exit code; others stay what they are, defects."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise typer.Exit(get_exit_code(error)) from error
    except errors.WbctoolError as error:
        from wbctool.text import display_name

        typer.echo(f"wbctool: {display_name(str(error))}", err=True)
        raise typer.Exit(get_exit_code(error)) from error
