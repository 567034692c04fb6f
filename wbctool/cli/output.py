"""Lines on standard output and standard error, and the check that results can be written.

`wbctool doctor` uses this module, so it imports no other library.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from wbctool.errors import OutputNotWritable
from wbctool.text import display_name


def echo(line: str) -> None:
    """Print a line that the command exists for.

    A reader that has gone, as `head` has, is no error: it has all that it wants.

    Raises:
        OutputNotWritable: Standard output is closed or full.
    """
    if sys.stdout is None:
        raise OutputNotWritable("there is no standard output")
    try:
        print(line, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise the exit would fail once more
        if not isinstance(error, BrokenPipeError):
            raise OutputNotWritable(f"standard output cannot be written: {error.strerror or error}") from error


def echo_optional(line: str) -> None:
    """Print a line beside results that are written to files; if it cannot be printed, the work goes on."""
    with suppress(OutputNotWritable):
        echo(line)


def echo_error(message: str) -> None:
    """Print a message on standard error, with control characters made visible."""
    print(f"wbctool: {display_name(message)}", file=sys.stderr)


def check_writable(folder: Path) -> None:
    """Check that a folder of results can be made and written to, before minutes of work; leave no new folder.

    Raises:
        OutputNotWritable: It cannot.
    """
    import tempfile

    missing: list[Path] = []
    try:
        missing += [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputNotWritable(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
