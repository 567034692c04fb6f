"""Groups, and splits by group."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from wbctool.datasets.labelled import FOLDS, GroupSplit, Split, infer_group
from wbctool.inference.training_info import SplitInfo, TrainingInfo


def _image(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_infer_group_is_by_content_not_by_name(tmp_path: Path) -> None:
    one, copy, other = (_image(tmp_path / n, c) for n, c in (("a.jpg", b"1"), ("b.jpg", b"1"), ("c.jpg", b"2")))
    assert infer_group(one) == infer_group(copy) != infer_group(other)


def test_infer_group_of_bccd_field_is_that_of_its_kaggle_copies() -> None:
    assert infer_group(Path("BloodImage_00036.jpg")) == "36"


SHIPPED = GroupSplit()


def split_of(source: str, splitting: GroupSplit = SHIPPED, origin: str = "bccd") -> Split:
    return splitting.assign(SimpleNamespace(group=source, dataset=origin))


def test_group_split_folds_test_every_group_once() -> None:
    for number in range(300):
        splits = [split_of(str(number), GroupSplit(fold)) for fold in range(FOLDS)]
        assert splits.count(Split.TEST) == 1
        assert Split.TRAIN in splits


def test_group_split_fields_that_show_one_cell_are_in_one_split() -> None:
    for fold in range(FOLDS):
        assert split_of("37", GroupSplit(fold)) is split_of("38", GroupSplit(fold))
        assert split_of("382", GroupSplit(fold)) is split_of("395", GroupSplit(fold))
    assert split_of("37") is split_of("260") is split_of("382") is Split.TRAIN  # as the models that ship saw the cells


def test_group_split_held_out_dataset_is_all_test() -> None:
    splitting = GroupSplit(held_out_datasets=("pbc",))
    assert {split_of(str(n), splitting, "pbc") for n in range(50)} == {Split.TEST}
    assert {split_of(str(n), splitting, "bccd") for n in range(50)} == set(Split)


def test_group_split_has_leakage_of_other_fold_or_dataset() -> None:
    training = TrainingInfo(datasets={"pbc": 3})
    assert not GroupSplit().has_leakage(training)
    assert GroupSplit(fold=1).has_leakage(training)
    assert GroupSplit(held_out_datasets=("pbc",)).has_leakage(training)
    assert not GroupSplit(held_out_datasets=("elsewhere",)).has_leakage(training)
    assert GroupSplit(held_out_datasets=("elsewhere",)).has_leakage(TrainingInfo())  # it does not say what it saw
    assert not GroupSplit().has_leakage(TrainingInfo())


def test_group_split_from_card_reads_fold_and_datasets() -> None:
    assert GroupSplit.from_card(TrainingInfo()) == GroupSplit()
    training = TrainingInfo(group_split=SplitInfo(fold=2, held_out_datasets=("pbc",)))
    assert GroupSplit.from_card(training) == GroupSplit(2, ("pbc",))


def test_group_split_depends_on_group_alone_and_is_near_70_10_20() -> None:
    splits = Counter(split_of(str(number)) for number in range(5000))
    assert splits[Split.TRAIN] / 5000 == pytest.approx(0.7, abs=0.03)
    assert splits[Split.VALIDATION] / 5000 == pytest.approx(0.1, abs=0.03)
    assert splits[Split.TEST] / 5000 == pytest.approx(0.2, abs=0.03)
    assert split_of("36") is split_of("36")


def test_group_split_test_groups_are_those_of_the_shipped_models() -> None:
    """A changed salt would quietly turn training images into test images of the shipped models."""
    assert [n for n in range(40) if split_of(str(n)) is Split.TEST] == [1, 4, 9, 11, 20, 22, 25, 28, 31, 39]
