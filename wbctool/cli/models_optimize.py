"""`wbctool models optimize`: int8 and fp16 copies of the models."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.options import ModelsDir
from wbctool.cli.output import echo_error, echo_optional
from wbctool.enums import CopyPrecision, Device, Precision
from wbctool.errors import QuantizationRejected
from wbctool.exit_codes import ExitCode
from wbctool.optional import require_extra
from wbctool.text import display_name, pluralize

if TYPE_CHECKING:
    from wbctool.inference.model_card import Card
    from wbctool.quantization.measure import QuantizedModel


def optimize(
    models_dir: ModelsDir = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Class folders to calibrate and measure on. Default: the shipped cells."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the copies and the models go. Default: beside the models.")
    ] = None,
    precision: Annotated[CopyPrecision, typer.Option(help="int8 for a CPU, fp16 for a GPU.")] = CopyPrecision.INT8,
) -> None:
    """Make int8 (CPU) or fp16 (GPU) copies of the classifiers and the generator. Later runs use them.

    Exit codes: 0 made, or not made because no faster here; 1 not made because a copy would change too much.
    Requires: pip install 'wbctool[optimize]'.
    """
    with handle_errors():
        raise typer.Exit(optimize_models(models_dir, data, out, Precision(precision)))


def optimize_models(
    models_dir: Path | None,
    data: Path | None,
    out: Path | None,
    precision: Precision,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Make, measure and write the copies, and return the exit code.

    Args:
        models_dir: The folder of the models; the shipped ones if None.
        data: Class folders to calibrate and measure on; the shipped cells if None.
        out: Where the copies and the models go; beside the models if None.
        precision: int8 or fp16.
        clock: Returns the time in seconds, for how long a cell takes.
    """
    with require_extra("optimize", "wbctool models optimize"):
        import onnx  # noqa: F401

    import wbctool
    from wbctool.cli.progress import track_progress
    from wbctool.inference.model_card import default_models_dir
    from wbctool.inference.model_folder import delete_copy, find_readers
    from wbctool.quantization.calibration_data import load_bundled_cells, load_labelled_cells
    from wbctool.quantization.optimize import optimize_classifier, optimize_generator

    folder = models_dir or default_models_dir()
    _check_folder(out or folder, precision, is_new=out is not None)
    device = Device.CPU if precision is Precision.INT8 else Device.AUTO  # each is measured on what it is made for
    models = wbctool.load_models(folder, device, Precision.FP32, find_readers(folder))
    cells = load_bundled_cells() if data is None else load_labelled_cells(data, models, track_progress)
    code = ExitCode.DONE
    quantizers: list[tuple[Card, Callable[..., QuantizedModel[Any]]]] = [
        *((reader.card, partial(optimize_classifier, reader)) for reader in models.classifiers),
        (models.generator.card, partial(optimize_generator, models)),
    ]
    for card, quantize in quantizers:
        try:
            quantized = quantize(folder, cells, track_progress, precision, clock=clock)
        except QuantizationRejected as error:
            delete_copy(card, precision, out or folder)
            echo_error(f"{error}; it stays in fp32")
            code = ExitCode.FATAL
            continue
        echo_optional(format_summary(quantized))
        delete_copy(card, precision, out or folder)
        if quantized.is_faster:
            echo_optional(f"{display_name(str(write_quantized(quantized, out or folder)))} written")
        else:
            echo_optional(f"{quantized.card.kind}: no faster in {precision} here, so no copy is kept; it stays in fp32")
    if out is not None and out.resolve() != folder.resolve():
        _copy_fp32_models(folder, out)
    return code


def _check_folder(folder: Path, precision: Precision, is_new: bool) -> None:
    """Check that only models are replaced or deleted; a new folder gets the fp32 models too."""
    from wbctool.inference.model_card import KINDS, ClassifierCard, CompactCard, GeneratorCard, kind_name
    from wbctool.store.model_ownership import check_models_overwrite

    copies = [f"{kind_name(kind)}.{precision.value}" for kind in (GeneratorCard, ClassifierCard, CompactCard)]
    check_models_overwrite(folder, [*copies, *KINDS] if is_new else copies, "--out" if is_new else "")


def _copy_fp32_models(folder: Path, out: Path) -> None:
    """Put the fp32 models beside their copies, which no run uses without them; earlier ones are replaced."""
    from wbctool.inference.model_card import (
        ClassifierCard,
        CompactCard,
        DetectorCard,
        GeneratorCard,
        kind_name,
        load_fp32_card,
    )
    from wbctool.inference.model_folder import encode_card, read_model_bytes
    from wbctool.store.atomic_write import write_atomic

    for kind in (DetectorCard, GeneratorCard, ClassifierCard, CompactCard):
        name = f"{kind_name(kind)}.json"
        if (folder / name).exists():
            card = load_fp32_card(folder, kind)
            write_atomic(out / card.file, read_model_bytes(card, folder))
            write_atomic(out / name, encode_card(card))


def write_quantized(quantized: QuantizedModel[Any], folder: Path) -> Path:
    """Write model and card, each whole, the card last, and return the card's path."""
    from wbctool.inference.model_card import quantized_card_path
    from wbctool.inference.model_folder import encode_card
    from wbctool.store.atomic_write import write_atomic

    path = quantized_card_path(folder, type(quantized.card), quantized.card.precision)
    write_atomic(folder / quantized.card.file, quantized.content)
    write_atomic(path, encode_card(quantized.card))
    return path


def format_summary(quantized: QuantizedModel[Any]) -> str:
    """Describe a copy and what it changes, in two lines."""
    from wbctool.inference.model_card import GeneratorCard

    card, info = quantized.card, quantized.card.quantized_from
    parts = [f"{pluralize(info.changed_labels, 'label')} and {pluralize(info.changed_outcomes, 'outcome')} changed"]
    if info.accuracy_fp32 is not None:
        parts.append(f"accuracy {info.accuracy_fp32:.4f} in fp32, {info.accuracy_quantized:.4f} in {card.precision}")
    if info.psnr_db is not None:
        parts.append(f"PSNR {info.psnr_db:.1f} dB against the fp32 images")
    size_note = f" of {card.min_px} px" if isinstance(card, GeneratorCard) else ""
    parts.append(
        f"{1000 * quantized.fp32_s:.1f} ms a cell{size_note} {quantized.timed_on} in fp32, "
        f"{1000 * quantized.quantized_s:.1f} ms in {card.precision}"
    )
    calibration_note = f"calibrated on {info.calibrated_on}; " if info.calibrated_on else ""
    n_converted = quantized.n_layers - len(info.fp32_layers)
    return (
        f"{card.kind}: {calibration_note}{n_converted} of {quantized.n_layers} convolutions in {card.precision}, "
        f"{len(quantized.content) / 1e6:.1f} MB\n"
        f"measured on {info.cells} of {info.measured_on}, {pluralize(info.images, 'image')}: {'; '.join(parts)}"
    )
