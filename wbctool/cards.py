"""Model cards: the JSON beside each ONNX file, and whether the file is the one its card describes.

A card carries everything the tool must know about a model; the code hard-codes none of it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wbctool.choices import Precision
from wbctool.errors import ModelMismatch, ModelNotFound, WbctoolError
from wbctool.labels import CellClass
from wbctool.records import Target
from wbctool.slide_facts import Lab

Name = TypeVar("Name")


class CopyFacts(BaseModel):
    """Whose int8 or fp16 copy a model is, and what that changes: `wbctool models optimize` measured it.

    parent_sha256: of the fp32 model's file. calibrated_on, measured_on: the cells in words; no cell is in both, and
    fp16 needs none to calibrate. pictures: what the cells were shown as, with their turned copies. changed_labels,
    changed_outcomes: pictures whose most probable class, or whose way (counted, review, not WBC), is another one.
    accuracy_*: per picture; None where the cells say nothing of it. psnr_db: against the fp32 generator's picture.
    kept_fp32: layers that stay fp32.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    parent_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    calibrated_on: str
    measured_on: str
    cells: int = Field(ge=1)
    pictures: int = Field(ge=1)
    changed_labels: int = Field(ge=0)
    changed_outcomes: int = Field(ge=0)
    accuracy_fp32: float | None = None
    accuracy_copy: float | None = None
    psnr_db: float | None = None
    kept_fp32: tuple[str, ...] = ()


def _each_once(names: tuple[Name, ...]) -> tuple[Name, ...]:
    if len(set(names)) < len(names):
        raise ValueError("duplicate name")
    return names


class Card(BaseModel):
    """What every card says. file: the ONNX file's name beside the card; sha256: of its bytes.

    copy_of: what an int8 or fp16 copy is a copy of; None in every other card.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
    copy_of: CopyFacts | None = None
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
    ``red_cell_px``. Where they measure more even with the longer side at ``glance_px``, that is enough; 0: no such
    glance. A nucleated cell counts from ``score_threshold``, and from ``faint_threshold`` where a nucleus lies under it
    that was found without learning; None: never. targets: the channels of the heat map, in order. colours: of the
    training fields, by origin, as `wbctool models colours` measured them; empty where it has not.
    """

    kind: Literal["detector"] = "detector"
    targets: Annotated[tuple[Target, ...], AfterValidator(_each_once)]
    stride: int = Field(gt=0)
    long_side_px: int = Field(gt=0)
    multiple_px: int = Field(gt=0)
    red_cell_px: float = Field(gt=0)
    red_cell_min_px: float = Field(ge=0)
    glance_px: int = Field(default=0, ge=0)
    score_threshold: float = Field(ge=0, le=1)
    faint_threshold: float | None = Field(default=None, ge=0, le=1)
    max_overlap: float = Field(ge=0, le=1)
    colours: tuple[ColourRange, ...] = ()


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
    classes: Annotated[tuple[CellClass, ...], AfterValidator(_each_once)]
    input_px: int = Field(gt=0)
    crop_margin: float = Field(gt=0)
    temperature: float = Field(gt=0)
    confidence_threshold: float = Field(ge=0, le=1)
    energy_threshold: float | None = None


ModelCard = DetectorCard | GeneratorCard | ClassifierCard
_A_COPYS_OWN = {"name", "file", "sha256", "precision", "copy_of"}  # all else of its card is the fp32 model's
_ANY_CARD: TypeAdapter[ModelCard] = TypeAdapter(Annotated[ModelCard, Field(discriminator="kind")])
_KINDS = ("detector", "generator", "classifier")
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
            f"{path} is not the model its card describes: SHA-256 {actual}, but the card says {card.sha256}"
        )
    return content


def verify_models(folder: Path) -> list[tuple[Path, str | None]]:
    """Each card of a folder and what is wrong with it or its model; None where nothing is.

    The cards of the three models that a run needs are named too where they are missing. Raises ModelNotFound where
    there is no card at all.
    """
    report: list[tuple[Path, str | None]] = []
    for path, card in listed_cards(folder):
        problem: str | None
        try:
            if isinstance(card, WbctoolError):
                raise card
            _check_kind(card, path)
            read_model_bytes(card, folder)
            problem = None if card.precision is Precision.FP32 else stale_copy(card, plain_card(folder, type(card)))
        except ModelNotFound as error:
            problem = str(error) if path.is_file() else "the model card is missing"
        except ModelMismatch as error:
            problem = str(error)
        report.append((path, problem))
    return report


def _check_kind(card: Card, path: Path) -> None:
    """Raises ModelMismatch where a card's file is named after another kind."""
    named = path.name.partition(".")[0]
    if named in _KINDS and card.kind != named:
        raise ModelMismatch(f"{path} describes a {card.kind}, not a {named}")


def listed_cards(folder: Path) -> list[tuple[Path, ModelCard | ModelNotFound | ModelMismatch]]:
    """Each card of a folder, or why it cannot be read, and those that a run needs too where they are missing.

    No model is looked at. Raises ModelNotFound where there is no card at all.
    """
    paths = card_paths(folder)
    if not paths:
        raise ModelNotFound(f"no model card in {folder}")
    needed = [folder / f"{name}.json" for name in _KINDS]
    listed: list[tuple[Path, ModelCard | ModelNotFound | ModelMismatch]] = []
    for path in (*paths, *(path for path in needed if path not in paths)):
        try:
            listed.append((path, read_card(path)))
        except (ModelNotFound, ModelMismatch) as error:
            listed.append((path, error))
    return listed


def card_paths(folder: Path) -> tuple[Path, ...]:
    """The cards of a folder, in order of their names; one that is damaged is a card still, for its reader to refuse.

    Left out is other JSON, such as an evaluation that was written beside the models: whole, without a ``kind``, and not
    named as a card that a run looks for.
    """
    return tuple(path for path in sorted(folder.glob("*.json")) if _is_card(path))


def _is_card(path: Path) -> bool:
    if path.name.partition(".")[0] in _KINDS:
        return True
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return path.is_file()
    return isinstance(content, dict) and "kind" in content


def plain_card(folder: Path, kind: type[CardT]) -> CardT:
    """The card of a kind that is named after it, as training writes it; raises as :func:`read_card`."""
    return card_of_kind(folder / f"{kind_name(kind)}.json", kind)


def copy_path(folder: Path, kind: type[Card], precision: Precision) -> Path:
    """Where the card of a kind's copy of that precision lies."""
    return folder / f"{kind_name(kind)}.{precision}.json"


def stale_copy(copy: Card, parent: Card) -> str | None:
    """Why ``copy`` is no copy of ``parent``, the fp32 model beside it, in another precision; None if it is one."""
    if copy.precision is Precision.FP32 or copy.copy_of is None:
        return f"{copy.file} does not name the model it is a copy of"
    if copy.copy_of.parent_sha256 != parent.sha256:
        return (
            f"{copy.file} is not a copy of {parent.file} but of a model with SHA-256 {copy.copy_of.parent_sha256}, "
            f"not {parent.sha256}; make a new one with `wbctool models optimize`"
        )
    theirs, ours = (card.model_dump(exclude=_A_COPYS_OWN) for card in (parent, copy))
    if other := [name for name in theirs if theirs[name] != ours.get(name)]:
        return (
            f"the card of {copy.file} differs from that of {parent.file} in {other[0]}; make a new copy with "
            "`wbctool models optimize`"
        )
    return None


def card_of_kind(path: Path, kind: type[CardT]) -> CardT:
    """As :func:`read_card`; raises ModelMismatch too where the card is of another kind."""
    card = read_card(path)
    if not isinstance(card, kind):
        raise ModelMismatch(f"{path} describes a {card.kind}, not a {kind_name(kind)}")
    return card


def kind_name(kind: type[Card]) -> str:
    """detector, generator or classifier."""
    return str(kind.model_fields["kind"].default)
