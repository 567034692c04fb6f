"""An evaluation as tables of text, for the terminal and for `evaluation.md`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wbctool.evaluation.blast_flag import BLASTS, SLIDE_CELLS
from wbctool.evaluation.classification import ClassifierReport
from wbctool.evaluation.evaluate import Evaluation
from wbctool.evaluation.proportion import Proportion
from wbctool.evaluation.subtypes import SubtypeReport
from wbctool.evaluation.super_resolution import SuperResolutionRow
from wbctool.labels import DIFFERENTIAL_CLASSES
from wbctool.types.slides import Familiarity


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
        _build_silent_error_table(result),
        _build_unknown_kind_table(result),
        _build_percent_error_table(result),
        _build_blast_flag_table(result),
        _build_red_cell_table(result),
        _build_classification_table(result),
        _build_precision_table(result),
        *classes,
        *map(_build_subtype_table, result.subtypes),
        _build_detection_table(result),
        _build_super_resolution_table(result),
        _build_ood_table(result),
    )
    return tuple(table for table in tables if table.rows)


def describe_options(result: Evaluation) -> str:
    """Return which cells were measured, and with what."""
    return f"split: {result.split}, readers: {result.readers}, super-resolution: {result.super_resolve}"


def to_markdown(result: Evaluation) -> str:
    """Return the tables as Markdown, below a line that says what was measured."""
    parts = [f"`{result.data}`, {describe_options(result)}."]
    for table in build_tables(result):
        lines = (table.columns, ("---",) * len(table.columns), *table.rows)
        parts.append(f"{table.title}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _build_silent_error_table(result: Evaluation) -> TextTable:
    """Return the silent errors of each data set, and their price."""
    columns = ("data", "split", "cells", "groups", "silent errors", "counted", "counted of white cells")
    more_columns = ("accuracy", "accuracy of the counted", "not found in a run", "as one slide")
    rows = tuple(
        (
            r.dataset,
            "unseen" if r.dataset in result.unseen_datasets else result.split,
            str(r.cells),
            str(r.n_groups),
            _format_proportion(r.silent_errors),
            _format_proportion(r.coverage),
            _format_proportion(r.coverage_white_cells),
            _format_proportion(r.accuracy),
            _format_proportion(r.accuracy_counted),
            str(r.missed),
            _format_familiarity(result.familiarity.get(r.dataset)),
        )
        for r in result.silent_errors
    )
    return TextTable("Silent errors among all labeled cells (95 % by group)", (*columns, *more_columns), rows)


def _format_familiarity(familiarity: Familiarity | None) -> str:
    """Return whether a data set is familiar, with its distance and the limit; a dash if that was not judged."""
    if familiarity is None or familiarity.mean_distance is None:
        return "-"
    words = {True: "familiar", False: "unfamiliar", None: "too few cells"}
    return f"{words[familiarity.is_familiar]}, {familiarity.mean_distance:.0f} (limit {familiarity.limit:.0f})"


def _build_unknown_kind_table(result: Evaluation) -> TextTable:
    """Return what becomes of the cells of each unknown kind."""
    columns = ("data", "kind", "cells", "counted (95 % by group)", "as", "in review", "not WBC", "not found in a run")
    rows = tuple(
        (
            r.dataset,
            r.kind,
            str(r.cells),
            _format_proportion(r.counted),
            ", ".join(f"{label} {n}" for label, n in r.counted_as.items()),
            *(f"{n / r.cells:.1%}" for n in (r.review, r.not_wbc, r.missed)),
        )
        for r in result.unknown_kinds
    )
    return TextTable("Kinds that no class fits", columns, rows)


def _build_percent_error_table(result: Evaluation) -> TextTable:
    """Return the error of each class's percent on simulated slides."""
    labels = [label for label in DIFFERENTIAL_CLASSES if label in result.classes]
    rows = tuple(
        (
            r.dataset,
            str(r.cells),
            f"{r.mean_counted:.0f}",
            *(
                f"{error.mean_error:.1f} ({error.mean_sampling_error:.1f}), {error.within_interval:.0f}%"
                for error in r.classes.values()
            ),
        )
        for r in result.percent_errors
    )
    title = "Percents on simulated slides: mean error in points (by sampling alone), 95 % intervals that are right"
    return TextTable(title, ("data", "cells", "counted", *(label[:5] for label in labels)), rows)


def _build_blast_flag_table(result: Evaluation) -> TextTable:
    """Return how often simulated slides raise the flag possible_blasts."""
    rows = tuple(
        (
            r.dataset,
            str(r.white_cells),
            str(r.blasts),
            f"{r.flagged_without:.1%}",
            "-" if r.flagged_by_blasts is None else f"{r.flagged_by_blasts:.1%}",
        )
        for r in result.blast_flags
    )
    columns = ("data", "white cells", "blasts", "flagged without blasts", f"flagged by {BLASTS} blasts alone")
    return TextTable(f"possible_blasts on simulated slides of {SLIDE_CELLS} cells", columns, rows)


def _build_red_cell_table(result: Evaluation) -> TextTable:
    """Return what is found in fields of red cells."""
    rows = tuple((r.dataset, *map(str, (r.fields, r.found, r.counted, r.review, r.not_wbc))) for r in result.red_cells)
    columns = ("data", "fields", "cells found", "counted", "in review", "not WBC")
    return TextTable("Fields in which no white cell is labeled", columns, rows)


def _format_proportion(proportion: Proportion | None) -> str:
    """Return a proportion with its interval in percent; a dash if there is none."""
    return f"{proportion.percent:.1f}% ({proportion.low:.1f} to {proportion.high:.1f})" if proportion else "-"


def _format_accuracy(accuracy: float | None, bounds: tuple[float, float] | None) -> str:
    """Return an accuracy with its interval, in [0, 1]; a dash if there are no cells."""
    return "-" if accuracy is None or bounds is None else f"{accuracy:.4f} ({bounds[0]:.3f} to {bounds[1]:.3f})"


def _build_classification_table(result: Evaluation) -> TextTable:
    """Return the measures of each data set."""
    columns = ("data", "images", "groups", "accuracy per image (95 % by group)", "per group", "among its classes")
    more_columns = ("calibration error", "kept from review", "correct among these (95 % by group)")
    rows = tuple(
        (
            r.dataset,
            str(r.images),
            str(r.n_groups),
            _format_accuracy(r.accuracy, (r.ci95_low, r.ci95_high)),
            f"{r.accuracy_per_group:.4f}",
            f"{r.accuracy_restricted_classes:.4f}",
            f"{r.calibration_error:.4f}",
            f"{r.coverage:.1%}",
            _format_accuracy(r.selective_accuracy, r.selective_accuracy_ci95),
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


def _build_subtype_table(report: SubtypeReport) -> TextTable:
    """Return how the subtypes of one class are confused in one data set."""
    rows = tuple(
        (name, *map(str, row)) for name, row in zip(report.subtypes, report.confusion, strict=True) if any(row)
    )
    title = f"{report.dataset}, {report.label}: true subtype by row, predicted subtype by column"
    return TextTable(f"{title}, of cells with the right class", ("true", *report.subtypes, "not named"), rows)


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
