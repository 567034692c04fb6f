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

from wbctool.cards import default_models_dir
from wbctool.choices import Device, Precision, SuperResolve
from wbctool.cli.saying import mention, say
from wbctool.errors import OutputNotWritable
from wbctool.extras import needing
from wbctool.lab.evaluate import Evaluation, evaluate, write_evaluation
from wbctool.lab.evaluation_tables import as_markdown, evaluation_tables
from wbctool.lab.labelled import Split
from wbctool.layout import name_shown
from wbctool.models import load_generators, load_models


def evaluate_command(
    data: Path,
    models_dir: Path | None,
    out: Path | None,
    split: str | None,
    mode: SuperResolve,
    precision: Precision,
    sr_cells: int,
    strangers: int,
) -> int:
    """`wbctool evaluate`; returns the exit code. split: a value of Split; None for all sources."""
    with needing("evaluate", "`wbctool evaluate`"):  # before minutes of work that could not be told
        import matplotlib  # noqa: F401
        import skimage  # noqa: F401
        import sklearn  # noqa: F401
    tell = say if out is None else mention
    if out is not None:
        check_writable(out)
    folder = models_dir or default_models_dir()
    models = load_models(folder, Device.AUTO, precision)
    if models.device_note:
        tell(f"wbctool: {models.device_note}")
    fp32 = None
    if any(model.precision is not Precision.FP32 for model in (models.classifier, models.generator)):
        fp32 = load_models(folder, Device.AUTO, Precision.FP32)
        tell(f"classifier in {models.classifier.precision.value}, generator in {models.generator.precision.value}")
    generators = load_generators(folder)
    chosen = None if split is None else Split(split)
    result = evaluate(data, models, generators, chosen, mode, sr_cells, strangers, shown_progress, fp32)
    if out is not None:
        write_evaluation(result, as_markdown(result), out)
    tell(_tables(result))
    if out is not None:
        tell(f"{name_shown(str(out))} written")
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


def shown_progress(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    return track(items, escape(what), total, console=console, transient=True, disable=not console.is_terminal)


def _tables(result: Evaluation) -> str:
    """As the terminal, if there is one, shows them."""
    console = Console(width=None if Console().is_terminal else 200)
    with console.capture() as shown:
        _print(result, console)
    return shown.get().removesuffix("\n")


def _print(result: Evaluation, console: Console) -> None:
    console.print(escape(f"{result.data}, sources: {result.split}, super-resolution: {result.super_resolve}"))
    for content in evaluation_tables(result):
        table = Table(title=f"\n{content.title}", title_justify="left", box=None, pad_edge=False)
        for number, column in enumerate(content.columns):
            table.add_column(column, justify="right" if number and column != "way" else "left")
        for row in content.rows:
            table.add_row(*(escape(name_shown(text)) for text in row))
        console.print(table)
