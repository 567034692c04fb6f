"""The errors wbctool raises on purpose. Each is also the built-in error it is a case of."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command. A run that a signal stopped ends with 128 plus the signal's number."""

    DONE = 0
    FATAL = 1
    USAGE = 2
    SLIDES_FAILED = 3
    NO_IMAGES = 4
    LOCKED = 5
    INTERRUPTED = 130


class WbctoolError(Exception):
    """Base of every error whose message is written for the user."""


class FieldUnreadable(WbctoolError, ValueError):
    """An image that cannot be read as what it shows; the message says why, in words for the lab."""


class FieldTooLarge(FieldUnreadable):
    """An image above the limit of pixels."""


class SlidesNotFound(WbctoolError, FileNotFoundError):
    """The folder of slides is missing, or holds no image."""


class ModelNotFound(WbctoolError, FileNotFoundError):
    """A model's ONNX file or its card is missing."""


class ModelMismatch(WbctoolError, ValueError):
    """A model that is not the one its card describes."""


class QuantizationRejected(WbctoolError, ValueError):
    """An int8 or fp16 copy that would change too much, or a model with nothing to compute in int8."""


class DeviceUnavailable(WbctoolError, RuntimeError):
    """The device the user asked for does not work on this machine."""


class OutputNotWritable(WbctoolError, OSError):
    """A result could not be written."""


class OutputLocked(WbctoolError, RuntimeError):
    """Another run holds this output."""


class ClusterUnusable(WbctoolError, ConnectionError):
    """A Dask scheduler that cannot be reached, or one without a worker that may do slides."""


class StatusUnknown(WbctoolError, LookupError):
    """An output on which no run is on record."""


class ResultsInvalid(WbctoolError, ValueError):
    """Published results that are missing, altered, or not to be read."""


class MissingDependency(WbctoolError, ModuleNotFoundError):
    """A library that comes with one of the package's extras."""


class SettingsInvalid(WbctoolError, ValueError):
    """A setting, or the file of settings, that wbctool does not accept."""


class LabelledDataInvalid(WbctoolError, ValueError):
    """A folder of labelled data that cannot be read as one of the known layouts."""


class ReviewRefused(WbctoolError, ValueError):
    """A reader's review that does not fit the results it is to be applied to."""


class AuditLogCorrupt(WbctoolError, ValueError):
    """An audit trail whose lines do not follow from one another."""
