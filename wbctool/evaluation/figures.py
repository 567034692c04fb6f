"""The figures of an evaluation, with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wbctool.evaluation.calibration import reliability_bins
from wbctool.text import display_name, replace_underscores

if TYPE_CHECKING:
    from wbctool.evaluation.classification import ClassifierReport, Misclassification

_RELIABILITY_BINS = 10
FIGURE_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}


def draw_confusion(report: ClassifierReport, path: Path | BytesIO) -> None:
    """Draw the confusion matrix of one data set as PNG."""
    title = f"{display_name(report.dataset)}: {report.images} images"
    draw_confusion_matrix(np.array(report.confusion), report.classes, title, path)


def draw_confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str], title: str, path: Path | BytesIO) -> None:
    """Draw a confusion matrix as PNG: one row for each true class, shaded by the row's fractions, with the counts.

    Args:
        counts: (K, K) int64; rows are true classes, columns are predicted classes.
        classes: Names of the K classes.
        title: Title of the figure.
        path: File, or buffer, to write to.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [replace_underscores(name) for name in classes]
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(6.4, 5.6), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="true", title=title)
        for (row, column), n in np.ndenumerate(counts):
            if n:
                text_color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(n), ha="center", va="center", color=text_color)
        figure.savefig(path, dpi=150)


def draw_reliability(report: ClassifierReport, path: Path | BytesIO) -> None:
    """Draw the reliability diagram of one data set as PNG.

    Args:
        report: The classified cells.
        path: File, or buffer, to write to.
    """
    bins = reliability_bins(np.array(report.confidences), np.array(report.correct), _RELIABILITY_BINS)
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], linestyle=":", color="gray")
        axes.plot(bins.confidence, bins.accuracy, marker="o")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share correct")
        axes.set_title(f"{display_name(report.dataset)}: expected calibration error {report.calibration_error:.3f}")
        figure.savefig(path, dpi=150)


def draw_coverage(report: ClassifierReport, path: Path | BytesIO) -> None:
    """Draw the error among the kept cells against the fraction of cells kept, as the threshold falls, as PNG."""
    order = np.argsort(-np.array(report.confidences), kind="stable")
    wrong = ~np.array(report.correct)[order]
    n_kept = np.arange(1, len(wrong) + 1)
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(n_kept / len(wrong), np.cumsum(wrong) / n_kept)
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel="share of cells kept", ylabel="error among them")
        axes.set_title(display_name(report.dataset))
        if report.selective_accuracy is not None:
            error = 1 - report.selective_accuracy
            axes.plot(report.coverage, error, marker="o", linestyle="none", label="shipped thresholds")
            axes.legend(frameon=False)
        figure.savefig(path, dpi=150)


def draw_misclassifications(
    misclassifications: Sequence[Misclassification], dataset: str, path: Path | BytesIO
) -> None:
    """Draw misclassified cells as PNG, each with group, true class, predicted class and confidence."""
    columns = min(8, len(misclassifications))
    rows = -(-len(misclassifications) // columns)
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(1.5 * columns, 1.95 * rows + 0.4), layout="constrained")
        figure.suptitle(f"{display_name(dataset)}: misclassified with most confidence, one cell per group", fontsize=9)
        grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for axes in grid:
            axes.axis("off")
        for axes, misclassification in zip(grid, misclassifications, strict=False):
            axes.imshow(misclassification.rgb)
            label, predicted = (
                replace_underscores(name) for name in (misclassification.label, misclassification.predicted)
            )
            title = f"{display_name(misclassification.group[:8])}: {label}"
            axes.set_title(f"{title}\n{predicted} {misclassification.confidence:.2f}", fontsize=6)
        figure.savefig(path, dpi=150)
