"""Tables that a laboratory writes, as CSV in any of the usual dialects or as an Excel workbook."""

from __future__ import annotations

import csv
import io
import re
import stat
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wbctool.errors import WbctoolError
from wbctool.paths import is_file

_MAX_BYTES = 50_000_000
_SUFFIXES = (".csv", ".xlsx")
_SEPARATOR_LINE = re.compile(r"sep=([,;\t])(?=\r\n|\r|\n)", re.IGNORECASE)  # the first line that Excel may write
_UNREAD_SUFFIXES = frozenset({".csv", ".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers", ".tsv", ".tab", ".txt"})
# No-break spaces are among \s; byte order marks come with merged files, \x1a is the end of a file of DOS.
_INVISIBLE = r"\s\x1a\u200b-\u200f\u2060\ufeff"
_MARGINS = re.compile(rf"\A[{_INVISIBLE}]+|[{_INVISIBLE}]+\Z")
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_DAMAGED_WORKBOOK = (  # what openpyxl and zipfile raise
    *(OSError, ValueError, KeyError, IndexError, TypeError, SyntaxError, EOFError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
_ZERO_PADDED = re.compile("00+")  # the number format of a number that shows leading zeros
_DECIMAL_COMMA = re.compile(r"(\d+),(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table.

    Attributes:
        line: Number of the row's last line in the file, from 1.
        values: Text by column name, empty if it is blank. A column is missing if the row ends before it.
    """

    line: int
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table with named columns.

    Attributes:
        columns: Names in the order of the file, stripped and in lower case. Columns without a name are left out.
        rows: The rows that are not empty.
        has_decimal_comma: Whether a comma may be a decimal sign, because semicolons separate the values.
    """

    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    has_decimal_comma: bool

    def number_text(self, text: str) -> str:
        """Return the text of a number with a decimal point, stripped.

        >>> Table((), (), has_decimal_comma=True).number_text(" 62,5")
        '62.5'
        """
        text = strip_cell(text)
        is_decimal = self.has_decimal_comma and _DECIMAL_COMMA.fullmatch(text)
        return text.replace(",", ".") if is_decimal else text


def strip_cell(text: str) -> str:
    """Return a cell's text without the spaces and invisible characters around it.

    >>> strip_cell("\ufeff a b\u00a0")
    'a b'
    """
    return _MARGINS.sub("", text)


def find_table(folder: Path, stem: str, error: type[WbctoolError]) -> Path | None:
    """Find a laboratory's table in a folder.

    Args:
        folder: Where the table may lie, as a file or as a link to one.
        stem: The file's name without its ending.
        error: Raised if it is unclear whether there is a table.

    Returns:
        ``stem.csv``, else ``stem.xlsx``, in any case; None if there is neither.

    Raises:
        WbctoolError: As ``error``, if two tables differ only in case, if the table is a broken link, or if the folder
            cannot be searched.
    """
    names = _list_names(folder, error)
    for suffix in _SUFFIXES:
        wanted = f"{stem}{suffix}"
        paths = [folder / name for name in names if name.casefold() == wanted and _is_file(folder / name, error)]
        if len(paths) > 1:
            listed = ", ".join(path.name for path in paths)
            raise error(f"{folder} holds several tables of the name {wanted}: {listed}; keep the one that is valid")
        if paths:
            return paths[0]
    return None


def list_unread_tables(folder: Path, stem: str, found: Path | None, error: type[WbctoolError]) -> list[str]:
    """Return the names of files that look like a laboratory's table, but are not read.

    If a table is read, a copy of it under another name is the laboratory's matter.

    Args:
        folder: Where the table may lie.
        stem: The file's name without its ending.
        found: The table that is read; None if there is none.
        error: Raised if the folder cannot be searched.

    Returns:
        Such as ``slides.xls`` or ``slides.csv.txt``; if no table is read, ``slides (1).csv`` and ``slide.csv`` too.
    """
    begin = rf"{stem}\." if found else rf"{stem.removesuffix('s')}s?([ ._(-].*)?\."
    return [
        name
        for name in _list_names(folder, error)
        if re.match(begin, name, re.IGNORECASE)
        and Path(name.strip()).suffix.lower() in _UNREAD_SUFFIXES
        and (found is None or name != found.name)
        and is_file(folder / name)
    ]


def read_table(path: Path, columns: tuple[str, ...], error: type[WbctoolError]) -> Table:
    r"""Read a laboratory's table.

    CSV is UTF-8, with or without a byte order mark, or UTF-16 with one, as Excel's "Unicode text". Values are separated
    by commas, semicolons or tabs. The separator is the one that Excel's line ``sep=`` names, else the one under which
    the header has the first of ``columns``. An Excel workbook (``.xlsx``) is read from its first sheet.

    Args:
        path: The file.
        columns: Names that the header must have, in lower case.
        error: Raised for everything that is wrong with the file.

    Raises:
        WbctoolError: As ``error``, naming the file and, if known, line and column: the file cannot be read, is no CSV,
            lacks a column, has a column twice, or has a value in a column without a name. Blank cells have no value.
    """
    is_excel = path.suffix.lower() == ".xlsx"
    text = "" if is_excel else _read_text(path, error)
    delimiter, text = _split_separator_line(text, columns[0])
    lines = _iter_excel(path, error) if is_excel else _iter_csv(path, text, delimiter, error)
    header_line, header = next(lines, (1, []))
    header = _normalize_columns(header)
    _check_header(f"{path}, line {header_line}", header, columns, error)
    rows = []
    for line, values in lines:
        _check_named(f"{path}, line {line}", header, values, error)
        named = ((name, value) for name, value in zip(header, values, strict=False) if name)
        rows.append(TableRow(line, {name: value if strip_cell(value) else "" for name, value in named}))
    return Table(tuple(filter(None, header)), tuple(rows), has_decimal_comma=delimiter == ";")


def _list_names(folder: Path, error: type[WbctoolError]) -> list[str]:
    """Return the names in a folder; a folder without access is an error, not an empty one."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as cause:
        raise error(f"{folder}: cannot be read: {cause.strerror or cause}") from cause


def _is_file(path: Path, error: type[WbctoolError]) -> bool:
    """Tell a file from a folder; a broken link is an error."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError as cause:
        raise error(f"{path}: the link leads to no file") from cause
    except OSError as cause:
        raise error(f"{path}: cannot be read: {cause.strerror or cause}") from cause


def _read_text(path: Path, error: type[WbctoolError]) -> str:
    """Read a UTF-8 file without its byte order mark."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise error(f"{path}: larger than {_MAX_BYTES // 1_000_000} MB; is it the right file?")
        content = path.read_bytes()
    except OSError as cause:
        raise error(f"{path}: cannot be read: {cause.strerror or cause}") from cause
    try:
        text = content.decode("utf-16" if content.startswith(_UTF_16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as cause:
        line = content[: cause.start].count(b"\n") + 1
        raise error(f"{path}, line {line}: not UTF-8; save it as CSV UTF-8") from cause
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise error(f"{path}, line {line}: zero bytes; it was not copied completely, or is no CSV in UTF-8")
    return text


def _split_separator_line(text: str, column: str) -> tuple[str, str]:
    """Return the separator, and the text with an empty line instead of a line ``sep=``."""
    if declared := _SEPARATOR_LINE.match(text):
        return declared[1], text[declared.end() :]
    header = next((line for line in text.splitlines() if strip_cell(line.strip(',;\t" '))), "")
    with suppress(csv.Error):
        for delimiter in ",;\t":
            if column in _normalize_columns(next(csv.reader([header], delimiter=delimiter), [])):
                return delimiter, text
    return ",", text


def _iter_csv(path: Path, text: str, delimiter: str, error: type[WbctoolError]) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and values of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from ((reader.line_num, values) for values in reader if any(map(strip_cell, values)))
    except csv.Error as cause:
        raise error(f"{path}, line {reader.line_num}: invalid CSV: {cause}") from cause


def _iter_excel(path: Path, error: type[WbctoolError]) -> Iterator[tuple[int, list[str]]]:
    """Yield row number and values of each row of the first sheet that is not empty."""
    import openpyxl  # late: most laboratories write CSV

    try:
        with warnings.catch_warnings(action="ignore"):  # of what a sheet has beside its values
            shown, typed = (
                openpyxl.load_workbook(path, read_only=True, data_only=values).worksheets[0].iter_rows()
                for values in (True, False)
            )
            rows = list(zip(shown, typed, strict=True))
    except _DAMAGED_WORKBOOK as cause:
        raise error(f"{path}: cannot be read as an Excel workbook: {cause}") from cause
    for line, (cells, formulas) in enumerate(rows, start=1):
        # A formula that no program has computed yet has no value; its own text is seen, a blank would not be.
        values = [
            _excel_text(formula.value if cell.value is None else cell.value, cell.number_format)
            for cell, formula in zip(cells, formulas, strict=True)
        ]
        if any(map(strip_cell, values)):
            yield line, values


def _excel_text(value: object, number_format: str | None) -> str:
    """Return a cell's text: of a number without a fraction as a whole one, with the leading zeros that it shows."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else str(value)
    is_padded = isinstance(value, int) and _ZERO_PADDED.fullmatch(number_format or "")
    return text.zfill(len(number_format or "")) if is_padded else text


def _normalize_columns(names: list[str]) -> list[str]:
    """Strip names and turn them to lower case."""
    return [strip_cell(name).lower() for name in names]


def _check_named(location: str, header: list[str], values: list[str], error: type[WbctoolError]) -> None:
    """Raise an error if a row has a value in a column without a name: nobody would see that it is not read."""
    for number, value in enumerate(values):
        if strip_cell(value) and number >= len(header):
            raise error(f"{location}: more values than the header has columns: {strip_cell(value)!r}")
        if strip_cell(value) and not header[number]:
            raise error(
                f"{location}: {strip_cell(value)!r} is in column {number + 1}, which has no name in the header; "
                "name the column, or empty it"
            )


def _check_header(location: str, header: list[str], columns: tuple[str, ...], error: type[WbctoolError]) -> None:
    """Raise an error if a column is there twice or is missing."""
    for name in header:
        if name and header.count(name) > 1:
            raise error(f"{location}, {name}: duplicate column {name!r}")
    for name in columns:
        if name not in header:
            parts = (part.strip() for text in header for part in re.split(r"[;\t]", text))  # under another separator
            found = ", ".join(map(repr, filter(None, parts))) or "none"
            raise error(f"{location}, {name}: missing column {name!r}; the columns are {found}")
