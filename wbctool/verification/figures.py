"""The figures of a verification, with matplotlib: PNG as bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wbctool.verification.agreement import BlandAltman, TemperatureRefit

_RC = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}
_BINS = 10


def draw_calibration(calibration: TemperatureRefit) -> bytes:
    """Share right against confidence, before and after the refit; the cells that it was fitted on take no part."""
    with matplotlib.rc_context(_RC):  # type: ignore[arg-type]
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
        curves = (
            ("shipped", calibration.temperature, calibration.error, calibration.confidences, "o"),
            (
                "refitted",
                calibration.temperature_refitted,
                calibration.error_refitted,
                calibration.confidences_refitted,
                "s",
            ),
        )
        for name, temperature, error, confidences, marker in curves:
            label = f"{name}, temperature {temperature:.2f}: error {error:.3f}"
            axes.plot(*_reliability_curve(confidences, calibration.correct), marker=marker, label=label)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share correct")
        axes.set_title(f"{calibration.measured_on} cells")
        axes.legend(frameon=False, loc="lower right")
        return _encode_png(figure)


def draw_bland_altman(classes: Sequence[BlandAltman]) -> bytes:
    """One panel a class: tool minus reader against their mean; bias and 95 % limits of agreement as lines."""
    columns = min(3, len(classes))
    rows = -(-len(classes) // columns)
    with matplotlib.rc_context(_RC):  # type: ignore[arg-type]
        figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
        for number, one in enumerate(classes, start=1):
            _draw_panel(figure.add_subplot(rows, columns, number), one)
        figure.supxlabel("mean of tool and reader, percent")
        figure.supylabel("tool minus reader, percentage points")
        return _encode_png(figure)


def _draw_panel(axes: Axes, comparison: BlandAltman) -> None:
    axes.scatter(comparison.means, comparison.differences, s=14)
    axes.axhline(0, color="grey", linewidth=0.8, linestyle=":")
    axes.axhline(comparison.bias, linewidth=1)
    for limit in (comparison.low, comparison.high):
        axes.axhline(limit, linewidth=1, linestyle="--")
    axes.set_title(
        f"{comparison.label.replace('_', ' ')}: {comparison.bias:+.1f} ({comparison.low:+.1f} to {comparison.high:+.1f})",
        fontsize=8,
    )


def _reliability_curve(confidences: Sequence[float], correct: Sequence[bool]) -> tuple[list[float], list[float]]:
    """(mean confidence, share correct) in bins of equal width that hold a cell."""
    confidence, is_correct = np.asarray(confidences), np.asarray(correct)
    bin_index = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    used = np.unique(bin_index)
    return [float(confidence[bin_index == b].mean()) for b in used], [
        float(is_correct[bin_index == b].mean()) for b in used
    ]


def _encode_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
