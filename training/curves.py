"""The curves of a training: every logged value against the epoch, drawn from what Lightning logged."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

_NOT_CURVES = ("epoch", "step")


def draw_curves(metrics: Path, picture: Path) -> None:
    """One panel for each quantity, its training and validation values together; nothing where nothing was logged.

    metrics: CSVLogger's folder, in which each start and each resumption has its own metrics.csv.
    """
    parts = sorted(metrics.glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    if not parts:
        return
    table = pd.concat(map(pd.read_csv, parts))
    names = [c for c in table.columns if c not in _NOT_CURVES and not c.endswith("_step") and not c.startswith("lr-")]
    epochs = table.groupby("epoch")[names].mean()
    quantities = sorted({n.removesuffix("_epoch").removeprefix("train_").removeprefix("val_") for n in names})
    with matplotlib.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(3.2 * len(quantities), 2.8), layout="constrained")
        for axes, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
            for name in names:
                part, _, rest = name.removesuffix("_epoch").partition("_")
                if rest == quantity:
                    values = epochs[name].dropna()
                    axes.plot(values.index + 1, values, label=part, marker="." if len(values) < 30 else None)
            axes.set(xlabel="epoch", title=quantity.replace("_", " "))
            axes.legend(frameon=False)
        figure.savefig(picture, dpi=150)
