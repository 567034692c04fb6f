"""The errors that wbctool raises on purpose. Each is also the built-in error that fits it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import ValidationError


class WbctoolError(Exception):
    """The base of every error whose message is written for the user."""


class FieldUnreadable(WbctoolError, ValueError):
    """An image cannot be read as what it shows; the message says why, in words for the laboratory."""


class FieldTooLarge(FieldUnreadable):
    """An image has more pixels than the limit."""


class FieldImplausible(FieldUnreadable):
    """An image was decoded, but it cannot show a stained smear, or not as it was photographed; the message says why."""


class FieldWronglySaved(FieldImplausible):
    """The colors of an image or the order of its pixels are wrong, so those of the slide's other images may be, too."""


class CellsTooSmall(FieldUnreadable):
    """The cells of a field have too few pixels for the detector; the message says how many."""


class SlidesNotFound(WbctoolError, FileNotFoundError):
    """The folder of slides is missing or holds no image."""


class ModelNotFound(WbctoolError, FileNotFoundError):
    """A model's ONNX file or its card is missing."""


class ModelMismatch(WbctoolError, ValueError):
    """A model is not the one that its card describes."""


class QuantizationRejected(WbctoolError, ValueError):
    """An int8 or fp16 copy would change too many results, or the model has no layer to quantize."""


class DeviceUnavailable(WbctoolError, RuntimeError):
    """The device the user asked for does not work on this machine."""


class OutputNotWritable(WbctoolError, OSError):
    """A result could not be written."""


class OutputLocked(WbctoolError, RuntimeError):
    """Another run or a review holds this output."""


class ClusterUnusable(WbctoolError, ConnectionError):
    """The Dask scheduler cannot be reached, or has no worker that can process slides."""


class StatusUnknown(WbctoolError, LookupError):
    """No run of an output is on record."""


class ResultsInvalid(WbctoolError, ValueError):
    """Published results are missing, altered or unreadable."""


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
    """A library of one of the package's extras is not installed."""


class SettingsInvalid(WbctoolError, ValueError):
    """A setting, or the file of settings, is invalid."""


class LabelledDataInvalid(WbctoolError, ValueError):
    """A folder of labelled data has none of the known layouts."""


class ReviewRefused(WbctoolError, ValueError):
    """A reader's review does not fit the results that it is applied to."""


class ReviewedSlideUnreadable(WbctoolError):
    """An image of a reviewed slide cannot be read, so that nobody can tell whether its review still holds."""


class AuditLogCorrupt(WbctoolError, ValueError):
    """The lines of an audit log do not follow from one another."""


def list_problems(error: ValidationError) -> list[tuple[str, str]]:
    """Return what is wrong with a record that pydantic refused.

    Args:
        error: The refusal.

    Returns:
        For each problem its path in the record, such as ``quality.3.blur_um``, empty for the record as a whole, and its
        cause, in our own words if we raised it.
    """
    return [
        (
            ".".join(map(str, problem["loc"])),
            str(problem["ctx"]["error"] if problem["type"] == "value_error" else problem["msg"]),
        )
        for problem in error.errors(include_url=False)
    ]
