"""labels.json, what a reader called the cells of a label page: its type, its one reader and its one writer in Python.

The page of `wbctool label` itself writes the file in the reader's browser, from entries that this module made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field, StrictBool, StrictInt, StringConstraints, TypeAdapter

from wbctool.errors import RecordInvalid
from wbctool.inference.adaptation_info import Sha256
from wbctool.labels import CellClass, UnknownKind
from wbctool.store.atomic_write import format_json
from wbctool.store.json_record import RecordSchema, read_record_bytes, validate_record
from wbctool.types.cells import Box

SCHEMA = "wbctool-labels/1"
MAX_READER_CHARACTERS = 40


class NoClass(StrEnum):
    """What a reader says of a cell that no class fits, besides the unknown kinds."""

    NONE_OF_THESE = "none_of_these"
    CANNOT_TELL = "cannot_tell"


CellLabel = CellClass | UnknownKind | NoClass


class Purpose(StrEnum):
    """Why a cell was chosen: at random, to stand for the laboratory's cells; or because it teaches much.

    Readers learn from both. If there are enough of the first, the adaptation is measured on them alone.
    """

    MEASURE = "random"
    TEACH = "informative"


def _parse_label(value: object) -> CellLabel:
    """Return the label that a text means."""
    for kind in (CellClass, UnknownKind, NoClass):
        if isinstance(value, str) and value in kind._value2member_map_:
            return kind(value)
    raise ValueError(f"{value!r} is no label")


def _refuse_number(value: object) -> object:
    """Refuse a number in place of a time's text."""
    if not isinstance(value, str | datetime):
        raise ValueError("is no time")  # noqa: TRY004, pydantic's validators raise ValueError
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_refuse_number)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenCell:
    """A cell that a page shows to a reader.

    Attributes:
        slide: The slide's id.
        field: The name of the cell's field within the slide.
        field_sha256: The SHA-256 of the field's file.
        cell: The cell's number within the field, from 1.
        box: The cell's box in the field, in native pixels.
        chosen: Why the cell was chosen.
    """

    slide: str
    field: str
    field_sha256: Sha256
    cell: Annotated[StrictInt, Field(ge=1)]
    box: Box
    chosen: Purpose

    def __post_init__(self) -> None:
        if min(self.box.x, self.box.y) < 0 or min(self.box.width, self.box.height) < 1:
            raise ValueError("box: it is empty or begins outside the field")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledCell(ChosenCell):
    """A cell with the reader's label.

    Attributes:
        label: What the reader calls it.
        time: When, by the reader's clock.
        answer_shown: Whether the reader had asked for the tool's own answer before.
    """

    label: Annotated[CellLabel, BeforeValidator(_parse_label)]
    time: Time
    answer_shown: StrictBool


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The content of a labels file, apart from its schema.

    Attributes:
        reader: Who named the cells.
        created: When the reader saved the file, by the reader's clock.
        tool_version: The version of wbctool that made the page.
        page: The SHA-256 of what the page asks; two readers of one page have the same.
        cells_asked: The number of cells on the page. Those that the reader passed over are not among ``cells``.
        results: The SHA-256 of the cells that the run found, for each slide with a cell on the page, as
            wbctool.report.csv_tables.hash_cells gives it.
        cells: The cells that the reader named, in the page's order.
    """

    reader: Annotated[str, StringConstraints(min_length=1, max_length=MAX_READER_CHARACTERS)]
    created: Time
    tool_version: str
    page: Sha256
    cells_asked: Annotated[StrictInt, Field(ge=1)]
    results: Mapping[str, Sha256]
    cells: tuple[LabelledCell, ...]

    def __post_init__(self) -> None:
        keys = [(cell.slide, cell.field, cell.cell) for cell in self.cells]
        if len(set(keys)) < len(keys):
            raise ValueError("cells: a cell is named twice")
        if unknown := {cell.slide for cell in self.cells} - self.results.keys():
            raise ValueError(f"results: slide {min(unknown)!r} is missing")


_SCHEMA = RecordSchema("label page", SCHEMA, SCHEMA, dict, TypeAdapter(Labels))


def read_labels(path: Path) -> Labels:
    """Read a labels file. This is its one reader.

    Args:
        path: The file, as a label page saved it or :func:`format_labels` wrote it.

    Raises:
        RecordInvalid: The file is missing or not valid; the error names it and the place in it.
    """
    data = read_record_bytes(path)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecordInvalid(path, f"was not saved by a label page: it is no JSON ({error})") from error
    return validate_record(content, path, _SCHEMA)


def format_labels(labels: Labels) -> bytes:
    """Return the content of a labels file."""
    return format_json({"schema": SCHEMA, **_SCHEMA.adapter.dump_python(labels, mode="json")}).encode("ascii")


def dump_chosen_cell(cell: ChosenCell) -> dict[str, Any]:
    """Return a cell as the page copies it into the labels file, to which it adds the reader's part."""
    return asdict(cell)
