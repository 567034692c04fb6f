"""The errors wbctool raises on purpose. Each is also the built-in error it is a case of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


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


class RecordInvalid(ResultsInvalid):
    """A slide.json or run.json that is missing, altered, or not valid.

    Attributes:
        path: The file.
        reason: What is wrong with it and where in the file, to follow the file's name in a sentence.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path, self.reason = path, reason


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
