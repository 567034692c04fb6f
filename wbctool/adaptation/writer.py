"""The models of an adaptation, written as a folder that `wbctool run --models` takes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wbctool.adaptation.adapt import Adaptation
from wbctool.adaptation.cells import AdaptationCell, count_labels
from wbctool.adaptation.measure import Comparison
from wbctool.adaptation.readers import AdaptedReader
from wbctool.enums import Precision
from wbctool.errors import ModelMismatch, ModelNotFound
from wbctool.evaluation.proportion import Proportion
from wbctool.imaging.resize import resize_square
from wbctool.inference.adaptation_info import AdaptationInfo
from wbctool.inference.classifier_head import replace_last_layer
from wbctool.inference.model_card import (
    Card,
    CellClassifierCard,
    DetectorCard,
    GeneratorCard,
    kind_name,
    load_fp32_card,
    quantized_card_path,
    read_card_of_kind,
)
from wbctool.inference.model_folder import delete_copy, encode_card, read_model_bytes, staleness_reason
from wbctool.inference.session import CPU, FEATURES, LOGITS, create_session
from wbctool.store.atomic_write import write_atomic_group
from wbctool.text import encode_name

_PARITY_CELLS = 4
_PARITY_TOLERANCE = 0.05  # of a logit, between the written model and the layer that it holds in half precision


def write_adapted_models(
    adaptation: Adaptation, cells: Sequence[AdaptationCell], labeled_by: Sequence[str], folder: Path, out: Path
) -> None:
    """Write a folder of models in which the classifiers are the adapted ones; copies of other models are deleted.

    Args:
        adaptation: What to write.
        cells: The cells that it was fitted to.
        labeled_by: Who labeled them.
        folder: The models that were adapted.
        out: Where the models go.

    Raises:
        ModelMismatch: A written classifier does not give what was fitted.
        OutputNotWritable: The folder cannot be written.
    """
    files: dict[Path, bytes] = {}
    written: list[Card] = []
    for kind in (DetectorCard, GeneratorCard):
        card = load_fp32_card(folder, kind)
        files[out / card.file] = read_model_bytes(card, folder)
        files[out / f"{kind_name(kind)}.json"] = encode_card(card)
        written.append(card)
    for reader, parent in zip(adaptation.readers, adaptation.parents, strict=True):
        if reader.tuned is None:
            content = replace_last_layer(read_model_bytes(parent, folder), reader.layer)
        else:
            content = reader.tuned.export()
        info = _describe_adaptation(reader, parent, adaptation.comparison, cells, labeled_by, out.resolve().name)
        name = kind_name(type(parent))
        adapted_card = reader.card.model_copy(
            update={
                "name": f"{parent.name}, adapted to {info.laboratory}",
                "file": f"{name}.onnx",
                "sha256": hashlib.sha256(content).hexdigest(),
                "adaptation": info,
            }
        )
        _check_parity(content, adapted_card, reader, cells)
        files[out / adapted_card.file] = content
        files[out / f"{name}.json"] = encode_card(adapted_card)
        written.append(adapted_card)
    for written_card in written:
        _delete_stale_copies(written_card, out)
    write_atomic_group(files)


def _delete_stale_copies(card: Card, folder: Path) -> None:
    """Delete the int8 and fp16 copies in a folder that are of another model than the one to be written there."""
    for precision in (Precision.INT8, Precision.FP16):
        try:
            copy = read_card_of_kind(quantized_card_path(folder, type(card), precision), type(card))
        except (ModelNotFound, ModelMismatch):  # there is none, or it is no card of ours
            continue
        if staleness_reason(copy, card):
            delete_copy(card, precision, folder)


def _describe_adaptation(
    reader: AdaptedReader,
    parent: CellClassifierCard,
    comparison: Comparison,
    cells: Sequence[AdaptationCell],
    labeled_by: Sequence[str],
    laboratory: str,
) -> AdaptationInfo:
    """Return what the card of an adapted reader says of its adaptation."""
    before, after = comparison.before, comparison.after
    return AdaptationInfo(
        laboratory=laboratory,
        method=reader.method,
        parent_sha256=parent.sha256,
        readers=tuple(labeled_by),
        cells_by_label=dict(sorted(count_labels(cells).items())),
        cells_by_group=dict(sorted(Counter(encode_name(cell.group) for cell in cells).items())),
        groups=len({cell.group for cell in cells}),
        cell_sha256=tuple(sorted(cell.sha256 for cell in cells)),
        accuracy_before=_to_fraction(before.accuracy),
        accuracy_after=_to_fraction(after.accuracy),
        silent_errors_before=_to_fraction(before.silent_errors),
        silent_errors_after=_to_fraction(after.silent_errors),
        coverage_before=_to_fraction(before.coverage),
        coverage_after=_to_fraction(after.coverage),
    )


def _to_fraction(proportion: Proportion) -> float:
    """Return a proportion in [0, 1] with four decimals, as cards have it."""
    return round(proportion.percent / 100, 4)


def _check_parity(
    content: bytes, card: CellClassifierCard, reader: AdaptedReader, cells: Sequence[AdaptationCell]
) -> None:
    """Raise ModelMismatch if a written classifier gives other logits than the fitted layer on its own features."""
    model = create_session(card, content, CPU)
    rgb = np.stack([resize_square(cell.crop.rgb, card.input_px) for cell in cells[:_PARITY_CELLS]])
    logits, features = model.run(rgb, LOGITS, FEATURES)
    difference = float(np.abs(logits - reader.layer.compute_logits(features)).max())
    if not difference <= _PARITY_TOLERANCE:
        raise ModelMismatch(f"{card.file} as written differs from the fitted layer by {difference:.2g}")
