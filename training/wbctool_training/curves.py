"""The curves of a training: every logged value against the epoch, drawn from what Lightning logged."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

_NON_METRIC_COLUMNS = ("epoch", "step")
_MIN_EPOCHS = 3  # fewer make no curve: then it is drawn against steps


def read_curves(metrics: Path) -> pd.DataFrame:
    """What a training logged, its resumptions too; no row where it logged nothing. metrics: as in draw_curves."""
    parts = sorted(metrics.glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    return pd.concat(map(pd.read_csv, parts)) if parts else pd.DataFrame()


def draw_curves(metrics: Path, path: Path) -> None:
    """One panel for each quantity, its training and validation values together; nothing where nothing was logged.

    Against epochs, or, in a training of one or two, against optimisation steps.

    metrics: CSVLogger's folder, in which each start and each resumption has its own metrics.csv.
    """
    table = read_curves(metrics)
    if table.empty or "epoch" not in table:  # without, there is a learning rate at most
        return
    x_column = "epoch" if table["epoch"].max() >= _MIN_EPOCHS - 1 else "step"
    names = [c for c in table.columns if c not in _NON_METRIC_COLUMNS and not c.startswith("lr-")]
    if x_column == "epoch":
        names = [name for name in names if not name.endswith("_step")]
    else:  # an epoch that was logged in steps too is but one more point
        names = [name for name in names if f"{name.removesuffix('_epoch')}_step" not in names]
    points = table.groupby(x_column)[names].mean()
    quantities = sorted({_parse_quantity(name) for name in names})
    with matplotlib.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(3.2 * len(quantities), 2.8), layout="constrained")
        for axes, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
            for name in names:
                if _parse_quantity(name) == quantity:
                    values = points[name].dropna()
                    label = name.partition("_")[0]
                    axes.plot(values.index + 1, values, label=label, marker="." if len(values) < 30 else None)
            axes.set(xlabel=x_column, title=quantity.replace("_", " "))
            axes.legend(frameon=False)
        figure.savefig(path, dpi=150)


def _parse_quantity(name: str) -> str:
    return name.removesuffix("_epoch").removesuffix("_step").removeprefix("train_").removeprefix("val_")
