"""The entry ``training`` of a card."""

import pytest
from pydantic import ValidationError

from wbctool.inference.training_info import TrainingInfo

RECORD = {"datasets": {"pbc": 3}, "group_split": {"fold": 2, "later": [1]}, "white_balance": False, "new": 1}


def test_training_info_writes_what_it_read() -> None:
    """Neither defaults are added nor entries lost: a slide's fingerprint depends on them."""
    assert TrainingInfo.model_validate(RECORD).model_dump(mode="json") == RECORD
    assert TrainingInfo().model_dump(mode="json") == {}


@pytest.mark.parametrize("record", [{"datasets": ["pbc"]}, {"group_split": {"fold": -1}}, {"groups": "many"}], ids=str)
def test_training_info_refuses_what_it_cannot_be(record: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainingInfo.model_validate(record)
