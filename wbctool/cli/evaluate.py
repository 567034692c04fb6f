"""`wbctool evaluate`: the models on labeled data, as tables on the terminal and files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.options import ModelsDir, ReadersChoice, SuperResolveMode
from wbctool.cli.output import check_writable, echo, echo_optional
from wbctool.enums import Device, Precision, Readers, SplitChoice, SuperResolve
from wbctool.optional import require_extra
from wbctool.text import display_name

if TYPE_CHECKING:
    from rich.console import Console

    from wbctool.evaluation.evaluate import Evaluation


def evaluate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Class folders of cell images, or fields with boxes.")],
    models_dir: ModelsDir = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the figures and evaluation.json go.")] = None,
    split: Annotated[
        SplitChoice, typer.Option(help="Groups that no choice was made on; groups used for making choices; or all.")
    ] = SplitChoice.TEST,
    super_resolve: SuperResolveMode = SuperResolve.AUTO,
    precision: Annotated[Precision, typer.Option(help="Precision of the models.")] = Precision.AUTO,
    readers: ReadersChoice = Readers.BOTH,
    sr_cells: Annotated[
        int, typer.Option(metavar="N", min=0, help="Cells per dataset for comparing the generators; 0: none.")
    ] = 100,
    ood_images: Annotated[
        int, typer.Option(metavar="N", min=0, help="Images of each kind that show no cell of a known class; 0: none.")
    ] = 100,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Classes of cells in fields without a labels.csv: columns image, label."),
    ] = None,
) -> None:
    """Measure the models on labeled data. Requires: pip install 'wbctool[evaluate]'."""
    with handle_errors():
        evaluate_models(
            data=data,
            models_dir=models_dir,
            out=out,
            split=split,
            mode=super_resolve,
            precision=precision,
            sr_cells=sr_cells,
            ood_images=ood_images,
            labels=labels,
            readers=readers,
        )


def evaluate_models(
    data: Path,
    models_dir: Path | None,
    out: Path | None,
    split: SplitChoice,
    mode: SuperResolve,
    precision: Precision,
    sr_cells: int,
    ood_images: int,
    labels: Path | None,
    readers: Readers,
) -> None:
    """Evaluate, write the files if there is a folder for them, and print the tables.

    Raises:
        LabelledDataInvalid: The data or the labels cannot be read.
        SettingsInvalid: The folder holds files of the same names that are not from an evaluation.
        OutputNotWritable: The folder cannot be written; without a folder, standard output cannot.
    """
    with require_extra("evaluate", "`wbctool evaluate`"):  # before minutes of work whose results could not be shown
        import matplotlib  # noqa: F401
        import skimage  # noqa: F401
        import sklearn  # noqa: F401

    import wbctool
    from wbctool.cli.progress import track_progress
    from wbctool.datasets.fields import read_cell_labels
    from wbctool.datasets.labelled import Split
    from wbctool.evaluation.evaluate import evaluate
    from wbctool.evaluation.writer import check_evaluation_folder, write_evaluation
    from wbctool.inference.loading import load_generators
    from wbctool.inference.model_card import default_models_dir

    emit = echo if out is None else echo_optional
    if out is not None:
        check_evaluation_folder(out)
        check_writable(out)
    field_labels = read_cell_labels(labels) if labels else {}
    models = wbctool.load_models(models_dir, Device.AUTO, precision, readers)
    if models.device_message:
        emit(f"wbctool: {models.device_message}")
    fp32 = None
    if any(model.precision is not Precision.FP32 for model in (models.classifier, models.generator)):
        fp32 = wbctool.load_models(models_dir, Device.AUTO, Precision.FP32, readers)
        emit(f"classifier in {models.classifier.precision.value}, generator in {models.generator.precision.value}")
    generators = load_generators(models_dir or default_models_dir())
    selected_split = None if split is SplitChoice.ALL else Split(split.value)
    result = evaluate(
        data,
        models,
        generators,
        selected_split,
        mode,
        sr_cells=sr_cells,
        ood_images=ood_images,
        progress=track_progress,
        fp32=fp32,
        field_labels=field_labels,
    )
    if out is not None:
        write_evaluation(result, out)
    emit(_render_tables(result))
    if out is not None:
        emit(f"{display_name(str(out))} written")


def _render_tables(result: Evaluation) -> str:
    """Return the tables as wide as the terminal, or 200 columns wide if there is none."""
    from rich.console import Console

    console = Console(width=None if Console().is_terminal else 200)
    with console.capture() as capture:
        _print_tables(result, console)
    return capture.get().removesuffix("\n")


def _print_tables(result: Evaluation, console: Console) -> None:
    """Print what was measured on which data, and a table for each measurement."""
    from rich.markup import escape
    from rich.table import Table

    from wbctool.evaluation.text_tables import build_tables, describe_options

    console.print(escape(f"{result.data}, {describe_options(result)}"))
    for content in build_tables(result):
        table = Table(title=f"\n{content.title}", title_justify="left", box=None, pad_edge=False)
        for number, column in enumerate(content.columns):
            table.add_column(column, justify="right" if number and column != "method" else "left")
        for row in content.rows:
            table.add_row(*(escape(display_name(text)) for text in row))
        console.print(table)
