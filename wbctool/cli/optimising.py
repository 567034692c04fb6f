"""`wbctool models optimize`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from wbctool.batch.publish import publish
from wbctool.cards import (
    ClassifierCard,
    DetectorCard,
    GeneratorCard,
    copy_path,
    default_models_dir,
    kind_name,
    plain_card,
    read_model_bytes,
)
from wbctool.choices import Device, Precision
from wbctool.cli.measuring import shown_progress
from wbctool.cli.saying import mention
from wbctool.errors import CopyRefused, OutputNotWritable
from wbctool.extras import needing
from wbctool.lab.calibration_cells import labelled_cells, packaged_cells
from wbctool.lab.copies import OptimisedModel
from wbctool.lab.optimize import optimise_classifier, optimise_generator
from wbctool.layout import name_shown
from wbctool.models import load_models
from wbctool.wording import number_of

REFUSED = 1
_WAYS: tuple[Callable[..., OptimisedModel[Any]], ...] = (optimise_classifier, optimise_generator)


def optimize_command(models_dir: Path | None, data: Path | None, out: Path | None, precision: Precision) -> int:
    """`wbctool models optimize`; returns the exit code: REFUSED where a copy would change too much and is not made."""
    with needing("optimize", "wbctool models optimize"):
        import onnx  # noqa: F401
    folder = models_dir or default_models_dir()
    device = Device.CPU if precision is Precision.INT8 else Device.AUTO  # each is measured where it is of use
    models = load_models(folder, device, Precision.FP32)
    cells = packaged_cells() if data is None else labelled_cells(data, models, shown_progress)
    code = 0
    for optimise in _WAYS:
        try:
            made = optimise(models, folder, cells, shown_progress, precision)
        except CopyRefused as error:
            mention(f"wbctool: {error}")
            code = REFUSED
            continue
        mention(told(made))
        withdraw_copy(made, out or folder)
        if made.pays:
            mention(f"{name_shown(str(publish_copy(made, out or folder)))} written")
        else:
            mention(f"{made.card.kind}: no faster in {precision} here, so no copy is kept; it stays in fp32")
    if out is not None:
        _bring_models(folder, out)
    return code


def _bring_models(folder: Path, out: Path) -> None:
    """The fp32 models beside their copies, without which no run takes these; what lies there already stays."""
    for kind in (DetectorCard, GeneratorCard, ClassifierCard):
        path = out / f"{kind_name(kind)}.json"
        if not path.exists():
            card = plain_card(folder, kind)
            publish(out / card.file, read_model_bytes(card, folder))
            publish(path, (card.model_dump_json(indent=2) + "\n").encode())


def withdraw_copy(made: OptimisedModel[Any], folder: Path) -> None:
    """An older copy goes, the card first: a card must not name another file, nor a run take what does not pay."""
    for path in (copy_path(folder, type(made.card), made.card.precision), folder / made.card.file):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputNotWritable(f"{path} cannot be replaced: {error.strerror or error}") from error


def publish_copy(made: OptimisedModel[Any], folder: Path) -> Path:
    """Write model and card, each whole, the card last."""
    path = copy_path(folder, type(made.card), made.card.precision)
    publish(folder / made.card.file, made.content)
    publish(path, (made.card.model_dump_json(indent=2) + "\n").encode())
    return path


def told(made: OptimisedModel[Any]) -> str:
    """A copy and what it changes, in two lines."""
    card, change = made.card, made.card.copy_of
    parts = [f"{number_of(change.changed_labels, 'label')} and {number_of(change.changed_outcomes, 'outcome')} changed"]
    if change.accuracy_fp32 is not None:
        parts.append(f"accuracy {change.accuracy_fp32:.4f} in fp32, {change.accuracy_copy:.4f} in {card.precision}")
    if change.psnr_db is not None:
        parts.append(f"PSNR {change.psnr_db:.1f} dB against the fp32 images")
    of = f" of {card.min_px} px" if isinstance(card, GeneratorCard) else ""
    parts.append(
        f"{1000 * made.fp32_s:.1f} ms a cell{of} {made.where} in fp32, {1000 * made.copy_s:.1f} ms in {card.precision}"
    )
    calibrated = f"calibrated on {change.calibrated_on}; " if change.calibrated_on else ""
    return (
        f"{card.kind}: {calibrated}{made.layers - len(change.kept_fp32)} of {made.layers} convolutions in "
        f"{card.precision}, {len(made.content) / 1e6:.1f} MB\n"
        f"measured on {change.cells} of {change.measured_on}, {number_of(change.pictures, 'image')}: {'; '.join(parts)}"
    )
