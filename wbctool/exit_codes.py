"""The exit codes of every command, defined once."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended; a run that a signal stopped ends with 128 plus the signal's number.

    Attributes:
        DONE: Everything is as it should be.
        FATAL: Nothing usable could be written, or a check failed.
        USAGE: The command line, or a file that the user wrote, cannot be used.
        NEEDS_ATTENTION: The command has finished, but a slide is failed or partial, a QC slide is out of control, or
            the models do not fit.
        NO_IMAGES: No image was found.
        LOCKED: Another run or a review is using the output.
        INTERRUPTED: Ctrl-C, before a run could end in order.
    """

    DONE = 0
    FATAL = 1
    USAGE = 2
    NEEDS_ATTENTION = 3
    NO_IMAGES = 4
    LOCKED = 5
    INTERRUPTED = 130
