"""Tables that a laboratory writes, as CSV in any of the usual dialects or as an Excel workbook."""

from __future__ import annotations

import csv
import io
import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wbctool.errors import WbctoolError

_MAX_BYTES = 50_000_000
_SUFFIXES = (".csv", ".xlsx")
_SEPARATOR_LINE = re.compile(r"sep=([,;\t])(?=\r\n|\r|\n)", re.IGNORECASE)  # the first line that Excel may write
_DECIMAL_COMMA = re.compile(r"(\d+),(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table.

    Attributes:
        line: Number of the row's last line in the file, from 1.
        values: Text by column name. A column is missing if the row ends before it.
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
        text = text.strip()
        is_decimal = self.has_decimal_comma and _DECIMAL_COMMA.fullmatch(text)
        return text.replace(",", ".") if is_decimal else text


def find_table(folder: Path, stem: str, error: type[WbctoolError]) -> Path | None:
    """Find a laboratory's table in a folder.

    Args:
        folder: Where the table may lie, as a file or as a link to one.
        stem: The file's name without its ending.
        error: Raised if it is unclear whether there is a table.

    Returns:
        ``stem.csv``, else ``stem.xlsx``; None if there is neither.

    Raises:
        WbctoolError: As ``error``, if the table is a broken link or the folder cannot be searched.
    """
    paths = (folder / f"{stem}{suffix}" for suffix in _SUFFIXES)
    return next((path for path in paths if _is_file(path, error)), None)


def read_table(path: Path, columns: tuple[str, ...], error: type[WbctoolError]) -> Table:
    r"""Read a laboratory's table.

    CSV is UTF-8, with or without a byte order mark. Values are separated by commas, semicolons or tabs. The separator
    is the one that Excel's line ``sep=`` names, else the one under which the header has the first of ``columns``. An
    Excel workbook (``.xlsx``) is read from its first sheet.

    Args:
        path: The file.
        columns: Names that the header must have, in lower case.
        error: Raised for everything that is wrong with the file.

    Raises:
        WbctoolError: As ``error``, naming the file and, if known, line and column: the file cannot be read, is no CSV,
            lacks a column, has a column twice, or has a row with more values than the header has columns.
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
        if len(values) > len(header):
            raise error(f"{path}, line {line}: more values than the header has columns")
        rows.append(TableRow(line, {name: value for name, value in zip(header, values, strict=False) if name}))
    return Table(tuple(filter(None, header)), tuple(rows), has_decimal_comma=delimiter == ";")


def _is_file(path: Path, error: type[WbctoolError]) -> bool:
    """Tell whether a file is there; a broken link or a folder without access is an error, not a missing file."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as cause:
        if path.is_symlink():
            raise error(f"{path}: the link leads to no file") from cause
        return False
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
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = content[: cause.start].count(b"\n") + 1
        raise error(f"{path}, line {line}: not UTF-8; save it as CSV UTF-8") from cause


def _split_separator_line(text: str, column: str) -> tuple[str, str]:
    """Return the separator, and the text with an empty line instead of a line ``sep=``."""
    if declared := _SEPARATOR_LINE.match(text):
        return declared[1], text[declared.end() :]
    header = next((line for line in text.splitlines() if line.strip()), "")
    with suppress(csv.Error):
        for delimiter in ",;\t":
            if column in _normalize_columns(next(csv.reader([header], delimiter=delimiter), [])):
                return delimiter, text
    return ",", text


def _iter_csv(path: Path, text: str, delimiter: str, error: type[WbctoolError]) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and values of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from ((reader.line_num, values) for values in reader if any(map(str.strip, values)))
    except csv.Error as cause:
        raise error(f"{path}, line {reader.line_num}: invalid CSV: {cause}") from cause


def _iter_excel(path: Path, error: type[WbctoolError]) -> Iterator[tuple[int, list[str]]]:
    """Yield row number and values of each row of the first sheet that is not empty."""
    import pandas as pd  # late: it takes half a second, and most laboratories write CSV

    try:
        sheet = pd.read_excel(path, header=None, dtype=str, na_filter=False, engine="openpyxl")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as cause:
        raise error(f"{path}: cannot be read as an Excel workbook: {cause}") from cause
    for line, values in enumerate(sheet.to_numpy().tolist(), start=1):
        if any(map(str.strip, values)):
            yield line, values


def _normalize_columns(names: list[str]) -> list[str]:
    """Strip names and turn them to lower case."""
    return [name.strip().lower() for name in names]


def _check_header(location: str, header: list[str], columns: tuple[str, ...], error: type[WbctoolError]) -> None:
    """Raise an error if a column is there twice or is missing."""
    for name in header:
        if name and header.count(name) > 1:
            raise error(f"{location}, {name}: duplicate column {name!r}")
    for name in columns:
        if name not in header:
            raise error(f"{location}, {name}: missing column {name!r}")
