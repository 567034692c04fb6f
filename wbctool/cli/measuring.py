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
from wbctool.lab.classification import ClassifierReport
from wbctool.lab.evaluate import Evaluation, evaluate, write_evaluation
from wbctool.lab.labelled import Split
from wbctool.lab.super_resolution import SuperResolutionRow
from wbctool.layout import name_shown
from wbctool.onnx_model import load_generators, load_models
from wbctool.settings import Device, Precision, SuperResolve


def evaluate_command(
    data: Path,
    models_dir: Path | None,
    out: Path | None,
    split: str | None,
    mode: SuperResolve,
    sr_cells: int,
    strangers: int,
) -> int:
    """`wbctool evaluate`; returns the exit code. split: a value of Split; None for all sources."""
    folder = models_dir or default_models_dir()
    models = load_models(folder, Device.AUTO, Precision.AUTO)
    if models.device_note:
        say(f"wbctool: {models.device_note}")
    generators = load_generators(folder)
    chosen = None if split is None else Split(split)
    result = evaluate(data, models, generators, chosen, mode, sr_cells, strangers, _shown_progress)
    _print(result)
    if out is not None:
        write_evaluation(result, out)
        say(f"{name_shown(str(out))} written")
    return 0


def _shown_progress(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    console = Console(stderr=True)
    return track(items, escape(what), total, console=console, transient=True, disable=not console.is_terminal)


def _print(result: Evaluation) -> None:
    console = Console(width=None if Console().is_terminal else 120)
    console.print(escape(f"{result.data}, sources: {result.split}, super-resolution: {result.super_resolve}"))
    for report in result.classifier:
        console.print(_summary(report), _per_class(report), _confusion(report), sep="\n", markup=False)
    if result.detection:
        table = _table("Detection at IoU 0.5", "data", "way", "cells", "precision", "recall", "F1", "mean IoU")
        ways = (("detector", result.detection), ("nuclei, nothing learned", result.detection_by_nuclei))
        for way, scores in ways:
            for origin, score in scores.items():
                figures = (f"{v:.3f}" for v in (score.precision, score.recall, score.f1, score.mean_iou))
                table.add_row(escape(origin), way, str(score.annotated), *figures)
        console.print(table)
    if result.super_resolution:
        console.print(_super_resolution(result.super_resolution))
    if result.strangers:
        table = _table("Pictures that no class fits", "shown", "crops", "gate", "review", "not WBC", "counted")
        for seen in result.strangers:
            shares = (f"{v:.1%}" for v in (seen.out_of_distribution, seen.review, seen.not_wbc, seen.counted))
            table.add_row(escape(seen.kind), str(seen.crops), *shares)
        console.print(table)


def _super_resolution(rows: Iterable[SuperResolutionRow]) -> Table:
    columns = ("side", "way", "cells", "PSNR dB", "SSIM", "accuracy", "better / worse than bicubic", "p")
    table = _table("Cells reduced to so many pixels a side and brought to 128", "data", *columns)
    for row in rows:
        psnr = "" if row.way == "original" else f"{row.psnr_db:.2f}"
        values = (psnr, f"{row.ssim:.4f}", f"{row.accuracy:.4f}")
        paired = row.against_bicubic
        test = (f"{paired.for_one} / {paired.for_other}", f"{paired.p:.3f}") if paired else ("", "")
        table.add_row(escape(row.origin), str(row.side_px), escape(row.way), str(row.cells), *values, *test)
    return table


def _summary(report: ClassifierReport) -> str:
    return (
        f"\n{name_shown(report.origin)}: {report.images} images of {report.sources} sources, no cell found in "
        f"{report.not_found}\n"
        f"  accuracy per image {report.accuracy:.4f} (95 % by source {report.ci95_low:.4f} to {report.ci95_high:.4f}), "
        f"per source {report.accuracy_per_source:.4f}, among this data's classes {report.accuracy_among_present:.4f}\n"
        f"  expected calibration error {report.calibration_error:.4f}; without review cells: {report.covered:.1%} of "
        f"the cells, {report.accuracy_covered:.4f} of them right "
        f"({report.accuracy_covered_ci95[0]:.4f} to {report.accuracy_covered_ci95[1]:.4f})"
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
