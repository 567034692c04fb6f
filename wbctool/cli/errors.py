"""The exit codes of errors, and their message on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from wbctool import errors
from wbctool.cli.output import echo_error
from wbctool.exit_codes import ExitCode

_EXIT_CODES: dict[type[errors.WbctoolError], ExitCode] = {
    errors.SettingsInvalid: ExitCode.USAGE,
    errors.SlidesNotFound: ExitCode.NO_IMAGES,
    errors.OutputLocked: ExitCode.LOCKED,
}


def get_exit_code(error: BaseException) -> ExitCode:
    """Return the exit code that an error ends a command with, as docs/guide/running.md lists them."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), ExitCode.FATAL)


@contextmanager
def handle_errors() -> Iterator[None]:
    """Turn errors that are written for the user into one line and an exit code; others are defects and pass.

    Raises:
        typer.Exit: In place of a WbctoolError or KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise typer.Exit(get_exit_code(error)) from error
    except errors.WbctoolError as error:
        echo_error(str(error))
        raise typer.Exit(get_exit_code(error)) from error
