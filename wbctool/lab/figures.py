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

if TYPE_CHECKING:
    from wbctool.lab.classification import ClassifierReport, Mistake

_RC: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}


def draw_confusion(report: ClassifierReport, path: Path | BytesIO) -> None:
    """The confusion matrix of one data set."""
    draw_matrix(np.array(report.confusion), report.classes, f"{report.origin}: {report.images} images", path)


def draw_matrix(counts: NDArray[np.int64], classes: Sequence[str], title: str, path: Path | BytesIO) -> None:
    """Rows: the true class; columns: what the classifier said; each row's shares as shade, numbers written in."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [name.replace("_", " ") for name in classes]
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(6.4, 5.6), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="true", title=title)
        for (row, column), n in np.ndenumerate(counts):
            if n:
                ink = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(n), ha="center", va="center", color=ink)
        figure.savefig(path, dpi=150)


def draw_reliability(report: ClassifierReport, path: Path | BytesIO, bins: int = 10) -> None:
    """Share right against confidence, in bins of equal width."""
    confidence, right = np.array(report.confidences), np.array(report.right)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    used = np.unique(which)
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
        axes.plot([confidence[which == b].mean() for b in used], [right[which == b].mean() for b in used], marker="o")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share correct")
        axes.set_title(f"{report.origin}: expected calibration error {report.calibration_error:.3f}")
        figure.savefig(path, dpi=150)


def draw_coverage(report: ClassifierReport, path: Path | BytesIO) -> None:
    """Error among the cells kept against the share kept, as the confidence threshold falls."""
    order = np.argsort(-np.array(report.confidences), kind="stable")
    wrong = ~np.array(report.right)[order]
    kept = np.arange(1, len(wrong) + 1)
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(kept / len(wrong), np.cumsum(wrong) / kept)
        axes.plot(report.covered, 1 - report.accuracy_covered, marker="o", linestyle="none", label="shipped thresholds")
        axes.set(
            xlim=(0, 1), ylim=(0, None), xlabel="share of cells kept", ylabel="error among them", title=report.origin
        )
        axes.legend(frameon=False)
        figure.savefig(path, dpi=150)


def draw_mistakes(mistakes: Sequence[Mistake], title: str, path: Path | BytesIO) -> None:
    """The cells, the surest mistake first: source and true class, then what the classifier said and how surely."""
    columns = min(8, len(mistakes))
    rows = -(-len(mistakes) // columns)
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(1.5 * columns, 1.95 * rows + 0.4), layout="constrained")
        figure.suptitle(f"{title}: misclassified with most confidence, one cell per source", fontsize=9)
        places = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for axes in places:
            axes.axis("off")
        for axes, mistake in zip(places, mistakes, strict=False):
            axes.imshow(mistake.rgb)
            label, said = (name.replace("_", " ") for name in (mistake.label, mistake.said))
            axes.set_title(f"{mistake.source[:8]}: {label}\n{said} {mistake.confidence:.2f}", fontsize=6)
        figure.savefig(path, dpi=150)
