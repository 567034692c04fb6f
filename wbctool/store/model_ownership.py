"""Whether trained models may be written into a folder: a model is ours if a card beside it has its name and hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from wbctool.inference.model_card import KINDS
from wbctool.store.ownership import FileKind, check_overwrite


def check_models_overwrite(folder: Path, names: Iterable[str] = KINDS, option: str = "--out") -> None:
    """Refuse to write models and their cards where there are files that are not wbctool's.

    Args:
        folder: The folder.
        names: The names of the models and of the cards without their ending, such as ``classifier.int8``.
        option: The option that named the folder, for the message; empty for none.

    Raises:
        SettingsInvalid: There are such files; the message names the first one.
    """
    for name in names:
        check_overwrite(folder / f"{name}.json", _CARD_FILE, option)
        check_overwrite(folder / f"{name}.onnx", _MODEL_FILE, option)


def _is_card(path: Path) -> bool:
    """Return whether a file is a card, of any version."""
    content = json.loads(path.read_bytes())
    return content["kind"] in KINDS and {"file", "sha256"} <= content.keys()


def _is_model(path: Path) -> bool:
    """Return whether a card in the model's folder has the model's name and hash."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    for card in path.parent.glob("*.json"):
        with suppress(OSError, ValueError, LookupError, TypeError):
            content = json.loads(card.read_bytes())
            if (content["file"], content["sha256"]) == (path.name, sha256):
                return True
    return False


_CARD_FILE = FileKind("a model card", _is_card)
_MODEL_FILE = FileKind("a model whose hash a card beside it has", _is_model)
