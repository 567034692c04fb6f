"""The stages of one field with their models bound, so that a test can bind others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import wbctool
from wbctool.cards import ColourRange
from wbctool.models import Cards, Models
from wbctool.onnx_model import CPU
from wbctool.records import Box, Crop, Detection, Field, Prediction
from wbctool.settings import RunSettings
from wbctool.slide_results import ModelUsed, Provenance
from wbctool.stages.classify import classify_cells
from wbctool.stages.crop import crop_cells
from wbctool.stages.detect import detect_all_cells
from wbctool.stages.upscale import PreparedCrops, prepare_crops

if TYPE_CHECKING:
    from wbctool.records import Rgb


@dataclass(frozen=True, slots=True)
class Stages:
    """provenance: what the results say of how they were made. basis: all that they depend on but the fields.

    detect: the nucleated and the red cells of a field. many_at_once: whether large batches are faster than small ones,
    as on a GPU. rows: those of each model's batches, by now. colours: those of the detector's training fields.
    """

    detect: Callable[[Field], tuple[Detection, ...]]
    crop: Callable[[Field, Sequence[Box]], tuple[Crop, ...]]
    prepare: Callable[[Sequence[Crop]], PreparedCrops]
    classify: Callable[[Rgb], tuple[Prediction, ...]]
    provenance: Provenance
    basis: Mapping[str, Any]
    device_note: str | None = None
    many_at_once: bool = False
    rows: Callable[[], Mapping[str, int]] = dict
    colours: tuple[ColourRange, ...] = ()


def provenance_of(cards: Cards, provider: str, settings: RunSettings) -> Provenance:
    """What the results of these models say of how they were made."""
    _, generator, classifier = cards
    affecting = settings.affecting_results()
    precision = classifier.precision.value
    if generator.precision is not classifier.precision:
        precision += f" (generator {generator.precision})"
    return Provenance(
        tool_version=wbctool.__version__,
        provider=provider,
        precision=precision,
        classes=classifier.classes,
        models=tuple(ModelUsed(card.file, card.name, card.version, card.sha256) for card in cards),
        settings=tuple((name, str(value)) for name, value in affecting.items() if not name.endswith("_ranges")),
    )


def basis_of(cards: Cards, settings: RunSettings) -> dict[str, Any]:
    """All that the results of these models depend on but the fields, as JSON values."""
    return {
        "results": wbctool.RESULTS_VERSION,
        "cards": [card.model_dump(mode="json", exclude={"copy_of"}) for card in cards],
        "settings": settings.affecting_results(),
    }


def bind_stages(models: Models, settings: RunSettings) -> Stages:
    """The stages with the loaded models."""
    cards = (models.detector.card, models.generator.card, models.classifier.card)
    return Stages(
        detect=lambda field: detect_all_cells(field, models.detector),
        crop=lambda field, boxes: crop_cells(field, boxes, models.classifier.card.crop_margin),
        prepare=lambda crops: prepare_crops(crops, models.generator, settings.super_resolve),
        classify=lambda rgb: classify_cells(rgb, models.classifier, models.head),
        provenance=provenance_of(cards, models.provider, settings),
        basis=basis_of(cards, settings),
        device_note=models.device_note,
        many_at_once=models.provider != CPU,
        rows=lambda: models.rows,
        colours=models.detector.card.colours,
    )
