"""A folder of models: the cards in it, the models beside them, and whether these fit each other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from wbctool.enums import Precision, Readers
from wbctool.errors import ModelMismatch, ModelNotFound, OutputNotWritable, WbctoolError
from wbctool.inference.model_card import (
    KINDS,
    Card,
    ClassifierCard,
    CompactCard,
    ModelCard,
    kind_name,
    load_fp32_card,
    quantized_card_path,
    quantized_file,
    read_card,
)

_QUANTIZED_FIELDS = {"name", "file", "sha256", "precision", "quantized_from"}  # the others equal the fp32 card's


def card_paths(folder: Path) -> tuple[Path, ...]:
    """List the cards of a folder, in order of their names.

    Damaged cards are in the list, so that whoever reads them gets the error. Other JSON files are not: those that are
    valid, have no ``kind`` and no name that a run looks for, such as an evaluation that was written beside the models.

    Args:
        folder: The folder of models.

    Returns:
        The paths of the cards.
    """
    return tuple(path for path in sorted(folder.glob("*.json")) if _is_card_file(path))


def _is_card_file(path: Path) -> bool:
    """Return whether a JSON file is a card, perhaps a damaged one."""
    if path.name.partition(".")[0] in KINDS:
        return True
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return path.is_file()
    return isinstance(content, dict) and "kind" in content


def list_cards(folder: Path) -> list[tuple[Path, ModelCard | ModelNotFound | ModelMismatch]]:
    """Read the cards of a folder, without their models.

    Args:
        folder: The folder of models.

    Returns:
        Each path with its card, or with the error why it cannot be read. The cards that a run needs are listed even if
        they are missing.

    Raises:
        ModelNotFound: The folder has no card.
    """
    paths = card_paths(folder)
    if not paths:
        raise ModelNotFound(f"no model card in {folder}")
    required = [folder / f"{name}.json" for name in KINDS]
    cards: list[tuple[Path, ModelCard | ModelNotFound | ModelMismatch]] = []
    for path in (*paths, *(path for path in required if path not in paths)):
        try:
            cards.append((path, read_card(path)))
        except (ModelNotFound, ModelMismatch) as error:
            cards.append((path, error))
    return cards


def check_models(folder: Path) -> list[tuple[Path, str | None]]:
    """Check each card of a folder and its model.

    Args:
        folder: The folder of models.

    Returns:
        Each card's path with what is wrong with the card or its model; None if nothing is.

    Raises:
        ModelNotFound: The folder has no card.
    """
    report: list[tuple[Path, str | None]] = []
    for path, card in list_cards(folder):
        problem: str | None
        try:
            if isinstance(card, WbctoolError):
                raise card
            _check_kind(card, path)
            read_model_bytes(card, folder)
            is_fp32 = card.precision is Precision.FP32
            problem = None if is_fp32 else staleness_reason(card, load_fp32_card(folder, type(card)))
        except ModelNotFound as error:
            problem = str(error) if path.is_file() else "the model card is missing"
        except ModelMismatch as error:
            problem = str(error)
        report.append((path, problem))
    return report


def _check_kind(card: Card, path: Path) -> None:
    """Raise ModelMismatch if a card's file is named after another kind."""
    expected_kind = path.name.partition(".")[0]
    if expected_kind in KINDS and card.kind != expected_kind:
        raise ModelMismatch(f"{path} describes a {card.kind}, not a {expected_kind}")


def staleness_reason(quantized: Card, source: Card) -> str | None:
    """Say why a card is not that of an int8 or fp16 copy of a model.

    Args:
        quantized: The card of the copy.
        source: The card of the fp32 model beside it.

    Returns:
        The reason; None if the copy is up to date.
    """
    if quantized.precision is Precision.FP32 or quantized.quantized_from is None:
        return f"{quantized.file} does not name the model it is a copy of"
    source_sha256 = quantized.quantized_from.source_sha256
    if source_sha256 != source.sha256:
        return (
            f"{quantized.file} is not a copy of {source.file} but of a model with SHA-256 {source_sha256}, "
            f"not {source.sha256}; make a new one with `wbctool models optimize`"
        )
    source_fields, quantized_fields = (card.model_dump(exclude=_QUANTIZED_FIELDS) for card in (source, quantized))
    if changed := [name for name in source_fields if source_fields[name] != quantized_fields.get(name)]:
        return (
            f"the card of {quantized.file} differs from that of {source.file} in {changed[0]}; make a new copy with "
            "`wbctool models optimize`"
        )
    return None


def read_model_bytes(card: Card, folder: Path) -> bytes:
    """Read the ONNX file of a card and check its hash.

    Args:
        card: The card.
        folder: The folder of the ONNX file.

    Returns:
        The content of the ONNX file.

    Raises:
        ModelNotFound: The file is missing or unreadable.
        ModelMismatch: The file is not the one that the card describes.
    """
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


def encode_card(card: Card) -> bytes:
    """Return the content of a card's JSON file."""
    return (card.model_dump_json(indent=2) + "\n").encode()


def delete_copy(card: Card, precision: Precision, folder: Path) -> None:
    """Delete an older copy, its card first: a run must not use one that changes too much or is no faster.

    Args:
        card: The card of the fp32 model.
        precision: int8 or fp16.
        folder: The folder of the copy.

    Raises:
        OutputNotWritable: A file cannot be deleted.
    """
    for path in (quantized_card_path(folder, type(card), precision), folder / quantized_file(card, precision)):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputNotWritable(f"{path} cannot be replaced: {error.strerror or error}") from error


def find_readers(folder: Path) -> Readers:
    """Return which readers a folder has; both if it has neither, so that loading them names what is missing."""
    has_first, has_second = ((folder / f"{kind_name(kind)}.json").is_file() for kind in (ClassifierCard, CompactCard))
    if has_first == has_second:
        return Readers.BOTH
    return Readers.VGG19 if has_first else Readers.COMPACT
