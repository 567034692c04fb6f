"""The figures of a verification, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wbctool.evaluation.calibration import reliability_bins
from wbctool.evaluation.figures import FIGURE_STYLE
from wbctool.text import replace_underscores
from wbctool.verification.agreement import BlandAltman
from wbctool.verification.temperature_refit import TemperatureRefit

_N_BINS = 10


def draw_calibration(calibration: TemperatureRefit) -> bytes:
    """Draw the reliability diagram as shipped and with the fitted temperature.

    Args:
        calibration: The temperature, and the cells it was measured on.

    Returns:
        The PNG file.
    """
    correct = np.array(calibration.correct)
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], linestyle=":", color="gray")
        curves = (
            ("as shipped", calibration.error, calibration.confidences, "o"),
            (
                f"with temperature {calibration.temperature:.2f}",
                calibration.error_refitted,
                calibration.confidences_refitted,
                "s",
            ),
        )
        for name, error, confidences, marker in curves:
            label = f"{name}: error {error:.3f}"
            bins = reliability_bins(np.array(confidences), correct, _N_BINS)
            axes.plot(bins.confidence, bins.accuracy, marker=marker, label=label)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share correct")
        axes.set_title(f"{calibration.measured_on} cells")
        axes.legend(frameon=False, loc="lower right")
        return _encode_png(figure)


def draw_bland_altman(classes: Sequence[BlandAltman]) -> bytes:
    """Draw tool minus reader against their mean, with bias and 95 % limits of agreement as lines.

    Args:
        classes: The comparisons, at least one; each gets a panel.

    Returns:
        The PNG file.
    """
    columns = min(3, len(classes))
    rows = -(-len(classes) // columns)
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
        for number, comparison in enumerate(classes, start=1):
            _draw_panel(figure.add_subplot(rows, columns, number), comparison)
        figure.supxlabel("mean of tool and reader, percent")
        figure.supylabel("tool minus reader, percentage points")
        return _encode_png(figure)


def _draw_panel(axes: Axes, comparison: BlandAltman) -> None:
    """Draw one class's comparison."""
    axes.scatter(comparison.means, comparison.differences, s=14)
    axes.axhline(0, color="gray", linewidth=0.8, linestyle=":")
    axes.axhline(comparison.bias, linewidth=1)
    for limit in (comparison.low, comparison.high):
        axes.axhline(limit, linewidth=1, linestyle="--")
    limits = f"{comparison.low:+.1f} to {comparison.high:+.1f}"
    axes.set_title(f"{replace_underscores(comparison.label)}: {comparison.bias:+.1f} ({limits})", fontsize=8)


def _encode_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
