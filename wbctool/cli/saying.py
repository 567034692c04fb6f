"""Lines on standard output. Apart from wbctool.cli.terminal, so that `wbctool doctor` needs no other library."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from wbctool.errors import OutputNotWritable


def echo(line: str) -> None:
    """A line of what a command is for, on standard output. Raises OutputNotWritable.

    Not where its reader has gone, as `head` has: that one has all it wants.
    """
    if sys.stdout is None:
        raise OutputNotWritable("there is no standard output")
    try:
        print(line, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what it still holds fails no more
        if not isinstance(error, BrokenPipeError):
            raise OutputNotWritable(f"standard output cannot be written: {error.strerror or error}") from error


def echo_optional(line: str) -> None:
    """A line on standard output beside what is written to files. Where it cannot be written, the work goes on."""
    with suppress(OutputNotWritable):
        echo(line)
