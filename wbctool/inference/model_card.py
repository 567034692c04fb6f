"""Model cards: the JSON file beside each ONNX file.

A card carries everything that the tool must know about a model; the code hard-codes none of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wbctool import former_names
from wbctool.enums import Precision
from wbctool.errors import ModelMismatch, ModelNotFound, list_problems
from wbctool.inference.adaptation_info import AdaptationInfo, Sha256
from wbctool.inference.color_range import ColorRange
from wbctool.inference.familiarity_rule import FamiliarityRule
from wbctool.inference.quantization_info import QuantizationInfo
from wbctool.inference.training_info import TrainingInfo
from wbctool.labels import CellClass, Subtype, UnknownKind
from wbctool.types.cells import ObjectClass

KINDS = ("detector", "generator", "classifier", "compact")

# These came after the first results, which must stay up to date.
_LATER_KEYS = ("unknown_kinds", "unknown_threshold", "familiarity", "adaptation", "subtypes", "subtype_threshold")

_T = TypeVar("_T")


def check_unique(names: tuple[_T, ...]) -> tuple[_T, ...]:
    """Return names as they are; raise ValueError if one occurs twice."""
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"{', '.join(map(str, twice))} occurs twice")
    return names


def _whole_classes(subtypes: tuple[Subtype, ...]) -> tuple[Subtype, ...]:
    """Validate that the subtypes are all of those of some classes."""
    labels = {subtype.label for subtype in subtypes}
    if None in labels or {subtype for subtype in Subtype if subtype.label in labels} != set(subtypes):
        raise ValueError("not all subtypes of a class, or a subtype without a class")
    return subtypes


class Card(BaseModel):
    """The fields of every card.

    Attributes:
        kind: ``detector``, ``generator``, ``classifier`` or ``compact``.
        file, sha256: The name of the ONNX file beside the card, and its SHA-256.
        precision: The arithmetic of the graph.
        input: The graph's input: uint8 RGB, (N, H, W, 3).
        training: How the model was trained, and on what.
        metrics: What training measured.
        quantized_from: What an int8 or fp16 copy was made from; None for an fp32 model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: str
    schema_version: Literal[2] = 2
    name: str
    version: str
    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+\.onnx$")
    sha256: Sha256
    precision: Precision = Precision.FP32
    input: Literal["uint8 NHWC RGB"] = "uint8 NHWC RGB"
    parameters: int
    tool_version: str
    recipe: str
    training: TrainingInfo
    metrics: dict[str, Any] = Field(default_factory=dict)
    quantized_from: QuantizationInfo | None = None
    license: str = "MIT"
    intended_use: str = "Research use only. Not for diagnosis without a qualified reader."


class DetectorCard(Card):
    """The card of a detector of nucleated cells, red cells and platelets.

    Attributes:
        classes: The object class of each channel of the heat map.
        stride: The side of a heat map's point, in scaled pixels.
        input_long_side_px: The longer side that a field is scaled to, as in training.
        size_divisor: The scaled field is padded to a multiple of this, in pixels.
        target_red_cell_px: If red cells are too small, the field is scaled so that they measure this.
        min_red_cell_px: The smallest side of red cells, in scaled pixels, for which one pass is enough.
        preview_px: The longer side of the first, coarse pass. If red cells are large enough in it, no other pass
            follows. 0: no coarse pass.
        score_threshold: The score from which a detection is kept.
        low_score_threshold: The score from which a nucleated cell is kept if classical nucleus segmentation confirms
            it; None: never.
        nms_iou_threshold: The highest IoU of two detections of one class.
        stain_reference: The colors of the training fields, by dataset; empty if they were not measured.
    """

    kind: Literal["detector"] = "detector"
    classes: Annotated[tuple[ObjectClass, ...], AfterValidator(check_unique)]
    stride: int = Field(gt=0)
    input_long_side_px: int = Field(gt=0)
    size_divisor: int = Field(gt=0)
    target_red_cell_px: float = Field(gt=0)
    min_red_cell_px: float = Field(ge=0)
    preview_px: int = Field(default=0, ge=0)
    score_threshold: float = Field(ge=0, le=1)
    low_score_threshold: float | None = Field(default=None, ge=0, le=1)
    nms_iou_threshold: float = Field(ge=0, le=1)
    stain_reference: tuple[ColorRange, ...] = ()


class GeneratorCard(Card):
    """The card of a super-resolution generator. Its output is uint8 NHWC RGB, ``scale`` times as large as its input.

    Attributes:
        scale: The magnification.
        min_px: The smallest side of the square input.
        max_px: The largest side of the square input.
    """

    kind: Literal["generator"] = "generator"
    scale: int = Field(gt=0)
    min_px: int = Field(gt=0)
    max_px: int = Field(gt=0)


class CellClassifierCard(Card):
    """What the cards of both readers have.

    Attributes:
        classes: The class of each logit.
        input_px: The side of the square input, to which every crop is brought. The code knows this size alone.
        crop_margin: The side of a cell's square crop over the longer side of its box.
        temperature: The logits are divided by this before the softmax (Guo et al. 2017, arXiv 1706.04599).
        confidence_threshold: A cell with a smaller probability goes to review. If two readers read, the mean of their
            probabilities is compared with the first one's threshold.
        energy_threshold: A cell with a higher energy is out of distribution (Liu et al. 2020, arXiv 2010.03759); None
            if the model has no such threshold.
        unknown_kinds: Kinds of cells that no class fits, with a logit each after those of the classes.
        unknown_threshold: A cell is taken for one of these kinds if their probabilities add up to at least this, or to
            0.5 if it is None.
        familiarity: When a slide is familiar; None if the graph measures no distance.
        adaptation: What a laboratory taught it; None if it is as it was trained.
    """

    classes: Annotated[tuple[CellClass, ...], AfterValidator(check_unique)]
    input_px: Literal[128]
    crop_margin: float = Field(gt=0)
    temperature: float = Field(gt=0)
    confidence_threshold: float = Field(ge=0, le=1)
    energy_threshold: float | None = None
    unknown_kinds: tuple[UnknownKind, ...] = ()
    unknown_threshold: float | None = Field(default=None, gt=0, le=1)
    familiarity: FamiliarityRule | None = None
    adaptation: AdaptationInfo | None = None


class ClassifierCard(CellClassifierCard):
    """The card of the first reader, the VGG19 of Ferdousi et al. 2024."""

    kind: Literal["classifier"] = "classifier"


class CompactCard(CellClassifierCard):
    """The card of the second reader, a compact network that was trained apart from the first.

    Attributes:
        combination: How its probabilities are combined with the first reader's: their mean decides. The code knows no
            other way, so that a card of another one is refused.
        subtypes: The finer kind of each logit of the output ``subtypes``: all those of some classes. Only those of a
            cell's class compete. Empty if the graph has no such output.
        subtype_threshold: A cell with a smaller probability of its most probable subtype gets none.
    """

    kind: Literal["compact"] = "compact"
    combination: Literal["mean_probability"] = "mean_probability"
    subtypes: Annotated[tuple[Subtype, ...], AfterValidator(check_unique), AfterValidator(_whole_classes)] = ()
    subtype_threshold: float | None = Field(default=None, ge=0, le=1)


ModelCard = DetectorCard | GeneratorCard | ClassifierCard | CompactCard
_CARD_ADAPTER: TypeAdapter[ModelCard] = TypeAdapter(Annotated[ModelCard, Field(discriminator="kind")])
CardT = TypeVar("CardT", bound=Card)


def default_models_dir() -> Path:
    """Return the folder of models in the installed package, or ``exported/`` of a source checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "exported"
    return packaged if packaged.is_dir() else package.parent / "exported"


def read_card(path: Path) -> ModelCard:
    """Read a model card.

    Args:
        path: The card's JSON file.

    Returns:
        The card of its kind.

    Raises:
        ModelNotFound: The file is missing.
        ModelMismatch: The file is not a card.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if renamed := _describe_renames(content):
            raise ModelMismatch(f"{path} is a model card of schema 1: {renamed}")
        return _CARD_ADAPTER.validate_python(content)
    except FileNotFoundError as error:
        raise ModelNotFound(f"the model card {path} is missing") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValidationError) as error:
        raise ModelMismatch(f"{path} is not a model card: {_first_error(error)}") from error


def _describe_renames(content: object) -> str:
    """Say how the former names in a card are called now; empty if it has none."""
    if not isinstance(content, dict):
        return ""
    return former_names.describe_renames(content, _former_names(str(content.get("kind"))))


def _former_names(kind: str) -> Mapping[str, str]:
    """Return the former names of a card's keys, with the current ones."""
    return former_names.DETECTOR_CARD if kind == "detector" else former_names.CARD


def fingerprint_entry(card: Card) -> dict[str, Any]:
    """Return what a slide's fingerprint takes of a card.

    A copy's measurements, the method and the slides of an adaptation, and what holds for a reader alone are left out.
    The keys are those of card schema 1, so that the renames of schema 2 process no slide again.
    """
    content = card.model_dump(
        mode="json",
        exclude={
            "quantized_from": True,
            "adaptation": {"method", "cells_by_group"},
            "familiarity": {"min_confidence_alone"},
        },
    )
    content = {key: value for key, value in content.items() if value or key not in _LATER_KEYS}
    entry: dict[str, Any] = former_names.restore_former_names(content, _former_names(card.kind))
    return {**entry, "schema_version": 1}


def _first_error(error: Exception) -> str:
    """Format an error in one line; of several wrong entries of a card, the first."""
    if not isinstance(error, ValidationError):
        return str(error)
    location, cause = list_problems(error)[0]
    return f"{location}: {cause}" if location else cause


def load_fp32_card(folder: Path, kind: type[CardT]) -> CardT:
    """Read the fp32 card of a kind, which training names after the kind; raises as :func:`read_card_of_kind`."""
    return read_card_of_kind(folder / f"{kind_name(kind)}.json", kind)


def quantized_card_path(folder: Path, kind: type[Card], precision: Precision) -> Path:
    """Return the path of the card of a kind's int8 or fp16 copy."""
    return folder / f"{kind_name(kind)}.{precision}.json"


def quantized_file(card: Card, precision: Precision) -> str:
    """Return the name of the ONNX file of an fp32 model's int8 or fp16 copy."""
    return f"{Path(card.file).stem}.{precision}.onnx"


def read_card_of_kind(path: Path, kind: type[CardT]) -> CardT:
    """Read a card and check its kind; raises as :func:`read_card`, and ModelMismatch for another kind."""
    card = read_card(path)
    if not isinstance(card, kind):
        raise ModelMismatch(f"{path} describes a {card.kind}, not a {kind_name(kind)}")
    return card


def kind_name(kind: type[Card]) -> str:
    """Return ``detector``, ``generator``, ``classifier`` or ``compact``."""
    return str(kind.model_fields["kind"].default)
