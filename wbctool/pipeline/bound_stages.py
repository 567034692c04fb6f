"""The stages of one field with their models bound, so that a test can bind others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import wbctool
from wbctool import former_names
from wbctool.imaging.crop import crop_cells
from wbctool.inference.color_range import ColorRange
from wbctool.inference.familiarity_rule import FamiliarityRule
from wbctool.inference.loading import Cards, Models
from wbctool.inference.model_card import fingerprint_entry
from wbctool.inference.session import CPU
from wbctool.settings import RunSettings
from wbctool.stages.classify import classify_cells
from wbctool.stages.detect import detect_blood_cells
from wbctool.stages.plausibility import check_plausibility
from wbctool.stages.preprocess import ClassifierInput, preprocess_crops
from wbctool.types.cells import Box, Crop, Detection, Field, Prediction
from wbctool.types.progress import Progress, no_progress
from wbctool.types.results import ModelRef, Provenance

if TYPE_CHECKING:
    from wbctool.types.arrays import Rgb


@dataclass(frozen=True, slots=True)
class ModelsInUse:
    """What a run knows and records of its models, wherever they run.

    Attributes:
        provenance: What the results record of how they were made.
        cache_key: Everything that the results depend on except the fields, as JSON values.
        device_message: One line about why ``auto`` does not use the GPU that there is; None if there is none.
        batch_sizes: Returns the current number of rows of each model's batches, by file name.
    """

    provenance: Provenance
    cache_key: Mapping[str, Any]
    device_message: str | None = None
    batch_sizes: Callable[[], Mapping[str, int]] = dict

    @property
    def prefers_large_batches(self) -> bool:
        """Whether large batches are faster than small ones, as on a GPU."""
        return self.provenance.provider != CPU


@dataclass(frozen=True, slots=True)
class BoundStages:
    """The stages of one field, as functions without models.

    Attributes:
        models: What a run knows of the models.
        detect: Returns the nucleated and the red cells of a field, and shows the progress within a large one.
        crop: Cuts the cells in the boxes out of a field.
        preprocess: Brings crops to the classifier's input, (N, 128, 128, 3) uint8 RGB.
        classify: Returns one prediction per row of the classifier's input.
        stain_reference: The colors of the laboratories that the models know.
        check: Raises FieldImplausible if a field cannot be a stained smear.
        familiarity_rule: When a slide is familiar, and which cells of another one are counted.
    """

    models: ModelsInUse
    detect: Callable[[Field, Progress], tuple[Detection, ...]]
    crop: Callable[[Field, Sequence[Box]], tuple[Crop, ...]]
    preprocess: Callable[[Sequence[Crop]], ClassifierInput]
    classify: Callable[[Rgb], tuple[Prediction, ...]]
    stain_reference: tuple[ColorRange, ...] = ()
    check: Callable[[Field], None] = lambda field: None  # noqa: ARG005
    familiarity_rule: FamiliarityRule | None = None


def build_provenance(cards: Cards, provider: str, settings: RunSettings) -> Provenance:
    """Describe how the results of a run are made.

    Args:
        cards: The cards of the models.
        provider: The execution provider of onnxruntime that the models run on.
        settings: The settings of the run.

    Returns:
        The description that slide.json and the reports carry.
    """
    classifier = cards.classifier
    result_settings = settings.result_settings()
    others = [card for card in (cards.generator, cards.second) if card and card.precision is not classifier.precision]
    precision = classifier.precision.value
    if others:
        precision += f" ({', '.join(f'{card.kind} {card.precision}' for card in others)})"
    return Provenance(
        tool_version=wbctool.__version__,
        provider=provider,
        precision=precision,
        classes=classifier.classes,
        models=tuple(ModelRef(card.file, card.name, card.version, card.sha256) for card in cards),
        settings=tuple((name, str(value)) for name, value in result_settings.items() if not name.endswith("_ranges")),
    )


def build_cache_key(cards: Cards, settings: RunSettings) -> dict[str, Any]:
    """Collect everything that the results depend on except the fields, as JSON values."""
    rule = cards.classifier.familiarity
    # fingerprint_entry leaves it out: it changes nothing if both networks read
    alone = {"min_confidence_alone": rule.min_confidence_alone} if rule is not None and cards.second is None else {}
    return {
        "results": wbctool.RESULTS_VERSION,
        "cards": [fingerprint_entry(card) for card in cards],
        "settings": former_names.fingerprint_settings(settings.result_settings()),
        **alone,
    }


def bind_stages(models: Models, settings: RunSettings) -> BoundStages:
    """Bind loaded models to the stages."""
    cards = models.cards

    def detect(field: Field, progress: Progress = no_progress) -> tuple[Detection, ...]:
        return detect_blood_cells(field, models.detector, progress)

    in_use = ModelsInUse(
        provenance=build_provenance(cards, models.provider, settings),
        cache_key=build_cache_key(cards, settings),
        device_message=models.device_message,
        batch_sizes=lambda: models.batch_sizes,
    )
    return BoundStages(
        models=in_use,
        detect=detect,
        crop=lambda field, boxes: crop_cells(field, boxes, models.classifier.card.crop_margin),
        preprocess=lambda crops: preprocess_crops(crops, models.generator, settings.super_resolve),
        classify=lambda rgb: classify_cells(rgb, models.classifier, models.second, with_cam=True),
        stain_reference=cards.stain_reference,
        check=check_plausibility,
        familiarity_rule=cards.familiarity_rule,
    )
