"""slides.csv: what the laboratory says of its slides. Optional, in the root of SLIDES."""

from __future__ import annotations

import csv
import io
import logging
import re
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from wbctool.errors import SettingsInvalid
from wbctool.paths import SLIDES_CSV
from wbctool.report.tables import encode_csv_name
from wbctool.text import encode_name
from wbctool.types.slides import Sex, SlideMetadata

log = logging.getLogger(__name__)

_MAX_BYTES = 50_000_000
_NUMERIC_COLUMNS = frozenset({"age", "analyser_wbc", "um_per_px"})
_SEPARATOR_LINE = re.compile(r"sep=([,;\t])(\r\n|\r|\n)", re.IGNORECASE)  # Excel's own first line


def _require_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("contains a control character")
    return text


def _parse_sex(value: object) -> object:
    return {"f": "female", "m": "male"}.get(value.lower(), value.lower()) if isinstance(value, str) else value


def _check_number(text: object) -> object:
    """Digits with a point at most: what float() takes beside that (1_0, nan, 1e3) is no one's age or count."""
    if isinstance(text, str) and not re.fullmatch(r"[+-]?\d+(\.\d*)?|[+-]?\.\d+", text, re.ASCII):
        raise ValueError("is not a number such as 7.2")
    return text


_Text = Annotated[str, Field(max_length=200), AfterValidator(_require_printable)]
_Number = Annotated[float, BeforeValidator(_check_number)]


class _Row(BaseModel):
    """One line; an empty value is none."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    slide: Annotated[str, Field(min_length=1)]
    accession: _Text | None = None
    patient: _Text | None = None
    age: Annotated[_Number, Field(ge=0, le=150)] | None = None
    sex: Annotated[Sex, BeforeValidator(_parse_sex)] | None = None
    analyser_wbc: Annotated[_Number, Field(gt=0, le=2000)] | None = None
    objective: _Text | None = None
    stain: _Text | None = None
    um_per_px: Annotated[_Number, Field(gt=0, le=10)] | None = None


def read_slides_csv(root: Path, slides: Iterable[str]) -> dict[str, SlideMetadata]:
    """The metadata of each slide that ``root``'s slides.csv names; empty where there is no such file.

    slides: the ids of the slides there are. A line names one by its id, as counts.csv writes it, or as another
    system does; one that may then be of several slides is an error. Columns are told apart by comma, semicolon or tab;
    beside a semicolon a comma is a decimal sign. Unknown columns are ignored, which is said, as are lines of slides
    that are not there. Raises SettingsInvalid, naming file, line, column and cause.
    """
    path = root / SLIDES_CSV
    if not _file_exists(path):
        return {}
    index = _SlideNameIndex(slides)
    metadata: dict[str, SlideMetadata] = {}
    line_numbers: dict[str, int] = {}
    unknown_slides: list[str] = []
    for line, values in _iter_rows(path):
        row = _parse_row(path, line, values)
        matches = index.resolve(row.slide)
        if len(matches) > 1:
            ids = " or ".join(repr(encode_csv_name(id_)) for id_ in sorted(matches))
            raise SettingsInvalid(f"{path}, line {line}, slide: {row.slide!r} could be {ids}; write it as shown here")
        name = next(iter(matches), row.slide.strip())
        if name in line_numbers:
            raise SettingsInvalid(f"{path}, line {line}, slide: {row.slide} is already in line {line_numbers[name]}")
        line_numbers[name] = line
        if matches:
            metadata[name] = SlideMetadata(**row.model_dump(exclude={"slide"}))
        else:
            unknown_slides.append(name)
    if unknown_slides:
        log.warning("%s names slides that do not exist: %s", path, ", ".join(unknown_slides))
    return metadata


class _SlideNameIndex:
    """The ids of slides by their names: as we write them, and as others may.

    A Mac writes é as e and an accent, Windows \\ for /, and a person a space before or after.
    """

    def __init__(self, slides: Iterable[str]) -> None:
        plain = {encode_name(id_): id_ for id_ in slides}
        written = {encode_csv_name(id_): id_ for id_ in plain.values()}
        self._exact = plain | written  # '=x is what counts.csv says of =x, even if there is a slide '=x
        self._normalized: dict[str, set[str]] = {}
        for name, id_ in (*plain.items(), *written.items()):
            self._normalized.setdefault(_normalize_name(name), set()).add(id_)

    def resolve(self, name: str) -> set[str]:
        """The slides that a name may mean: the one of just this name if it is there."""
        return {self._exact[name]} if name in self._exact else self._normalized.get(_normalize_name(name), set())


def _normalize_name(name: str) -> str:
    return unicodedata.normalize("NFC", name).replace("\\", "/").strip().strip("/")


def _file_exists(path: Path) -> bool:
    """Raises SettingsInvalid where that cannot be told: a slide done without its patient's age would be wrong.

    It may be a link, to wherever the laboratory keeps its table.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise SettingsInvalid(f"{path}: it is a link that leads nowhere") from error
        return False
    except OSError as error:
        raise SettingsInvalid(f"{path}: cannot be read: {error.strerror or error}") from error


def _iter_rows(path: Path) -> Iterable[tuple[int, dict[str, str]]]:
    """The number of each line that is not empty, and its values by column."""
    text = _read_text(path)
    delimiter, text = _detect_delimiter(text), _SEPARATOR_LINE.sub(r"\2", text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = _normalize_columns(next((values for values in reader if any(map(str.strip, values))), []))
        _check_header(path, reader.line_num or 1, header)
        for values in reader:
            if len(values) > len(header):
                raise SettingsInvalid(f"{path}, line {reader.line_num}: more values than the header has columns")
            if any(value.strip() for value in values):
                row = {n: _strip_value(n, v) for n, v in zip(header, values, strict=False) if v.strip()}
                yield (
                    reader.line_num,
                    {n: _convert_decimal_comma(n, v) if delimiter == ";" else v for n, v in row.items()},
                )
    except csv.Error as error:
        raise SettingsInvalid(f"{path}, line {reader.line_num}: invalid CSV: {error}") from error


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SettingsInvalid(f"{path}: larger than {_MAX_BYTES // 1_000_000} MB; is it really a list of slides?")
        content = path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SettingsInvalid(f"{path}, line {line}: not UTF-8; save it as CSV UTF-8") from error


def _detect_delimiter(text: str) -> str:
    """That under which the first line has the column of the slides; a spreadsheet may name it in a line before."""
    if declared := _SEPARATOR_LINE.match(text):
        return declared[1]
    first = next((line for line in text.splitlines() if line.strip()), "")
    with suppress(csv.Error):
        for delimiter in ",;\t":
            if "slide" in _normalize_columns(next(csv.reader([first], delimiter=delimiter), [])):
                return delimiter
    return ","


def _normalize_columns(values: Iterable[str]) -> list[str]:
    return [value.strip().lower() for value in values]


def _strip_value(column: str, text: str) -> str:
    return text if column == "slide" else text.strip()  # a folder's name may end in a space


def _convert_decimal_comma(column: str, value: str) -> str:
    return re.sub(r"^(\d+),(\d+)$", r"\1.\2", value) if column in _NUMERIC_COLUMNS else value


def _check_header(path: Path, line: int, header: list[str]) -> None:
    duplicate = next((name for name in header if name and header.count(name) > 1), None)
    if duplicate:
        raise SettingsInvalid(f"{path}, line {line}, {duplicate}: duplicate column")
    if "slide" not in header:
        raise SettingsInvalid(f"{path}, line {line}, slide: missing column")
    unknown = [name for name in header if name and name not in _Row.model_fields]
    if unknown:
        log.info("%s: columns ignored: %s", path, ", ".join(unknown))


def _parse_row(path: Path, line: int, values: Mapping[str, Any]) -> _Row:
    try:
        return _Row(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = str(first["loc"][0])
        cause = str(first["msg"]).removeprefix("Value error, ")
        given = f"{values[column]!r}: " if column in values else ""
        raise SettingsInvalid(f"{path}, line {line}, {column}: {given}{cause}") from error
