"""`wbctool evaluate`: the measurements as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from wbctool.cards import default_models_dir
from wbctool.cli.terminal import say
from wbctool.lab.evaluate import ClassifierReport, Evaluation, evaluate, write_evaluation
from wbctool.lab.labelled import Split
from wbctool.layout import name_shown
from wbctool.onnx_model import load_generators, load_models
from wbctool.settings import Device, Precision, SuperResolve


def evaluate_command(
    data: Path, models_dir: Path | None, out: Path | None, split: str | None, mode: SuperResolve, sr_cells: int
) -> int:
    """`wbctool evaluate`; returns the exit code. split: a value of Split; None for all sources."""
    folder = models_dir or default_models_dir()
    models = load_models(folder, Device.AUTO, Precision.AUTO)
    if models.device_note:
        say(f"wbctool: {models.device_note}")
    generators = load_generators(folder)
    chosen = None if split is None else Split(split)
    result = evaluate(data, models, generators, chosen, mode, sr_cells, shown_progress)
    _print(result)
    if out is not None:
        write_evaluation(result, out)
        say(f"{name_shown(str(out))} written")
    return 0


def shown_progress(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    return track(items, escape(what), total, console=console, transient=True, disable=not console.is_terminal)


def _print(result: Evaluation) -> None:
    console = Console(width=None if Console().is_terminal else 120)
    console.print(escape(f"{result.data}, sources: {result.split}, super-resolution: {result.super_resolve}"))
    for report in result.classifier:
        console.print(_summary(report), _per_class(report), _confusion(report), sep="\n", markup=False)
    if result.detection:
        table = _table("Detection at IoU 0.5", "data", "cells", "precision", "recall", "F1", "mean IoU")
        for origin, score in result.detection.items():
            figures = (f"{v:.3f}" for v in (score.precision, score.recall, score.f1, score.mean_iou))
            table.add_row(escape(origin), str(score.annotated), *figures)
        console.print(table)
    if result.super_resolution:
        table = _table(
            "Cells reduced to 32 px and brought to 128", "data", "way", "cells", "PSNR dB", "SSIM", "accuracy"
        )
        for row in result.super_resolution:
            psnr = "" if row.way == "original" else f"{row.psnr_db:.2f}"
            values = (psnr, f"{row.ssim:.4f}", f"{row.accuracy:.4f}")
            table.add_row(escape(row.origin), escape(row.way), str(row.cells), *values)
        console.print(table)


def _summary(report: ClassifierReport) -> str:
    return (
        f"\n{name_shown(report.origin)}: {report.images} images of {report.sources} sources, no cell found in "
        f"{report.not_found}\n"
        f"  accuracy per image {report.accuracy:.4f} (95 % by source {report.ci95_low:.4f} to {report.ci95_high:.4f}), "
        f"per source {report.accuracy_per_source:.4f}\n"
        f"  expected calibration error {report.calibration_error:.4f}; without review cells: {report.covered:.1%} of "
        f"the cells, {report.accuracy_covered:.4f} of them right"
    )


def _per_class(report: ClassifierReport) -> Table:
    table = _table(None, "class", "precision", "recall", "F1", "support")
    for name, row in report.per_class.items():
        if row["support"] or row["precision"]:
            table.add_row(name, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")), str(int(row["support"])))
    return table


def _confusion(report: ClassifierReport) -> Table:
    table = _table("true class by row, said class by column", "", *(name[:5] for name in report.classes))
    for name, row in zip(report.classes, report.confusion, strict=True):
        if any(row):
            table.add_row(name, *map(str, row))
    return table


def _table(title: str | None, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="left" if column == "way" else "right")
    return table
