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

from wbctool.batch.runstate import SCHEMA
from wbctool.batch.seal import unseal
from wbctool.errors import ResultsInvalid
from wbctool.labels import CellClass
from wbctool.layout import CELLS, DIFFERENTIAL, SLIDE, OutputLayout
from wbctool.records import Box, Cell, ClassCount, Detection, Differential, Outcome, Prediction, Reason
from wbctool.report.facts import metadata_of, quality_of
from wbctool.report.tables import NOT_ASSESSED, PROBABILITY, name_of_cell
from wbctool.slide_results import FieldFailure, ModelUsed, Provenance, PublishedSlide, SlideResult, SlideStatus

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A slide of the CSV whose own results are not those of its row. status: its status there."""

    slide: str
    status: SlideStatus
    why: str


def published_slides(layout: OutputLayout) -> Iterator[PublishedSlide | LeftOut]:
    """Every slide of the CSV, in its order.

    Raises ResultsInvalid where there are no results, or a file is altered or not to be read; it names the file.
    """
    for row in _rows(layout.counts, _read(layout.counts)):
        try:
            slide, status = name_of_cell(row["slide"]), SlideStatus(row["status"])
            state_file = layout.slide_file(slide, SLIDE)
        except (KeyError, ValueError) as error:
            raise ResultsInvalid(f"{layout.counts} is not a table written by a run: {error}") from error
        if status is SlideStatus.WAITING:
            yield LeftOut(slide, status, "it is waiting for the next run")
        elif not _is_file(state_file):
            yield LeftOut(slide, status, "it has no published results")
        else:
            state = _state(state_file, slide)
            if state.get("reviews") or all(row.get(k) == v for k, v in state["counts"].items() if k != "slide"):
                yield _slide(layout, slide, state)
            else:
                yield LeftOut(
                    slide, status, f"{state_file} is from a different run than {layout.counts.name}; run again"
                )


def _state(path: Path, slide: str) -> dict[str, Any]:
    text = _read(path)
    try:
        content = unseal(text)
        known = content["schema"] == SCHEMA and content["slide"] == slide and isinstance(content["counts"], dict)
    except (ValueError, KeyError) as error:
        raise ResultsInvalid(
            f"{path} is not a valid record of slide {slide!r}: {error}; `wbctool run` makes it again"
        ) from error
    if not known:
        raise ResultsInvalid(f"{path} belongs to another slide or another version of wbctool")
    return content


def _slide(layout: OutputLayout, slide: str, state: Mapping[str, Any]) -> PublishedSlide:
    path = layout.slide_file(slide, SLIDE)
    try:
        texts = {name: _intact(layout.slide_file(slide, name), sha256) for name, sha256 in state["files"].items()}
        path = layout.slide_file(slide, CELLS)
        cells, classes = _cells(path, texts[CELLS])
        path = layout.slide_file(slide, DIFFERENTIAL)
        differential = _differential(_rows(path, texts[DIFFERENTIAL]), state["counts"], cells)
        path = layout.slide_file(slide, SLIDE)
        return PublishedSlide(
            result=SlideResult(
                slide=slide,
                status=SlideStatus(state["status"]),
                fields=len(state["fields"]),
                failures=tuple(FieldFailure(**failure) for failure in state["errors"]),
                cells=cells,
                pictures=(),
                differential=differential,
                metadata=metadata_of(state),
                quality=quality_of(state),
            ),
            field_names=tuple(str(field["name"]) for field in state["fields"]),
            classes=classes,
            fingerprint=str(state["fingerprint"]),
            provenance=_provenance(state.get("provenance")),
            reviewed=bool(state.get("reviews")),
        )
    except ResultsInvalid:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsInvalid(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def _cells(path: Path, content: bytes) -> tuple[tuple[Cell, ...], tuple[CellClass, ...]]:
    header = next(csv.reader(io.StringIO(content.decode(), newline="")))
    classes = tuple(CellClass(name.removeprefix(PROBABILITY)) for name in header if name.startswith(PROBABILITY))
    return tuple(read_cell(row, classes) for row in _rows(path, content)), classes


def read_cell(row: Mapping[str, str], classes: Sequence[CellClass]) -> Cell:
    """A cell from its row of cells.csv. Its energy, which the table does not have, is NaN."""
    box = Box(*(int(row[side]) for side in ("x", "y", "width", "height")))
    return Cell(
        field=name_of_cell(row["field"]),
        index=int(row["cell"]),
        detection=Detection(box, float(row["detection_score"]), row["cut_by_border"] == "true"),
        super_resolved=row["super_resolved"] == "true",
        prediction=Prediction(
            label=CellClass(row["label"]),
            confidence=float(row["confidence"]),
            probabilities=tuple(float(row[f"{PROBABILITY}{label}"]) for label in classes),
            energy=math.nan,
            outcome=Outcome(row["outcome"]),
            reason=Reason(row["reason"]),
        ),
    )


def _differential(rows: list[Row], counts: Row, cells: tuple[Cell, ...]) -> Differential:
    nrbc = counts["nrbc_per_100_wbc"]
    return Differential(
        classes=tuple(_class_count(row) for row in rows),
        cells=int(counts["cells"]),
        counted=int(counts["counted"]),
        review=int(counts["review"]),
        not_wbc=int(counts["not_wbc"]),
        erythroblasts=sum(cell.prediction.reason is Reason.ERYTHROBLAST for cell in cells),
        nrbc_per_100_wbc=None if nrbc == NOT_ASSESSED else _number(nrbc),
        nrbc_assessed=nrbc != NOT_ASSESSED,
        flags=tuple(flag for flag in counts["flags"].split(";") if flag),
    )


def _class_count(row: Row) -> ClassCount:
    assessed = row["n"] != NOT_ASSESSED
    return ClassCount(
        label=CellClass(row["class"]),
        assessed=assessed,
        n=int(row["n"]) if assessed else 0,
        percent=_number(row["percent"]) if assessed else None,
        ci95_low=_number(row["ci95_low"]) if assessed else None,
        ci95_high=_number(row["ci95_high"]) if assessed else None,
        reference_low=_number(row["reference_low"]),
        reference_high=_number(row["reference_high"]),
        flag=row["flag"],
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def _provenance(content: Mapping[str, Any] | None) -> Provenance | None:
    if content is None:
        return None
    return Provenance(
        tool_version=str(content["tool_version"]),
        provider=str(content["provider"]),
        precision=str(content["precision"]),
        classes=tuple(CellClass(label) for label in content["classes"]),
        models=tuple(ModelUsed(**model) for model in content["models"]),
        settings=tuple((str(name), str(value)) for name, value in content["settings"]),
        reference_source=str(content["reference_source"]),
    )


def _intact(path: Path, sha256: str) -> bytes:
    content = _read(path)
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise ResultsInvalid(
            f"{path} is not the file that was published: SHA-256 {actual}, {SLIDE} says {sha256}. It was altered, or a "
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ResultsInvalid(f"{path} is missing: no run has ended on this output, or it was moved") from error
    except OSError as error:
        raise ResultsInvalid(f"{path} cannot be read: {error.strerror or error}") from error


def _rows(path: Path, content: bytes) -> list[Row]:
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ResultsInvalid(f"{path} is not a table written by wbctool: {error}") from error
    if any(None in row or None in row.values() for row in rows):
        raise ResultsInvalid(f"{path} is not a table written by wbctool: its rows differ in length")
    return rows
