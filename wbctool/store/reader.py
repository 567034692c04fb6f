"""Reading a run's published results back: each file only if it is the one that slide.json describes.

The slides are those of the CSV, which a run writes last: one that has gone from the input has no row there any more. A
slide's numbers come from its own folder.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wbctool.errors import ResultsInvalid
from wbctool.labels import CellClass
from wbctool.paths import CELLS_CSV, DIFFERENTIAL_CSV, SLIDE_JSON, OutputPaths
from wbctool.report.tables import NOT_ASSESSED, PROBABILITY_PREFIX, decode_csv_name
from wbctool.store.checksum import verify_checksum
from wbctool.store.slide_facts import parse_metadata, parse_quality
from wbctool.store.slide_record import SCHEMA
from wbctool.types.cells import Box, Cell, ClassCount, Detection, Differential, Outcome, Prediction, Reason
from wbctool.types.results import FieldFailure, ModelRef, Provenance, PublishedSlide, SlideResult, SlideStatus

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class SkippedSlide:
    """A slide of the CSV whose own results are not those of its row. status: its status there."""

    slide: str
    status: SlideStatus
    reason: str


def read_published_slides(layout: OutputPaths) -> Iterator[PublishedSlide | SkippedSlide]:
    """Every slide of the CSV, in its order.

    Raises ResultsInvalid where there are no results, or a file is altered or not to be read; it names the file.
    """
    for row in _parse_rows(layout.counts_csv, _read_bytes(layout.counts_csv)):
        try:
            slide, status = decode_csv_name(row["slide"]), SlideStatus(row["status"])
            record_file = layout.slide_file(slide, SLIDE_JSON)
        except (KeyError, ValueError) as error:
            raise ResultsInvalid(f"{layout.counts_csv} is not a table written by a run: {error}") from error
        if status is SlideStatus.WAITING:
            yield SkippedSlide(slide, status, "it is waiting for the next run")
        elif not _is_file(record_file):
            yield SkippedSlide(slide, status, "it has no published results")
        else:
            record = _read_record(record_file, slide)
            if record.get("reviews") or all(row.get(k) == v for k, v in record["counts"].items() if k != "slide"):
                yield _read_slide(layout, slide, record)
            else:
                yield SkippedSlide(
                    slide, status, f"{record_file} is from a different run than {layout.counts_csv.name}; run again"
                )


def _read_record(path: Path, slide: str) -> dict[str, Any]:
    text = _read_bytes(path)
    try:
        content = verify_checksum(text)
        is_expected = content["schema"] == SCHEMA and content["slide"] == slide and isinstance(content["counts"], dict)
    except (ValueError, KeyError) as error:
        raise ResultsInvalid(
            f"{path} is not a valid record of slide {slide!r}: {error}; `wbctool run` makes it again"
        ) from error
    if not is_expected:
        raise ResultsInvalid(f"{path} belongs to another slide or another version of wbctool")
    return content


def _read_slide(layout: OutputPaths, slide: str, record: Mapping[str, Any]) -> PublishedSlide:
    path = layout.slide_file(slide, SLIDE_JSON)
    try:
        texts = {
            name: _read_verified(layout.slide_file(slide, name), sha256) for name, sha256 in record["files"].items()
        }
        path = layout.slide_file(slide, CELLS_CSV)
        cells, classes = _parse_cells(path, texts[CELLS_CSV])
        path = layout.slide_file(slide, DIFFERENTIAL_CSV)
        differential = _parse_differential(_parse_rows(path, texts[DIFFERENTIAL_CSV]), record["counts"], cells)
        path = layout.slide_file(slide, SLIDE_JSON)
        return PublishedSlide(
            result=SlideResult(
                slide=slide,
                status=SlideStatus(record["status"]),
                fields=len(record["fields"]),
                failures=tuple(FieldFailure(**failure) for failure in record["errors"]),
                cells=cells,
                thumbnails=(),
                differential=differential,
                metadata=parse_metadata(record),
                quality=parse_quality(record),
            ),
            field_names=tuple(str(field["name"]) for field in record["fields"]),
            classes=classes,
            fingerprint=str(record["fingerprint"]),
            provenance=_parse_provenance(record.get("provenance")),
            reviewed=bool(record.get("reviews")),
        )
    except ResultsInvalid:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsInvalid(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def _parse_cells(path: Path, content: bytes) -> tuple[tuple[Cell, ...], tuple[CellClass, ...]]:
    header = next(csv.reader(io.StringIO(content.decode(), newline="")))
    classes = tuple(
        CellClass(name.removeprefix(PROBABILITY_PREFIX)) for name in header if name.startswith(PROBABILITY_PREFIX)
    )
    return tuple(read_cell(row, classes) for row in _parse_rows(path, content)), classes


def read_cell(row: Mapping[str, str], classes: Sequence[CellClass]) -> Cell:
    """A cell from its row of cells.csv. Its energy, which the table does not have, is NaN."""
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
        ),
    )


def _parse_differential(rows: list[Row], counts: Row, cells: tuple[Cell, ...]) -> Differential:
    nrbc = counts["nrbc_per_100_wbc"]
    return Differential(
        classes=tuple(_parse_class_count(row) for row in rows),
        cells=int(counts["cells"]),
        counted=int(counts["counted"]),
        review=int(counts["review"]),
        not_wbc=int(counts["not_wbc"]),
        erythroblasts=sum(cell.prediction.reason is Reason.ERYTHROBLAST for cell in cells),
        nrbc_per_100_wbc=None if nrbc == NOT_ASSESSED else _parse_number(nrbc),
        nrbc_assessed=nrbc != NOT_ASSESSED,
        flags=tuple(flag for flag in counts["flags"].split(";") if flag),
    )


def _parse_class_count(row: Row) -> ClassCount:
    assessed = row["n"] != NOT_ASSESSED
    return ClassCount(
        label=CellClass(row["class"]),
        assessed=assessed,
        n=int(row["n"]) if assessed else 0,
        percent=_parse_number(row["percent"]) if assessed else None,
        ci95_low=_parse_number(row["ci95_low"]) if assessed else None,
        ci95_high=_parse_number(row["ci95_high"]) if assessed else None,
        reference_low=_parse_number(row["reference_low"]),
        reference_high=_parse_number(row["reference_high"]),
        flag=row["flag"],
    )


def _parse_number(text: str) -> float | None:
    return float(text) if text else None


def _parse_provenance(content: Mapping[str, Any] | None) -> Provenance | None:
    if content is None:
        return None
    return Provenance(
        tool_version=str(content["tool_version"]),
        provider=str(content["provider"]),
        precision=str(content["precision"]),
        classes=tuple(CellClass(label) for label in content["classes"]),
        models=tuple(ModelRef(**model) for model in content["models"]),
        settings=tuple((str(name), str(value)) for name, value in content["settings"]),
        reference_source=str(content["reference_source"]),
    )


def _read_verified(path: Path, sha256: str) -> bytes:
    content = _read_bytes(path)
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise ResultsInvalid(
            f"{path} is not the file that was published: SHA-256 {actual}, {SLIDE_JSON} says {sha256}. It was altered, or a "
            f"run is writing it now; `wbctool run` makes it again"
        )
    return content


def _is_file(path: Path) -> bool:
    """Where the system lets nobody look, that is an error; a name too long for it is none that a run could write."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise ResultsInvalid(f"{path} cannot be read: {error.strerror or error}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ResultsInvalid(f"{path} is missing: no run has ended on this output, or it was moved") from error
    except OSError as error:
        raise ResultsInvalid(f"{path} cannot be read: {error.strerror or error}") from error


def _parse_rows(path: Path, content: bytes) -> list[Row]:
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ResultsInvalid(f"{path} is not a table written by wbctool: {error}") from error
    if any(None in row or None in row.values() for row in rows):
        raise ResultsInvalid(f"{path} is not a table written by wbctool: its rows differ in length")
    return rows
