"""Model cards: the JSON beside each ONNX file, and whether the file is the one its card describes.

A card carries everything the tool must know about a model; the code hard-codes none of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wbctool import former_names
from wbctool.enums import Precision
from wbctool.errors import ModelMismatch, ModelNotFound, WbctoolError
from wbctool.labels import CellClass
from wbctool.types.cells import ObjectClass
from wbctool.types.slides import CieLab

_T = TypeVar("_T")


class QuantizationInfo(BaseModel):
    """Whose int8 or fp16 copy a model is, and what that changes: `wbctool models optimize` measured it.

    source_sha256: of the fp32 model's file. calibrated_on, measured_on: the cells in words; no cell is in both, and
    fp16 needs none to calibrate. images: what the cells were shown as, with their turned copies. changed_labels,
    count_changed_outcomes: pictures whose most probable class, or whose way (counted, review, not WBC), is another one.
    accuracy_*: per picture; None where the cells say nothing of it. min_psnr_db: against the fp32 generator's picture.
    fp32_layers: layers that stay fp32.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    calibrated_on: str
    measured_on: str
    cells: int = Field(ge=1)
    images: int = Field(ge=1)
    changed_labels: int = Field(ge=0)
    changed_outcomes: int = Field(ge=0)
    accuracy_fp32: float | None = None
    accuracy_quantized: float | None = None
    psnr_db: float | None = None
    fp32_layers: tuple[str, ...] = ()


def _unique(names: tuple[_T, ...]) -> tuple[_T, ...]:
    if len(set(names)) < len(names):
        raise ValueError("duplicate name")
    return names


class Card(BaseModel):
    """What every card says. file: the ONNX file's name beside the card; sha256: of its bytes.

    quantized_from: what an int8 or fp16 copy is a copy of; None in every other card.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: str
    schema_version: Literal[2] = 2
    name: str
    version: str
    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    precision: Precision = Precision.FP32
    input: Literal["uint8 NHWC RGB"] = "uint8 NHWC RGB"
    parameters: int
    tool_version: str
    recipe: str
    training: dict[str, Any]
    metrics: dict[str, Any] = Field(default_factory=dict)
    quantized_from: QuantizationInfo | None = None
    license: str = "MIT"
    intended_use: str = "Research use only. Not for diagnosis without a qualified reader."


class ColorRange(BaseModel):
    """Colours of one origin's training fields in CIELAB: the central 98 % of their medians, channel by channel."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dataset: str
    fields: int = Field(ge=1)
    background_low: CieLab
    background_high: CieLab
    cells_low: CieLab
    cells_high: CieLab


class DetectorCard(Card):
    """A field is scaled so that its longer side measures ``input_long_side_px``, and padded to a multiple of ``size_divisor``.

    Where red cells then measure less than ``min_red_cell_px``, it is looked at again, scaled so that they measure
    ``target_red_cell_px``. Where they measure more even with the longer side at ``preview_px``, that is enough; 0: no such
    glance. A nucleated cell counts from ``score_threshold``, and from ``low_score_threshold`` where a nucleus lies under it
    that was found without learning; None: never. classes: the channels of the heat map, in order. stain_reference: of the
    training fields, by origin, as `wbctool models colours` measured them; empty where it has not.
    """

    kind: Literal["detector"] = "detector"
    classes: Annotated[tuple[ObjectClass, ...], AfterValidator(_unique)]
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
    """Inputs are squares of ``min_px`` to ``max_px`` a side; outputs are ``scale`` times that, uint8 NHWC RGB."""

    kind: Literal["generator"] = "generator"
    scale: int = Field(gt=0)
    min_px: int = Field(gt=0)
    max_px: int = Field(gt=0)


class ClassifierCard(Card):
    """classes: the order of the logits. crop_margin: the crop's side over the box's longer side.

    temperature: divides the logits. confidence_threshold: below it a cell goes to review. energy_threshold: above it a
    cell is out of distribution; None where the model has no such gate.
    """

    kind: Literal["classifier"] = "classifier"
    classes: Annotated[tuple[CellClass, ...], AfterValidator(_unique)]
    input_px: int = Field(gt=0)
    crop_margin: float = Field(gt=0)
    temperature: float = Field(gt=0)
    confidence_threshold: float = Field(ge=0, le=1)
    energy_threshold: float | None = None


ModelCard = DetectorCard | GeneratorCard | ClassifierCard
_QUANTIZED_FIELDS = {
    "name",
    "file",
    "sha256",
    "precision",
    "quantized_from",
}  # all else of its card is the fp32 model's
_CARD_ADAPTER: TypeAdapter[ModelCard] = TypeAdapter(Annotated[ModelCard, Field(discriminator="kind")])
_KINDS = ("detector", "generator", "classifier")
CardT = TypeVar("CardT", bound=Card)


def default_models_dir() -> Path:
    """The models inside the installed package, or ``exported/`` of a source checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "exported"
    return packaged if packaged.is_dir() else package.parent / "exported"


def read_card(path: Path) -> ModelCard:
    """Raises ModelNotFound where the card is missing, ModelMismatch where it is not a card."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if renamed := _describe_renames(content):
            raise ModelMismatch(f"{path} is a model card from before wbctool 0.2: {renamed}")
        return _CARD_ADAPTER.validate_python(content)
    except FileNotFoundError as error:
        raise ModelNotFound(f"the model card {path} is missing") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        raise ModelMismatch(f"{path} is not a model card: {_first_error(error)}") from error


def _describe_renames(content: object) -> str:
    """How the former names in a card are called now; empty if it has none."""
    if not isinstance(content, dict):
        return ""
    return former_names.describe_renames(content, _former_names(str(content.get("kind"))))


def _former_names(kind: str) -> Mapping[str, str]:
    return former_names.DETECTOR_CARD if kind == "detector" else former_names.CARD


def fingerprint_entry(card: Card) -> dict[str, Any]:
    """What a slide's fingerprint takes of a card: all but what a quantized copy's measurements say.

    Under the names of card schema 1, so that the renames of schema 2 process no slide again.
    """
    content = card.model_dump(mode="json", exclude={"quantized_from"})
    entry: dict[str, Any] = former_names.restore_former_names(content, _former_names(card.kind))
    return {**entry, "schema_version": 1}


def _first_error(error: Exception) -> str:
    """An error in one line; of many entries that are wrong in a card, the first."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first["loc"] else str(first["msg"])


def read_model_bytes(card: Card, folder: Path) -> bytes:
    """The ONNX file of a card, if it is the one the card names; raises ModelNotFound or ModelMismatch."""
    path = folder / card.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelNotFound(f"the model {path} is missing or unreadable ({error.strerror})") from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != card.sha256:
        raise ModelMismatch(
            f"{path} is not the model its card describes: SHA-256 {actual}, but the card says {card.sha256}"
        )
    return content


def check_models(folder: Path) -> list[tuple[Path, str | None]]:
    """Each card of a folder and what is wrong with it or its model; None where nothing is.

    The cards of the three models that a run needs are named too where they are missing. Raises ModelNotFound where
    there is no card at all.
    """
    report: list[tuple[Path, str | None]] = []
    for path, card in list_cards(folder):
        problem: str | None
        try:
            if isinstance(card, WbctoolError):
                raise card
            _check_kind(card, path)
            read_model_bytes(card, folder)
            problem = (
                None if card.precision is Precision.FP32 else staleness_reason(card, load_fp32_card(folder, type(card)))
            )
        except ModelNotFound as error:
            problem = str(error) if path.is_file() else "the model card is missing"
        except ModelMismatch as error:
            problem = str(error)
        report.append((path, problem))
    return report


def _check_kind(card: Card, path: Path) -> None:
    """Raises ModelMismatch where a card's file is named after another kind."""
    expected_kind = path.name.partition(".")[0]
    if expected_kind in _KINDS and card.kind != expected_kind:
        raise ModelMismatch(f"{path} describes a {card.kind}, not a {expected_kind}")


def list_cards(folder: Path) -> list[tuple[Path, ModelCard | ModelNotFound | ModelMismatch]]:
    """Each card of a folder, or why it cannot be read, and those that a run needs too where they are missing.

    No model is looked at. Raises ModelNotFound where there is no card at all.
    """
    paths = card_paths(folder)
    if not paths:
        raise ModelNotFound(f"no model card in {folder}")
    required = [folder / f"{name}.json" for name in _KINDS]
    cards: list[tuple[Path, ModelCard | ModelNotFound | ModelMismatch]] = []
    for path in (*paths, *(path for path in required if path not in paths)):
        try:
            cards.append((path, read_card(path)))
        except (ModelNotFound, ModelMismatch) as error:
            cards.append((path, error))
    return cards


def card_paths(folder: Path) -> tuple[Path, ...]:
    """The cards of a folder, in order of their names; one that is damaged is a card still, for its reader to refuse.

    Left out is other JSON, such as an evaluation that was written beside the models: whole, without a ``kind``, and not
    named as a card that a run looks for.
    """
    return tuple(path for path in sorted(folder.glob("*.json")) if _is_card_file(path))


def _is_card_file(path: Path) -> bool:
    if path.name.partition(".")[0] in _KINDS:
        return True
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return path.is_file()
    return isinstance(content, dict) and "kind" in content


def load_fp32_card(folder: Path, kind: type[CardT]) -> CardT:
    """The card of a kind that is named after it, as training writes it; raises as :func:`read_card`."""
    return read_card_of_kind(folder / f"{kind_name(kind)}.json", kind)


def quantized_card_path(folder: Path, kind: type[Card], precision: Precision) -> Path:
    """Where the card of a kind's copy of that precision lies."""
    return folder / f"{kind_name(kind)}.{precision}.json"


def staleness_reason(quantized: Card, source: Card) -> str | None:
    """Why ``quantized`` is no copy of ``source``, the fp32 model beside it, in another precision; None if it is one."""
    if quantized.precision is Precision.FP32 or quantized.quantized_from is None:
        return f"{quantized.file} does not name the model it is a copy of"
    if quantized.quantized_from.source_sha256 != source.sha256:
        return (
            f"{quantized.file} is not a copy of {source.file} but of a model with SHA-256 {quantized.quantized_from.source_sha256}, "
            f"not {source.sha256}; make a new one with `wbctool models optimize`"
        )
    source_fields, quantized_fields = (card.model_dump(exclude=_QUANTIZED_FIELDS) for card in (source, quantized))
    if changed := [name for name in source_fields if source_fields[name] != quantized_fields.get(name)]:
        return (
            f"the card of {quantized.file} differs from that of {source.file} in {changed[0]}; make a new copy with "
            "`wbctool models optimize`"
        )
    return None


def read_card_of_kind(path: Path, kind: type[CardT]) -> CardT:
    """As :func:`read_card`; raises ModelMismatch too where the card is of another kind."""
    card = read_card(path)
    if not isinstance(card, kind):
        raise ModelMismatch(f"{path} describes a {card.kind}, not a {kind_name(kind)}")
    return card


def kind_name(kind: type[Card]) -> str:
    """detector, generator or classifier."""
    return str(kind.model_fields["kind"].default)


def encode_card(card: ModelCard) -> bytes:
    """Return a card as its JSON file has it."""
    return (card.model_dump_json(indent=2) + "\n").encode()
