"""The lists of slides that an audit compares: counts.csv, run.json, and the folders with results."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wbctool.errors import RecordInvalid
from wbctool.paths import SLIDE_JSON, OutputPaths
from wbctool.report.csv_tables import COUNTS_COLUMNS, counts_csv, decode_csv_name
from wbctool.store.run_record import read_run_record
from wbctool.store.slide_record import read_slide_record

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class CountsTable:
    """The content of counts.csv.

    Attributes:
        rows: The rows, by column, by slide, with the ids as they are; None if the table cannot be read.
        problems: What is wrong with the table.
    """

    rows: Mapping[str, Row] | None
    problems: tuple[str, ...]

    def find_row(self, slide: str) -> Row | None:
        """Return a slide's row; None if there is none, or no table."""
        return None if self.rows is None else self.rows.get(slide)


@dataclass(frozen=True, slots=True)
class RunSlides:
    """The slides of run.json.

    Attributes:
        slides: Their ids; None if the run has not ended.
        failed: The ids of those that failed as a whole.
        problems: What is wrong with run.json.
    """

    slides: tuple[str, ...] | None
    failed: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()


def read_counts_table(output: OutputPaths) -> CountsTable:
    """Read counts.csv."""
    path = output.counts_csv
    try:
        content = path.read_bytes()
        rows = _parse_rows(output, content)
    except OSError as error:
        return CountsTable(None, (f"{path} cannot be read: {error.strerror or error}",))
    except (ValueError, csv.Error) as error:
        return CountsTable(None, (f"{path} is not a table written by a run: {error}",))
    numbers = Counter(row["slide"] for row in rows).items()
    problems = [f"slide {slide!r}: {path.name} lists it {number} times" for slide, number in numbers if number > 1]
    if counts_csv(rows).encode() != content:
        problems.append(f"{path} is not in the form that a run writes")
    return CountsTable({row["slide"]: row for row in rows}, tuple(problems))


def read_run_slides(output: OutputPaths) -> RunSlides:
    """Read the slides of run.json."""
    try:
        run = read_run_record(output)
        for slide in run.slides or ():
            output.slide_folder(slide.slide)  # raises ValueError for what is no slide's id
    except RecordInvalid as error:
        return RunSlides(None, problems=(str(error),))
    except ValueError as error:
        return RunSlides(None, problems=(f"{output.run_json} is not a valid record of a run: {error}",))
    if run.slides is None:
        problems = () if run.end is None else (f"{output.run_json} is not a valid record of a run: slides: missing",)
        return RunSlides(None, problems=problems)
    failed = {slide.slide for slide in run.slides if any(not failure.field for failure in slide.errors)}
    return RunSlides(tuple(slide.slide for slide in run.slides), frozenset(failed))


def compare_lists(output: OutputPaths, counts: CountsTable, run: RunSlides) -> Iterator[str]:
    """Yield the differences between counts.csv and run.json."""
    if run.slides is None or counts.rows is None:
        return
    table, run_file = output.counts_csv.name, output.run_json.name
    run_slides = set(run.slides)
    missing = [slide for slide in run.slides if slide not in counts.rows]
    added = [slide for slide in counts.rows if slide not in run_slides]
    yield from (f"slide {slide!r}: it is in {run_file}, but not in {table}" for slide in missing)
    yield from (f"slide {slide!r}: it is in {table}, but not in {run_file}" for slide in added)
    if not missing and not added and tuple(counts.rows) != run.slides:
        yield f"{output.counts_csv} lists the slides in a different order from {run_file}"


def find_unlisted_slides(output: OutputPaths, listed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Find the slides that have a record and are in no list any more.

    Args:
        output: The output.
        listed: The ids of the slides that are in a list.

    Returns:
        The ids of the other slides, and what is wrong with records that are not valid.
    """
    slides, problems = list[str](), list[str]()
    for path in sorted(
        set(output.folder.rglob(SLIDE_JSON)) - {output.slide_file(slide, SLIDE_JSON) for slide in listed}
    ):
        try:
            slide = read_slide_record(path).slide
            if output.slide_file(slide, SLIDE_JSON) == path:
                slides.append(slide)
            else:
                problems.append(f"{path} belongs to slide {slide!r}")
        except RecordInvalid as error:
            problems.append(str(error))
        except ValueError as error:
            problems.append(f"{path} cannot be trusted: {error}")
    return slides, problems


def _parse_rows(output: OutputPaths, content: bytes) -> list[Row]:
    """Return the rows of counts.csv with the slides' ids as they are."""
    lines = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
    if tuple(lines[:1]) != (list(COUNTS_COLUMNS),) or any(len(line) != len(COUNTS_COLUMNS) for line in lines):
        raise ValueError("its columns differ")
    rows = [dict(zip(COUNTS_COLUMNS, line, strict=True)) for line in lines[1:]]
    for row in rows:
        row["slide"] = decode_csv_name(row["slide"])
        output.slide_folder(row["slide"])  # raises ValueError for what is no slide's id
    return rows
