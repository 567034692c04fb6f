"""slides.csv: what the laboratory says of its slides. Optional, in the root of SLIDES."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from wbctool.errors import SettingsInvalid
from wbctool.layout import name_as_text
from wbctool.report.tables import spreadsheet_name
from wbctool.slide_facts import Sex, SlideMetadata

log = logging.getLogger(__name__)

SLIDES_CSV = "slides.csv"
_MAX_BYTES = 50_000_000


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a control character")
    return text


def _sex(value: object) -> object:
    return {"f": "female", "m": "male"}.get(value.lower(), value.lower()) if isinstance(value, str) else value


_Text = Annotated[str, Field(max_length=200), AfterValidator(_printable)]


class _Row(BaseModel):
    """One line; an empty value is none."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    slide: Annotated[str, Field(min_length=1)]
    accession: _Text | None = None
    patient: _Text | None = None
    age: Annotated[float, Field(ge=0, le=150)] | None = None
    sex: Annotated[Sex, BeforeValidator(_sex)] | None = None
    analyser_wbc: Annotated[float, Field(gt=0, le=2000)] | None = None
    objective: _Text | None = None
    stain: _Text | None = None
    um_per_px: Annotated[float, Field(gt=0, le=10)] | None = None


def read_slides_csv(root: Path, slides: Iterable[str]) -> dict[str, SlideMetadata]:
    """The metadata of each slide that ``root``'s slides.csv names; empty where there is no such file.

    slides: the ids of the slides there are. A line names one by its id, as counts.csv writes it. Columns are told
    apart by comma or semicolon; unknown ones are ignored, which is said, as are lines of slides that are not there.
    Raises SettingsInvalid, naming file, line, column and cause.
    """
    path = root / SLIDES_CSV
    if not path.is_file():
        return {}
    ids = {name: id_ for id_ in slides for name in (name_as_text(id_), spreadsheet_name(id_))}
    found: dict[str, SlideMetadata] = {}
    lines_of: dict[str, int] = {}
    missing: list[str] = []
    for line, values in _lines(path):
        row = _row(path, line, values)
        if row.slide in lines_of:
            raise SettingsInvalid(f"{path}, line {line}, slide: {row.slide} is in line {lines_of[row.slide]} already")
        lines_of[row.slide] = line
        if row.slide in ids:
            found[ids[row.slide]] = SlideMetadata(**row.model_dump(exclude={"slide"}))
        else:
            missing.append(row.slide)
    if missing:
        log.warning("%s names slides that are not there: %s", path, ", ".join(missing))
    return found


def _lines(path: Path) -> Iterable[tuple[int, dict[str, str]]]:
    """The number of each line that is not empty, and its values by column."""
    reader = csv.reader(io.StringIO(text := _text(path), newline=""), delimiter=_delimiter(text), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_header(path, header)
        for values in reader:
            if len(values) > len(header):
                raise SettingsInvalid(f"{path}, line {reader.line_num}: more values than the header has columns")
            if any(value.strip() for value in values):
                yield reader.line_num, {n: v.strip() for n, v in zip(header, values, strict=False) if v.strip()}
    except csv.Error as error:
        raise SettingsInvalid(f"{path}, line {reader.line_num}: not a line of CSV: {error}") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SettingsInvalid(f"{path}: larger than {_MAX_BYTES // 1_000_000} MB; is it a list of slides?")
        content = path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SettingsInvalid(f"{path}, line {line}: not UTF-8; save it as CSV UTF-8") from error


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return ";" if ";" in first and "," not in first else ","


def _check_header(path: Path, header: list[str]) -> None:
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice:
        raise SettingsInvalid(f"{path}, line 1, {twice}: the column is there twice")
    if "slide" not in header:
        raise SettingsInvalid(f"{path}, line 1, slide: the column is missing")
    unknown = [name for name in header if name and name not in _Row.model_fields]
    if unknown:
        log.info("%s: columns that mean nothing here: %s", path, ", ".join(unknown))


def _row(path: Path, line: int, values: Mapping[str, Any]) -> _Row:
    try:
        return _Row(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = str(first["loc"][0])
        cause = str(first["msg"]).removeprefix("Value error, ")
        given = f"{values[column]!r}: " if column in values else ""
        raise SettingsInvalid(f"{path}, line {line}, {column}: {given}{cause}") from error
