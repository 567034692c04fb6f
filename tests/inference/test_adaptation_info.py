"""What the card of an adapted classifier says of its adaptation."""

from __future__ import annotations

import json
from pathlib import Path

from wbctool.inference.adaptation_info import AdaptationInfo, AdaptationMethod
from wbctool.inference.model_card import (
    ClassifierCard,
    default_models_dir,
    fingerprint_entry,
    load_fp32_card,
    read_card,
)
from wbctool.inference.model_folder import encode_card

FORMER = {
    "laboratory": "lab",
    "way": "deep",
    "parent_sha256": "a" * 64,
    "readers": ["AB"],
    "cells_by_label": {"monocyte": 30},
    "groups": 3,
    "cell_sha256": ["b" * 64],
    **{f"{name}_{when}": 0.5 for name in ("accuracy", "silent_errors", "coverage") for when in ("before", "after")},
}


def test_card_of_an_earlier_version_is_read_and_leaves_results_up_to_date(tmp_path: Path) -> None:
    shipped = load_fp32_card(default_models_dir(), ClassifierCard)
    content = json.loads(encode_card(shipped)) | {"adaptation": FORMER}
    (tmp_path / "classifier.json").write_text(json.dumps(content))
    card = read_card(tmp_path / "classifier.json")
    assert isinstance(card, ClassifierCard)
    assert card.adaptation is not None
    assert (card.adaptation.method, card.adaptation.cells_by_group) == (AdaptationMethod.DEEP, {})
    in_fingerprints = {key: value for key, value in FORMER.items() if key not in {"way", "groups"}} | {"sources": 3}
    assert fingerprint_entry(card)["adaptation"] == in_fingerprints
    rewritten = json.loads(encode_card(card))["adaptation"]
    assert rewritten["method"] == "deep"
    assert "way" not in rewritten
    named = card.adaptation.model_copy(update={"cells_by_group": {"s1": 30}, "method": AdaptationMethod.DEFAULT})
    assert fingerprint_entry(card.model_copy(update={"adaptation": named})) == fingerprint_entry(card)
    assert AdaptationInfo.model_validate(rewritten) == card.adaptation
