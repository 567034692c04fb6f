"""The figures of an evaluation, with matplotlib."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import matplotlib
import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from wbctool.lab.evaluate import ClassifierReport

_RC: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


class Confusion(Protocol):
    """What a confusion matrix is drawn of."""

    @property
    def origin(self) -> str:
        """Whose cells."""

    @property
    def images(self) -> int:
        """Their number."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of rows and columns."""

    @property
    def confusion(self) -> list[list[int]]:
        """Rows: the true class."""


def draw_confusion(report: Confusion, path: Path | BytesIO) -> None:
    """Rows: the true class; columns: what the classifier said; each row's shares as shade, numbers written in."""
    counts = np.array(report.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [name.replace("_", " ") for name in report.classes]
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(6.4, 5.6), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="true", title=f"{report.origin}: {report.images} images")
        for (row, column), n in np.ndenumerate(counts):
            if n:
                axes.text(
                    column,
                    row,
                    str(n),
                    ha="center",
                    va="center",
                    color="white" if shares[row, column] > 0.5 else "black",
                )
        figure.savefig(path, dpi=150)


def draw_reliability(report: ClassifierReport, path: Path, bins: int = 10) -> None:
    """Share right against confidence, in bins of equal width."""
    confidence, right = np.array(report.confidences), np.array(report.right)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    used = np.unique(which)
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
        axes.plot([confidence[which == b].mean() for b in used], [right[which == b].mean() for b in used], marker="o")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share right")
        axes.set_title(f"{report.origin}: expected calibration error {report.calibration_error:.3f}")
        figure.savefig(path, dpi=150)


def draw_coverage(report: ClassifierReport, path: Path) -> None:
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
