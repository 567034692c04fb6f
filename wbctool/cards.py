"""Model cards: the JSON beside each ONNX file, and whether the file is the one its card describes.

A card carries everything the tool must know about a model; the code hard-codes none of it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wbctool.errors import ModelMismatch, ModelNotFound
from wbctool.labels import CellClass
from wbctool.records import Target
from wbctool.settings import Precision
from wbctool.slide_facts import Lab


class Card(BaseModel):
    """What every card says. file: the ONNX file's name beside the card; sha256: of its bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    schema_version: Literal[1] = 1
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
    licence: str = "MIT"
    intended_use: str = "Research use only. Not for diagnosis without a qualified reader."


class ColourRange(BaseModel):
    """Colours of one origin's training fields in CIELAB: the central 98 % of their medians, channel by channel."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    origin: str
    fields: int = Field(ge=1)
    background_low: Lab
    background_high: Lab
    cells_low: Lab
    cells_high: Lab


class DetectorCard(Card):
    """A field is scaled so that its longer side measures ``long_side_px``, and padded to a multiple of ``multiple_px``.

    Where red cells then measure less than ``red_cell_min_px``, it is looked at again, scaled so that they measure
    ``red_cell_px``. targets: the channels of the heat map, in order. colours: of the training fields, by origin, as
    `wbctool models colours` measured them; empty where it has not.
    """

    kind: Literal["detector"] = "detector"
    targets: tuple[Target, ...]
    stride: int
    long_side_px: int
    multiple_px: int
    red_cell_px: float
    red_cell_min_px: float
    score_threshold: float
    max_overlap: float
    colours: tuple[ColourRange, ...] = ()


class GeneratorCard(Card):
    """Inputs are squares of ``min_px`` to ``max_px`` a side; outputs are ``scale`` times that, uint8 NHWC RGB."""

    kind: Literal["generator"] = "generator"
    scale: int
    min_px: int
    max_px: int


class ClassifierCard(Card):
    """classes: the order of the logits. crop_margin: the crop's side over the box's longer side.

    temperature: divides the logits. confidence_threshold: below it a cell goes to review. energy_threshold: above it a
    cell is out of distribution; None where the model has no such gate.
    """

    kind: Literal["classifier"] = "classifier"
    classes: tuple[CellClass, ...]
    input_px: int
    crop_margin: float
    temperature: float = Field(gt=0)
    confidence_threshold: float = Field(ge=0, le=1)
    energy_threshold: float | None = None


ModelCard = DetectorCard | GeneratorCard | ClassifierCard
_ANY_CARD: TypeAdapter[ModelCard] = TypeAdapter(Annotated[ModelCard, Field(discriminator="kind")])
CardT = TypeVar("CardT", bound=Card)


def default_models_dir() -> Path:
    """The models inside the installed package, or ``exported/`` of a source checkout."""
    package = Path(__file__).parent
    inside = package / "exported"
    return inside if inside.is_dir() else package.parent / "exported"


def read_card(path: Path) -> ModelCard:
    """Raises ModelNotFound where the card is missing, ModelMismatch where it is not a card."""
    try:
        return _ANY_CARD.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ModelNotFound(f"the model card {path} is missing") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        raise ModelMismatch(f"{path} is not a model card: {_first_of(error)}") from error


def _first_of(error: Exception) -> str:
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
            f"{path} is not the model its card describes: SHA-256 {actual}, the card says {card.sha256}"
        )
    return content


def verify_models(folder: Path) -> list[tuple[Path, str | None]]:
    """Each card of a folder and what is wrong with it or its model; None where nothing is. Raises ModelNotFound."""
    cards = sorted(folder.glob("*.json"))
    if not cards:
        raise ModelNotFound(f"no model card in {folder}")
    report: list[tuple[Path, str | None]] = []
    for path in cards:
        try:
            read_model_bytes(read_card(path), folder)
        except (ModelNotFound, ModelMismatch) as error:
            report.append((path, str(error)))
        else:
            report.append((path, None))
    return report


def plain_card(folder: Path, kind: type[CardT]) -> CardT:
    """The card of a kind that is named after it, as training writes it; raises as :func:`read_card`."""
    return card_of_kind(folder / f"{kind_name(kind)}.json", kind)


def card_of_kind(path: Path, kind: type[CardT]) -> CardT:
    """As :func:`read_card`; raises ModelMismatch too where the card is of another kind."""
    card = read_card(path)
    if not isinstance(card, kind):
        raise ModelMismatch(f"{path} describes a {card.kind}, not a {kind_name(kind)}")
    return card


def kind_name(kind: type[Card]) -> str:
    """detector, generator or classifier."""
    return str(kind.model_fields["kind"].default)
