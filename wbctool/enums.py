"""The choices of a run. They are not in wbctool.settings, so that `wbctool --help` does not import pydantic."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Device(StrEnum):
    """Where the models run. ``auto``: on CUDA if a session really works there, else on the CPU, with a message."""

    AUTO = "auto"
    CUDA = "cuda"
    CPU = "cpu"


class SuperResolve(StrEnum):
    """Which crops go through the generator (wbctool.stages.preprocess)."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Precision(StrEnum):
    """The models' arithmetic. ``auto``: int8 on a CPU and fp16 on CUDA if there are such copies, else fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class ExitCode(IntEnum):
    """How a command ended; a run that a signal stopped ends with 128 plus the signal's number.

    Attributes:
        DONE: Everything is as it should be.
        FATAL: Nothing usable could be written, or a check failed.
        USAGE: The command line, or a file that the user wrote, cannot be used.
        NEEDS_ATTENTION: The command has finished, but a slide is failed or partial, a QC slide is out of control, or
            the models do not fit.
        NO_IMAGES: No image was found.
        LOCKED: Another run is using the output.
        INTERRUPTED: Ctrl-C, before a run could end in order.
    """

    DONE = 0
    FATAL = 1
    USAGE = 2
    NEEDS_ATTENTION = 3
    NO_IMAGES = 4
    LOCKED = 5
    INTERRUPTED = 130
