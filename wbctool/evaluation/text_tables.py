"""An evaluation as tables of text, for the terminal and for `evaluation.md`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wbctool.evaluation.classification import ClassifierReport
from wbctool.evaluation.evaluate import Evaluation
from wbctool.evaluation.super_resolution import SuperResolutionRow


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text.

    Attributes:
        title: Title of the table.
        columns: Names of the columns.
        rows: Rows with one text for each column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def build_tables(result: Evaluation) -> tuple[TextTable, ...]:
    """Return the tables of an evaluation that are not empty."""
    classes = (
        table
        for report in result.classifier
        for table in (_build_per_class_table(report), _build_confusion_table(report))
    )
    tables = (
        _build_classification_table(result),
        _build_precision_table(result),
        *classes,
        _build_detection_table(result),
        _build_super_resolution_table(result),
        _build_ood_table(result),
    )
    return tuple(table for table in tables if table.rows)


def to_markdown(result: Evaluation) -> str:
    """Return the tables as Markdown, below a line that says what was measured."""
    parts = [f"`{result.data}`, split: {result.split}, super-resolution: {result.super_resolve}."]
    for table in build_tables(result):
        lines = (table.columns, ("---",) * len(table.columns), *table.rows)
        parts.append(f"{table.title}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _build_classification_table(result: Evaluation) -> TextTable:
    """Return the measures of each data set."""
    columns = ("data", "images", "groups", "accuracy per image (95 % by group)", "per group", "among its classes")
    more_columns = ("calibration error", "kept from review", "correct among these (95 % by group)", "not found")
    rows = tuple(
        (
            r.dataset,
            str(r.images),
            str(r.n_groups),
            f"{r.accuracy:.4f} ({r.ci95_low:.3f} to {r.ci95_high:.3f})",
            f"{r.accuracy_per_group:.4f}",
            f"{r.accuracy_restricted_classes:.4f}",
            f"{r.calibration_error:.4f}",
            f"{r.coverage:.1%}",
            f"{r.selective_accuracy:.4f} ({r.selective_accuracy_ci95[0]:.3f} to {r.selective_accuracy_ci95[1]:.3f})",
            str(r.no_detection),
        )
        for r in result.classifier
    )
    return TextTable("Classification", (*columns, *more_columns), rows)


def _build_precision_table(result: Evaluation) -> TextTable:
    """Return the comparison with fp32 of each data set."""
    rows = tuple(
        (
            report.dataset,
            str(report.images),
            f"{report.accuracy_fp32:.4f}",
            f"{report.accuracy:.4f}",
            f"{report.changed_labels} ({report.changed_labels / report.images:.2%})",
            str(report.changed_outcomes),
        )
        for report in result.precisions
    )
    columns = ("data", "images", "accuracy in fp32", "accuracy", "changed labels", "changed outcomes")
    return TextTable("These models against the same in fp32", columns, rows)


def _build_per_class_table(report: ClassifierReport) -> TextTable:
    """Return the measures of each class of one data set."""
    rows = tuple(
        (name, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")), str(int(row["support"])))
        for name, row in report.per_class.items()
        if row["support"] or row["precision"]
    )
    return TextTable(f"{report.dataset}, by class", ("class", "precision", "recall", "F1", "support"), rows)


def _build_confusion_table(report: ClassifierReport) -> TextTable:
    """Return the confusion matrix of one data set without empty rows."""
    rows = tuple((name, *map(str, row)) for name, row in zip(report.classes, report.confusion, strict=True) if any(row))
    columns = ("true", *(name[:5] for name in report.classes))
    return TextTable(f"{report.dataset}, true class by row, predicted class by column", columns, rows)


def _build_detection_table(result: Evaluation) -> TextTable:
    """Return the scores of both detection methods for each data set."""
    methods = (("detector", result.detection), ("nuclei, without learning", result.detection_by_nuclei))
    rows = tuple(
        (
            dataset,
            method,
            str(score.n_true),
            *(f"{v:.3f}" for v in (score.precision, score.recall, score.f1, score.mean_iou)),
        )
        for method, scores in methods
        for dataset, score in scores.items()
    )
    return TextTable("Detection at IoU 0.5", ("data", "method", "cells", "precision", "recall", "F1", "mean IoU"), rows)


def _build_super_resolution_table(result: Evaluation) -> TextTable:
    """Return the comparison of methods to enlarge cells."""
    columns = ("data", "px", "method", "cells", "PSNR dB", "SSIM", "accuracy", "better : worse than bicubic, p")
    rows = tuple(tuple(_format_super_resolution_row(row)) for row in result.super_resolution)
    return TextTable("Cells reduced to a side in pixels and enlarged to 128", columns, rows)


def _format_super_resolution_row(row: SuperResolutionRow) -> Iterator[str]:
    """Yield the texts of one method at one size."""
    yield from (row.dataset, str(row.side_px), row.method, str(row.cells))
    yield "" if row.method == "original" else f"{row.psnr_db:.2f}"
    yield from (f"{row.ssim:.4f}", f"{row.accuracy:.4f}")
    paired = row.vs_bicubic
    yield f"{paired.wins} : {paired.losses}, {paired.p:.3f}" if paired else ""


def _build_ood_table(result: Evaluation) -> TextTable:
    """Return the outcomes of out-of-distribution images."""
    rows: Sequence[tuple[str, ...]] = [
        (
            report.kind,
            str(report.crops),
            *(f"{v:.1%}" for v in (report.out_of_distribution, report.review, report.not_wbc, report.counted)),
        )
        for report in result.ood
    ]
    columns = ("images", "crops", "out of distribution", "in review", "not WBC", "counted")
    return TextTable("Images that fit no class", columns, tuple(rows))
