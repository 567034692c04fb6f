"""The table of all slides as an Excel workbook: the sheet ``counts``, and ``definitions`` of its columns."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wbctool.report.csv_tables import NOT_ASSESSED
from wbctool.report.table_schema import table_schema_json
from wbctool.text import encode_name

if TYPE_CHECKING:
    from openpyxl.cell import Cell
    from openpyxl.worksheet.worksheet import Worksheet

# The workbook's properties never change, so that the same table gives the same bytes. A program that saves the workbook
# again writes its own time into them, by which a workbook with somebody's notes is known.
CORE_PROPERTIES_NAME = "docProps/core.xml"
CORE_PROPERTIES = (
    b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    b'<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/" '
    b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><dc:creator>wbctool</dc:creator>'
    b'<dcterms:created xsi:type="dcterms:W3CDTF">2000-01-01T00:00:00Z</dcterms:created>'
    b'<dcterms:modified xsi:type="dcterms:W3CDTF">2000-01-01T00:00:00Z</dcterms:modified></cp:coreProperties>'
)
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_WIDTHS = {"counts": {"A": 30}, "definitions": {"A": 32, "B": 100, "C": 20}}
_TYPES = {"integer": int, "number": float, "string": str}


def counts_workbook(rows: Iterable[Mapping[str, str]]) -> bytes:
    """Return the workbook.

    Every name is text, also one that begins with ``=``, ``+``, ``-`` or ``@``; numbers are numbers, and what was not
    counted is empty.

    Args:
        rows: The rows of :func:`wbctool.report.csv_tables.counts_row`, in slide order.

    Returns:
        The content of the .xlsx file; the same rows give the same bytes.
    """
    from openpyxl import Workbook

    fields: list[dict[str, Any]] = json.loads(table_schema_json("counts"))["fields"]
    book = Workbook()
    counts = book.active
    counts.title = "counts"
    _add_header(counts, [field["name"] for field in fields])
    for number, row in enumerate(rows, start=2):
        for column, field in enumerate(fields, start=1):
            _set_value(counts.cell(number, column), row[field["name"]], _TYPES[field["type"]])
    definitions = book.create_sheet("definitions")
    _add_header(definitions, ["column", "meaning", "unit"])
    for number, field in enumerate(fields, start=2):
        for column, text in enumerate((field["name"], field["description"], field.get("unit", "")), start=1):
            _set_value(definitions.cell(number, column), text, str)
    buffer = io.BytesIO()
    book.save(buffer)
    return _fix_times(buffer.getvalue())


def _add_header(sheet: Worksheet, names: Sequence[str]) -> None:
    """Write the first row, which stays in sight."""
    from openpyxl.styles import Font

    for column, name in enumerate(names, start=1):
        sheet.cell(1, column, name).font = Font(bold=True)
    sheet.freeze_panes = "B2"
    for letter, width in _WIDTHS[sheet.title].items():
        sheet.column_dimensions[letter].width = width


def _set_value(cell: Cell, text: str, kind: type[int] | type[float] | type[str]) -> None:
    """Write one value; text is never a formula, also not after somebody has edited the cell."""
    if not text:
        return
    if kind is not str and text != NOT_ASSESSED:
        cell.value = kind(text)
        if kind is float:
            cell.number_format = "0.00"
        return
    cell.value = _NOT_IN_XML.sub(lambda match: match.group().encode("unicode_escape").decode(), encode_name(text))
    if cell.data_type == "f":
        cell.data_type = "s"
    if text[0] in "=+-@":
        cell.quotePrefix = True


def _fix_times(content: bytes) -> bytes:
    """Return the workbook with fixed properties, and without the time at which its parts were packed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(packed, "w") as target:
        for name in source.namelist():
            part = CORE_PROPERTIES if name == CORE_PROPERTIES_NAME else source.read(name)
            target.writestr(zipfile.ZipInfo(name, _ZIP_TIME), part, zipfile.ZIP_DEFLATED)
    return packed.getvalue()
