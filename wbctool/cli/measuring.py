"""`wbctool evaluate`: the measurements as tables on the terminal."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from wbctool.cli.saying import echo, echo_optional
from wbctool.datasets.labelled import Split
from wbctool.enums import Device, Precision, SuperResolve
from wbctool.errors import OutputNotWritable
from wbctool.evaluation.evaluate import Evaluation, evaluate, write_evaluation
from wbctool.evaluation.tables import build_tables, to_markdown
from wbctool.inference.loading import load_generators, load_models
from wbctool.inference.model_card import default_models_dir
from wbctool.optional import require_extra
from wbctool.text import display_name


def evaluate_command(
    data: Path,
    models_dir: Path | None,
    out: Path | None,
    split: str | None,
    mode: SuperResolve,
    precision: Precision,
    sr_cells: int,
    ood_images: int,
) -> int:
    """`wbctool evaluate`; returns the exit code. split: a value of Split; None for all sources."""
    with require_extra("evaluate", "`wbctool evaluate`"):  # before minutes of work that could not be told
        import matplotlib  # noqa: F401
        import skimage  # noqa: F401
        import sklearn  # noqa: F401
    emit = echo if out is None else echo_optional
    if out is not None:
        check_writable(out)
    folder = models_dir or default_models_dir()
    models = load_models(folder, Device.AUTO, precision)
    if models.device_message:
        emit(f"wbctool: {models.device_message}")
    fp32 = None
    if any(model.precision is not Precision.FP32 for model in (models.classifier, models.generator)):
        fp32 = load_models(folder, Device.AUTO, Precision.FP32)
        emit(f"classifier in {models.classifier.precision.value}, generator in {models.generator.precision.value}")
    generators = load_generators(folder)
    selected_split = None if split is None else Split(split)
    result = evaluate(data, models, generators, selected_split, mode, sr_cells, ood_images, track_progress, fp32)
    if out is not None:
        write_evaluation(result, to_markdown(result), out)
    emit(_render_tables(result))
    if out is not None:
        emit(f"{display_name(str(out))} written")
    return 0


def check_writable(folder: Path) -> None:
    """That the folder of the results can be made and written to, before they are worked for. Raises OutputNotWritable.

    One that was not there is not left.
    """
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for path in missing:
            path.rmdir()
    except OSError as error:
        raise OutputNotWritable(f"{folder} cannot be written: {error.strerror or error}") from error


def track_progress(items: Iterable[Any], total: int, description: str) -> Iterable[Any]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    return track(items, escape(description), total, console=console, transient=True, disable=not console.is_terminal)


def _render_tables(result: Evaluation) -> str:
    """As the terminal, if there is one, shows them."""
    console = Console(width=None if Console().is_terminal else 200)
    with console.capture() as capture:
        _print_tables(result, console)
    return capture.get().removesuffix("\n")


def _print_tables(result: Evaluation, console: Console) -> None:
    console.print(escape(f"{result.data}, sources: {result.split}, super-resolution: {result.super_resolve}"))
    for content in build_tables(result):
        table = Table(title=f"\n{content.title}", title_justify="left", box=None, pad_edge=False)
        for number, column in enumerate(content.columns):
            table.add_column(column, justify="right" if number and column != "way" else "left")
        for row in content.rows:
            table.add_row(*(escape(display_name(text)) for text in row))
        console.print(table)
