"""`wbctool models optimize`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from wbctool.cli.measuring import track_progress
from wbctool.cli.saying import echo_optional
from wbctool.enums import Device, Precision
from wbctool.errors import OutputNotWritable, QuantizationRejected
from wbctool.inference.loading import load_models
from wbctool.inference.model_card import (
    ClassifierCard,
    DetectorCard,
    GeneratorCard,
    default_models_dir,
    encode_card,
    kind_name,
    load_fp32_card,
    quantized_card_path,
    read_model_bytes,
)
from wbctool.optional import require_extra
from wbctool.quantization.calibration_data import load_bundled_cells, load_labelled_cells
from wbctool.quantization.quantize import optimize_classifier, optimize_generator
from wbctool.quantization.search import QuantizedModel
from wbctool.store.atomic_write import write_atomic
from wbctool.text import display_name, pluralize

REJECTED = 1
_QUANTIZERS: tuple[Callable[..., QuantizedModel[Any]], ...] = (optimize_classifier, optimize_generator)


def optimize_models_command(models_dir: Path | None, data: Path | None, out: Path | None, precision: Precision) -> int:
    """`wbctool models optimize`; returns the exit code: REFUSED where a copy would change too much and is not made."""
    with require_extra("optimize", "wbctool models optimize"):
        import onnx  # noqa: F401
    folder = models_dir or default_models_dir()
    device = Device.CPU if precision is Precision.INT8 else Device.AUTO  # each is measured where it is of use
    models = load_models(folder, device, Precision.FP32)
    cells = load_bundled_cells() if data is None else load_labelled_cells(data, models, track_progress)
    code = 0
    for quantize in _QUANTIZERS:
        try:
            quantized = quantize(models, folder, cells, track_progress, precision)
        except QuantizationRejected as error:
            echo_optional(f"wbctool: {error}")
            code = REJECTED
            continue
        echo_optional(format_summary(quantized))
        delete_quantized(quantized, out or folder)
        if quantized.is_faster:
            echo_optional(f"{display_name(str(write_quantized(quantized, out or folder)))} written")
        else:
            echo_optional(f"{quantized.card.kind}: no faster in {precision} here, so no copy is kept; it stays in fp32")
    if out is not None:
        _copy_fp32_models(folder, out)
    return code


def _copy_fp32_models(folder: Path, out: Path) -> None:
    """The fp32 models beside their copies, without which no run takes these; what lies there already stays."""
    for kind in (DetectorCard, GeneratorCard, ClassifierCard):
        path = out / f"{kind_name(kind)}.json"
        if not path.exists():
            card = load_fp32_card(folder, kind)
            write_atomic(out / card.file, read_model_bytes(card, folder))
            write_atomic(path, encode_card(card))


def delete_quantized(quantized: QuantizedModel[Any], folder: Path) -> None:
    """An older copy goes, the card first: a card must not name another file, nor a run take what does not pay."""
    for path in (
        quantized_card_path(folder, type(quantized.card), quantized.card.precision),
        folder / quantized.card.file,
    ):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputNotWritable(f"{path} cannot be replaced: {error.strerror or error}") from error


def write_quantized(quantized: QuantizedModel[Any], folder: Path) -> Path:
    """Write model and card, each whole, the card last."""
    path = quantized_card_path(folder, type(quantized.card), quantized.card.precision)
    write_atomic(folder / quantized.card.file, quantized.content)
    write_atomic(path, encode_card(quantized.card))
    return path


def format_summary(quantized: QuantizedModel[Any]) -> str:
    """A copy and what it changes, in two lines."""
    card, info = quantized.card, quantized.card.quantized_from
    parts = [f"{pluralize(info.changed_labels, 'label')} and {pluralize(info.changed_outcomes, 'outcome')} changed"]
    if info.accuracy_fp32 is not None:
        parts.append(f"accuracy {info.accuracy_fp32:.4f} in fp32, {info.accuracy_quantized:.4f} in {card.precision}")
    if info.psnr_db is not None:
        parts.append(f"PSNR {info.psnr_db:.1f} dB against the fp32 images")
    size_note = f" of {card.min_px} px" if isinstance(card, GeneratorCard) else ""
    parts.append(
        f"{1000 * quantized.fp32_s:.1f} ms a cell{size_note} {quantized.timed_on} in fp32, {1000 * quantized.quantized_s:.1f} ms in {card.precision}"
    )
    calibration_note = f"calibrated on {info.calibrated_on}; " if info.calibrated_on else ""
    return (
        f"{card.kind}: {calibration_note}{quantized.n_layers - len(info.fp32_layers)} of {quantized.n_layers} convolutions in "
        f"{card.precision}, {len(quantized.content) / 1e6:.1f} MB\n"
        f"measured on {info.cells} of {info.measured_on}, {pluralize(info.images, 'image')}: {'; '.join(parts)}"
    )
