"""Training curves, drawn from the values that Lightning logged."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from wbctool.text import replace_underscores

_NON_METRIC_COLUMNS = ("epoch", "step")
_MIN_EPOCHS = 3  # fewer epochs make no curve, so the values are drawn against steps


def read_curves(metrics: Path) -> pd.DataFrame:
    """Read what a training and its resumptions logged.

    Args:
        metrics: CSVLogger's folder; every start and every resumption has a ``version_N/metrics.csv``.

    Returns:
        One row per logged step, in order of time; empty if nothing was logged.
    """
    parts = sorted(metrics.glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    return pd.concat(map(pd.read_csv, parts)) if parts else pd.DataFrame()


def draw_curves(metrics: Path, path: Path) -> None:
    """Draw one panel per quantity, with its training and validation values, against epochs.

    A training of one or two epochs is drawn against optimization steps. Nothing is written if nothing was logged.

    Args:
        metrics: CSVLogger's folder, as in :func:`read_curves`.
        path: The PNG file.
    """
    table = read_curves(metrics)
    if table.empty or "epoch" not in table:  # only a learning rate was logged
        return
    x_column = "epoch" if table["epoch"].max() >= _MIN_EPOCHS - 1 else "step"
    names = [c for c in table.columns if c not in _NON_METRIC_COLUMNS and not c.startswith("lr-")]
    if x_column == "epoch":
        names = [name for name in names if not name.endswith("_step")]
    else:  # a value that was also logged by steps would only add one point per epoch
        names = [name for name in names if f"{name.removesuffix('_epoch')}_step" not in names]
    points = table.groupby(x_column)[names].last()  # of an epoch that was interrupted and repeated, the repetition
    quantities = sorted({_parse_quantity(name) for name in names})
    with matplotlib.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(3.2 * len(quantities), 2.8), layout="constrained")
        for axes, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
            for name in names:
                if _parse_quantity(name) == quantity:
                    values = points[name].dropna()
                    label = name.partition("_")[0]
                    axes.plot(values.index + 1, values, label=label, marker="." if len(values) < 30 else None)
            axes.set(xlabel=x_column, title=replace_underscores(quantity))
            axes.legend(frameon=False)
        figure.savefig(path, dpi=150)


def _parse_quantity(name: str) -> str:
    """Return the quantity of a logged name, such as ``loss`` of ``train_loss_epoch``."""
    return name.removesuffix("_epoch").removesuffix("_step").removeprefix("train_").removeprefix("val_")
