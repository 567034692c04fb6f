"""Datasets of one laboratory, and those that no model was trained on."""

from pathlib import Path

import pytest

from wbctool.datasets.labelled import LabelledImage
from wbctool.datasets.laboratories import find_laboratories, find_unseen_datasets
from wbctool.inference.training_info import TrainingInfo
from wbctool.labels import CellClass

TRAINING = TrainingInfo(datasets={"pbc": 3, "bccd_fields": 2}, calibrated_on={"bccd_kaggle": 1})


def cells(dataset: str, group: str, copies: int = 1, name: str = "x.png") -> list[LabelledImage]:
    return [LabelledImage(Path(name), CellClass.MONOCYTE, group, dataset)] * copies


def test_find_laboratories_joins_datasets_with_shared_groups() -> None:
    assert find_laboratories([*cells("z", "1"), *cells("a", "2"), *cells("m", "3")]) == {"z": "z", "a": "a", "m": "m"}
    chain = [*cells("fields", "1"), *cells("copies", "1"), *cells("copies", "2"), *cells("reduced", "2")]
    assert find_laboratories([*chain, *cells("other", "9")]) == {
        "fields": "copies",
        "copies": "copies",
        "reduced": "copies",
        "other": "other",
    }


def test_find_unseen_datasets_are_those_that_no_card_names() -> None:
    items = [*cells("pbc", "1"), *cells("bccd_kaggle", "2"), *cells("lmu", "3"), *cells("raabin", "4")]
    assert find_unseen_datasets(items, [TRAINING]) == {"lmu", "raabin"}
    assert find_unseen_datasets(items, [TRAINING, TrainingInfo(datasets={"raabin": 1})]) == {"lmu"}


def test_find_unseen_datasets_copies_of_training_images_are_seen() -> None:
    copied = [*cells("pbc", "1"), *cells("copies", "1"), *cells("copies", "2"), *cells("reduced", "2")]
    assert find_unseen_datasets(copied, [TRAINING]) == set()


@pytest.mark.parametrize(
    ("name", "unseen"),
    [
        ("BNE_100878.jpg", False),
        ("BloodImage_00036.jpg", False),
        ("_0_1169.jpeg", False),
        ("018239dc-02bb-5c9c-be33-0737ee53d592.jpg", False),
        ("BAS_0001_0_8415_102.jpg", True),  # Munich's, which these models were not trained on
        ("cell-1.jpg", True),
    ],
)
def test_find_unseen_datasets_file_name_tells_a_public_one_in_another_folder(name: str, unseen: bool) -> None:
    items = [*cells("ours", "7", name="a.png"), *cells("ours", "8", name=name)]
    assert find_unseen_datasets(items, [TRAINING]) == ({"ours"} if unseen else set())


def test_find_unseen_datasets_without_record_of_training_is_empty() -> None:
    assert find_unseen_datasets(cells("lmu", "3"), [TRAINING, TrainingInfo()]) == set()
