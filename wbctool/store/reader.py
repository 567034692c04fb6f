"""Reading published results back: each file only if its hash is the one in slide.json.

The slides are those of counts.csv, which a run writes last; their numbers come from their own folders.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wbctool.errors import RecordInvalid, ResultsInvalid
from wbctool.labels import CellClass, Subtype
from wbctool.paths import CELLS_CSV, DIFFERENTIAL_CSV, SLIDE_JSON, OutputPaths
from wbctool.report.csv_tables import NOT_ASSESSED, PROBABILITY_PREFIX, decode_csv_name, parse_number, split_flags
from wbctool.store.slide_record import SlideRecord, read_slide_record
from wbctool.types.cells import Box, Cell, Detection, Outcome, Prediction, Reason
from wbctool.types.differential import ClassCount, Differential, Flag
from wbctool.types.results import LATER_CELL_COLUMNS, PublishedSlide, SlideResult, SlideStatus

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class SkippedSlide:
    """A slide of counts.csv whose results are not those of its row.

    Attributes:
        slide: The slide's id.
        status: Its status in counts.csv.
        reason: Why its results are not read.
    """

    slide: str
    status: SlideStatus
    reason: str


def read_published_slides(output: OutputPaths) -> Iterator[PublishedSlide | SkippedSlide]:
    """Yield every slide of counts.csv, in its order.

    Raises:
        ResultsInvalid: There are no results, or a file is altered or not valid; the error names the file.
    """
    for row in _parse_rows(output.counts_csv, _read_bytes(output.counts_csv)):
        try:
            slide, status = decode_csv_name(row["slide"]), SlideStatus(row["status"])
            record_file = output.slide_file(slide, SLIDE_JSON)
        except (KeyError, ValueError) as error:
            raise ResultsInvalid(f"{output.counts_csv} is not a table written by a run: {error}") from error
        if status is SlideStatus.WAITING:
            yield SkippedSlide(slide, status, "it is waiting for the next run")
        elif not _is_file(record_file):
            yield SkippedSlide(slide, status, "it has no published results")
        else:
            try:
                record = read_slide_record(record_file, slide)
            except RecordInvalid as error:
                if isinstance(error.__cause__, OSError):  # which a run would not mend
                    raise
                raise ResultsInvalid(f"{error}; `wbctool run` makes it again") from error
            is_of_row = record.reviews or all(row.get(k) == v for k, v in record.counts.items() if k != "slide")
            if record.status is status and is_of_row:
                yield _read_slide(output, record)
            elif status is SlideStatus.FAILED:
                yield SkippedSlide(slide, status, "the last run could not process it")
            else:
                yield SkippedSlide(
                    slide, status, f"{record_file} is from a different run than {output.counts_csv.name}; run again"
                )


def _read_slide(output: OutputPaths, record: SlideRecord) -> PublishedSlide:
    """Read a slide's files.

    Raises:
        ResultsInvalid: A file is missing, altered or not valid; the error names it.
    """
    contents = {
        name: _read_verified(output.slide_file(record.slide, name), sha256) for name, sha256 in record.files.items()
    }
    path = output.slide_file(record.slide, CELLS_CSV)
    try:
        cells, classes, later_columns = _parse_cells(path, contents[CELLS_CSV])
        path = output.slide_file(record.slide, DIFFERENTIAL_CSV)
        rows = _parse_rows(path, contents[DIFFERENTIAL_CSV])
        path = output.slide_file(record.slide, SLIDE_JSON)
        differential = _parse_differential(rows, record.counts, cells)
    except ResultsInvalid:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsInvalid(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    return PublishedSlide(
        result=SlideResult(
            slide=record.slide,
            status=record.status,
            fields=len(record.fields),
            failures=record.errors,
            cells=cells,
            thumbnails=(),
            differential=differential,
            metadata=record.metadata,
            quality=record.quality,
            familiarity=record.familiarity,
            scan=record.scan,
            later_columns=later_columns,
            field_hashes=record.field_hashes,
        ),
        field_names=tuple(field.name for field in record.fields),
        classes=classes,
        cells_id=record.cells_id,
        provenance=record.provenance,
        reviewed=bool(record.reviews),
    )


def _parse_cells(path: Path, content: bytes) -> tuple[tuple[Cell, ...], tuple[CellClass, ...], tuple[str, ...]]:
    """Return the cells, the classes of the model in the order of the columns, and the later columns."""
    header = next(csv.reader(io.StringIO(content.decode(), newline="")))
    classes = tuple(
        CellClass(name.removeprefix(PROBABILITY_PREFIX)) for name in header if name.startswith(PROBABILITY_PREFIX)
    )
    return tuple(read_cell(row, classes) for row in _parse_rows(path, content)), classes, find_later_columns(header)


def find_later_columns(header: Iterable[str]) -> tuple[str, ...]:
    """Return the later columns that a cells.csv has."""
    return tuple(name for name in header if name in LATER_CELL_COLUMNS)


def read_cell(row: Mapping[str, str], classes: Sequence[CellClass]) -> Cell:
    """Return a cell from its row of cells.csv; its energy, which the table does not have, is NaN.

    Args:
        row: The values by column.
        classes: The classes of the model, in the order of the probabilities.

    Raises:
        KeyError, ValueError: The row is not one of cells.csv.
    """
    box = Box(*(int(row[side]) for side in ("x", "y", "width", "height")))
    return Cell(
        field=decode_csv_name(row["field"]),
        index=int(row["cell"]),
        detection=Detection(box, float(row["detection_score"]), row["cut_by_border"] == "true"),
        super_resolved=row["super_resolved"] == "true",
        prediction=Prediction(
            label=CellClass(row["label"]),
            confidence=float(row["confidence"]),
            probabilities=tuple(float(row[f"{PROBABILITY_PREFIX}{label}"]) for label in classes),
            energy=math.nan,
            outcome=Outcome(row["outcome"]),
            reason=Reason(row["reason"]),
            subtype=Subtype(subtype) if (subtype := row.get("subtype")) else None,
        ),
        diameter_um=parse_number(row.get("diameter_um", "")),
    )


def _parse_differential(rows: list[Row], counts: Mapping[str, str], cells: tuple[Cell, ...]) -> Differential:
    """Return the differential of differential.csv and the slide's counts."""
    nrbc = counts["nrbc_per_100_wbc"]
    return Differential(
        classes=tuple(_parse_class_count(row) for row in rows),
        cells=int(counts["cells"]),
        counted=int(counts["counted"]),
        review=int(counts["review"]),
        not_wbc=int(counts["not_wbc"]),
        erythroblasts=sum(cell.prediction.reason is Reason.ERYTHROBLAST for cell in cells),
        nrbc_per_100_wbc=parse_number(nrbc),
        nrbc_assessed=nrbc != NOT_ASSESSED,
        flags=tuple(map(Flag, split_flags(counts["flags"]))),
    )


def _parse_class_count(row: Row) -> ClassCount:
    """Return one class of differential.csv."""
    assessed = row["n"] != NOT_ASSESSED
    return ClassCount(
        label=CellClass(row["class"]),
        assessed=assessed,
        n=int(row["n"]) if assessed else 0,
        percent=parse_number(row["percent"]),
        ci95_low=parse_number(row["ci95_low"]),
        ci95_high=parse_number(row["ci95_high"]),
        reference_low=parse_number(row["reference_low"]),
        reference_high=parse_number(row["reference_high"]),
        flag=row["flag"],
    )


def _read_verified(path: Path, sha256: str) -> bytes:
    """Return the content of a file if it has this hash."""
    content = _read_bytes(path)
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise ResultsInvalid(
            f"{path} is not the file that was published: SHA-256 {actual}, {SLIDE_JSON} says {sha256}. It was altered, "
            f"or a run is writing it now; `wbctool run` makes it again"
        )
    return content


def _is_file(path: Path) -> bool:
    """Return whether there is such a file, as paths.is_file does, but raise if it may not be looked at.

    A name that is too long is none that a run could write.
    """
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise ResultsInvalid(f"{path} cannot be read: {error.strerror or error}") from error


def _read_bytes(path: Path) -> bytes:
    """Return a file's content."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ResultsInvalid(f"{path} is missing: no run has ended on this output, or it was moved") from error
    except OSError as error:
        raise ResultsInvalid(f"{path} cannot be read: {error.strerror or error}") from error


def _parse_rows(path: Path, content: bytes) -> list[Row]:
    """Return a table's rows by column."""
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ResultsInvalid(f"{path} is not a table written by wbctool: {error}") from error
    if any(None in row or None in row.values() for row in rows):
        raise ResultsInvalid(f"{path} is not a table written by wbctool: its rows differ in length")
    return rows
