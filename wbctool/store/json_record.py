"""Reading slide.json and run.json: what their two readers have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from wbctool.errors import RecordInvalid, list_problems

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RecordSchema(Generic[_T]):
    """The schema of a record.

    Attributes:
        subject: What the record is of, for errors.
        name: The current schema, as the file names it.
        former_name: The schema of the version before.
        upgrade: Brings JSON values of that version to the current names.
        adapter: The adapter of the record's type.
    """

    subject: str
    name: str
    former_name: str
    upgrade: Callable[[Mapping[str, Any]], dict[str, Any]]
    adapter: TypeAdapter[_T]


def read_record_bytes(path: Path) -> bytes:
    """Return the content of a record.

    Raises:
        RecordInvalid: The file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RecordInvalid(path, "is missing") from error
    except OSError as error:
        raise RecordInvalid(path, f"cannot be read: {error.strerror or error}") from error


def validate_record(content: Any, path: Path, schema: RecordSchema[_T]) -> _T:
    """Return a record's JSON values as its type.

    Args:
        content: The JSON values, in the current schema or the one before.
        path: The file, for errors.
        schema: The schema that they must have.

    Raises:
        RecordInvalid: The values do not fit; it names the first place in the file, such as ``quality.3.blur_um``.
    """
    invalid = f"is not a valid record of a {schema.subject}"
    name = content.get("schema") if isinstance(content, dict) else None
    if name is None:
        raise RecordInvalid(path, f"{invalid}: it has no schema")
    if name not in (schema.name, schema.former_name):
        raise RecordInvalid(path, f"cannot be read by this version of wbctool: its schema is {name!r}")
    try:
        return schema.adapter.validate_python(content if name == schema.name else schema.upgrade(content))
    except ValidationError as error:
        location, cause = list_problems(error)[0]
        raise RecordInvalid(path, f"{invalid}: {location + ': ' if location else ''}{cause}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # of the upgrade
        raise RecordInvalid(path, f"{invalid}: {error!r}") from error
