"""The files of an evaluation: JSON, cells, Markdown and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from io import BytesIO
from pathlib import Path

from wbctool.evaluation.evaluate import Evaluation
from wbctool.evaluation.silent_errors import evaluated_cells_csv
from wbctool.evaluation.text_tables import to_markdown
from wbctool.paths import (
    CONFUSION,
    COVERAGE,
    EVALUATED_CELLS_CSV,
    EVALUATION_FIGURES,
    EVALUATION_JSON,
    EVALUATION_MD,
    EVALUATION_SCHEMA,
    MISTAKES,
    RELIABILITY,
)
from wbctool.store.atomic_write import write_atomic
from wbctool.store.ownership import FileKind, check_overwrite_folder, has_schema


def check_evaluation_folder(out: Path) -> None:
    """Check that :func:`write_evaluation` would replace no file that is not from an evaluation.

    Args:
        out: The folder.

    Raises:
        SettingsInvalid: It would; the message names the file.
    """
    patterns = (EVALUATED_CELLS_CSV, EVALUATION_MD, *(_figure_name(kind, "*") for kind in EVALUATION_FIGURES))
    kind = FileKind("a result of `wbctool evaluate`", has_schema(EVALUATION_SCHEMA))
    check_overwrite_folder(out, EVALUATION_JSON, kind, patterns, "--out")


def write_evaluation(result: Evaluation, out: Path) -> None:
    """Write evaluation.json, evaluated_cells.csv, evaluation.md and the figures, each file whole.

    The JSON comes first: `wbctool run` recognizes by it that the figures beside it are no fields.

    Args:
        result: What was measured.
        out: The folder; it is created if it is missing.

    Raises:
        OutputNotWritable: A file cannot be written.
    """
    record = {"schema": EVALUATION_SCHEMA, **asdict(result)}
    for misclassifications in record["misclassifications"].values():
        for misclassification in misclassifications:
            del misclassification["rgb"]
    del record["cells"]
    write_atomic(out / EVALUATION_JSON, (json.dumps(record, indent=2) + "\n").encode())
    cells = evaluated_cells_csv(result.cells, result.classes)
    write_atomic(out / EVALUATED_CELLS_CSV, cells.encode(errors="backslashreplace"))
    write_atomic(out / EVALUATION_MD, to_markdown(result).encode(errors="backslashreplace"))
    for name, draw in _iter_figures(result):
        png = BytesIO()
        draw(png)
        write_atomic(out / name, png.getvalue())


def _iter_figures(result: Evaluation) -> Iterator[tuple[str, Callable[[BytesIO], None]]]:
    """Yield the file name of each figure and the function that draws it."""
    from wbctool.evaluation.figures import draw_confusion, draw_coverage, draw_misclassifications, draw_reliability

    for dataset, misclassifications in result.misclassifications.items():
        if misclassifications:
            yield _figure_name(MISTAKES, dataset), partial(draw_misclassifications, misclassifications, dataset)
    for report in result.classifier:
        yield _figure_name(CONFUSION, report.dataset), partial(draw_confusion, report)
        yield _figure_name(RELIABILITY, report.dataset), partial(draw_reliability, report)
        yield _figure_name(COVERAGE, report.dataset), partial(draw_coverage, report)


def _figure_name(kind: str, dataset: str) -> str:
    """Return a file name that leads into no other folder, whatever sources.csv calls the data set."""
    return f"{kind}-{dataset.replace('/', '_')}.png"
