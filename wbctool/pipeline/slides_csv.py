"""slides.csv: what the laboratory says of its slides; an optional table in the root of SLIDES."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from wbctool.datasets.laboratory_tables import Table, find_table, list_unread_tables, read_table, strip_cell
from wbctool.datasets.slide_names import SlideNameIndex
from wbctool.errors import SettingsInvalid, list_problems
from wbctool.notices import list_names, log_notice
from wbctool.paths import SLIDES_CSV, SLIDES_XLSX
from wbctool.types.slides import Sex, SlideMetadata

log = logging.getLogger(__name__)

_NUMERIC_COLUMNS = frozenset({"age", "analyser_wbc", "um_per_px"})
_COLUMN_HINTS = {
    "age": {"age"},
    "sex": {"sex", "gender"},
    "analyser_wbc": {"wbc", "leukocytes", "leucocytes"},
    "um_per_px": {"um", "px", "pixel"},
}
_MIN_LIKENESS = 0.8
_MICRO_TO_U = str.maketrans({"\N{MICRO SIGN}": "u", "\N{GREEK SMALL LETTER MU}": "u"})


def _require_printable(text: str) -> str:
    """Refuse control characters."""
    if not text.isprintable():
        raise ValueError("contains a control character")
    return text


def _parse_sex(value: object) -> object:
    """Expand a letter, and accept any case."""
    return {"f": "female", "m": "male"}.get(value.lower(), value.lower()) if isinstance(value, str) else value


def _check_number(text: object) -> object:
    """Refuse numbers that only Python takes (1_0, nan, 1e3): they are no one's age or count."""
    if isinstance(text, str) and not re.fullmatch(r"[+-]?\d+(\.\d*)?|[+-]?\.\d+", text, re.ASCII):
        raise ValueError("is not a number such as 7.2")
    return text


_Text = Annotated[str, Field(max_length=200), AfterValidator(_require_printable)]
_Number = Annotated[float, BeforeValidator(_check_number)]


class _Row(BaseModel):
    """One row, whose attributes are the columns; an empty value is None."""

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


def read_slides_csv(
    root: Path, slides: Iterable[str], notify: Callable[[str], None] = log_notice
) -> dict[str, SlideMetadata]:
    """Read what the laboratory says of its slides, in ``slides.csv`` or ``slides.xlsx``.

    A row names a slide by its id as counts.csv writes it, or as another system writes it. Unknown columns are
    logged and ignored; rows of slides that do not exist are ignored with a notice.

    Args:
        root: The folder of all slides, which may hold the table; a single image has none.
        slides: The ids of the slides that exist.
        notify: Takes the notices.

    Returns:
        Metadata by slide id; empty if there is no table.

    Raises:
        SettingsInvalid: A value is invalid, a slide is named twice, or a name could be one of several slides. The
            message names file, line, column and cause.
    """
    stem = Path(SLIDES_CSV).stem
    path = find_table(root, stem, SettingsInvalid)
    for name in list_unread_tables(root, stem, path, SettingsInvalid):
        advice = f", because {path.name} is there" if path else f"; save it as {SLIDES_CSV} or {SLIDES_XLSX}"
        notify(f"{name} is not read{advice}")
    if path is None:
        return {}
    table = read_table(path, ("slide",), SettingsInvalid)
    _note_unknown_columns(path, table.columns, notify)
    index = SlideNameIndex(slides)
    metadata: dict[str, SlideMetadata] = {}
    line_numbers: dict[str, int] = {}
    unknown_slides: list[str] = []
    for line in table.rows:
        location = f"{path}, line {line.line}"
        row = _parse_row(location, {name: _clean_value(table, name, text) for name, text in line.values.items()})
        slide = index.resolve(row.slide, f"{location}, slide", SettingsInvalid)
        name = strip_cell(row.slide) if slide is None else slide
        if name in line_numbers:
            raise SettingsInvalid(f"{location}, slide: {row.slide} is already in line {line_numbers[name]}")
        line_numbers[name] = line.line
        if slide is not None:
            metadata[name] = SlideMetadata(**row.model_dump(exclude={"slide"}))
        else:
            unknown_slides.append(name)
    if unknown_slides:
        notify(f"{path.name} names slides that do not exist: {list_names(unknown_slides)}")
    return metadata


def _note_unknown_columns(path: Path, columns: Collection[str], notify: Callable[[str], None]) -> None:
    """Log the columns that are not read; notify of one that seems to be meant for one that changes a report."""
    unknown = [name for name in columns if name not in _Row.model_fields]
    if unknown:
        log.info("%s: columns ignored: %s", path, ", ".join(unknown))
    for name in unknown:
        words = set(re.split(r"[\W_]+", name.translate(_MICRO_TO_U)))
        for column, hints in _COLUMN_HINTS.items():
            is_meant = words & hints or get_close_matches(name, [column], cutoff=_MIN_LIKENESS)
            if is_meant and column not in columns:
                notify(f"{path.name}: the column {name!r} is not read; did you mean {column!r}?")


def _clean_value(table: Table, column: str, text: str) -> str:
    """Strip a value, and give a number a decimal point; a slide's name stays, as a folder's name may end in a space."""
    if column == "slide":
        return text
    return table.number_text(text) if column in _NUMERIC_COLUMNS else strip_cell(text)


def _parse_row(location: str, texts: Mapping[str, str]) -> _Row:
    """Validate a row; empty values are left out."""
    values: dict[str, Any] = {name: text for name, text in texts.items() if text}
    if "slide" not in values:
        raise SettingsInvalid(f"{location}, slide: no slide is named")
    try:
        return _Row(**values)
    except ValidationError as error:
        column, cause = list_problems(error)[0]
        given = f"{values[column]!r}: " if column in values else ""
        raise SettingsInvalid(f"{location}, {column}: {given}{cause}") from error
