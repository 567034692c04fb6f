"""Labelled data: both layouts, and splits by source."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from wbctool.datasets.labelled import (
    FOLDS,
    GroupSplit,
    Split,
    find_field_folders,
    find_unrecognized_folders,
    infer_group,
    read_class_folders,
    read_fields,
)
from wbctool.errors import LabelledDataInvalid
from wbctool.labels import CellClass
from wbctool.types.cells import Box, ObjectClass


def _image(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_read_class_folders_reads_kaggle_and_pbc_together(tmp_path: Path) -> None:
    _image(tmp_path / "kaggle" / "TRAIN" / "EOSINOPHIL" / "_0_1.jpeg", b"a")
    _image(tmp_path / "pbc" / "ig" / "MMY_1.jpg", b"b")
    _image(tmp_path / "pbc" / "smudge" / "1.jpg", b"c")
    found = read_class_folders(tmp_path)
    assert [(i.label, i.dataset) for i in found] == [
        (CellClass.EOSINOPHIL, "kaggle"),
        (CellClass.IMMATURE_GRANULOCYTE, "pbc"),
    ]


def test_read_class_folders_logs_folder_that_is_no_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _image(tmp_path / "ours" / "neutrophil" / "a.jpg", b"a")
    _image(tmp_path / "ours" / "lymphocite" / "b.jpg", b"b")
    _image(tmp_path / "fields" / "images" / "c.jpg", b"c")
    assert find_unrecognized_folders(tmp_path) == (tmp_path / "ours" / "lymphocite",)
    assert len(read_class_folders(tmp_path)) == 1
    assert "lymphocite is left out: its name is not a class" in caplog.text


def test_read_class_folders_takes_groups_from_groups_csv(tmp_path: Path) -> None:
    for name in ("_0_1.jpeg", "_0_2.jpeg", "_1_3.jpeg"):
        _image(tmp_path / "TRAIN" / "MONOCYTE" / name)
    (tmp_path / "groups.csv").write_text(
        "label,image,source\nMONOCYTE,_0_1.jpeg,7\nMONOCYTE,_0_2.jpeg,7\nMONOCYTE,_1_3.jpeg,9\n"
    )
    for data in (tmp_path, tmp_path / "TRAIN"):
        assert [i.group for i in read_class_folders(data)] == ["7", "7", "9"]


def test_read_class_folders_image_missing_in_groups_csv_raises(tmp_path: Path) -> None:
    _image(tmp_path / "MONOCYTE" / "new.jpeg")
    (tmp_path / "groups.csv").write_text("label,image,source\nMONOCYTE,old.jpeg,7\n")
    with pytest.raises(LabelledDataInvalid, match=r"new\.jpeg is not in groups\.csv"):
        read_class_folders(tmp_path)


def test_infer_group_is_by_content_not_by_name(tmp_path: Path) -> None:
    one, copy, other = (_image(tmp_path / n, c) for n, c in (("a.jpg", b"1"), ("b.jpg", b"1"), ("c.jpg", b"2")))
    assert infer_group(one) == infer_group(copy) != infer_group(other)


def test_infer_group_of_bccd_field_is_that_of_its_kaggle_copies() -> None:
    assert infer_group(Path("BloodImage_00036.jpg")) == "36"


def test_read_fields_reads_boxes_labels_and_datasets(tmp_path: Path) -> None:
    _image(tmp_path / "set" / "images" / "f.jpg")
    (tmp_path / "set" / "boxes.csv").write_text(
        "image,kind,xmin,ymin,xmax,ymax\nf.jpg,wbc,1,2,11,22\nf.jpg,rbc,5,5,5,9\n"
    )
    (tmp_path / "set" / "labels.csv").write_text('image,wbc_labels\nf.jpg,"neutrophil,basophil"\n')
    (tmp_path / "set" / "sources.csv").write_text("image,source\nf.jpg,raabin\n")
    assert find_field_folders(tmp_path) == (tmp_path / "set",)
    (field,) = read_fields(tmp_path / "set")
    assert [(b.object_class, b.box) for b in field.boxes] == [
        (ObjectClass.NUCLEATED, Box(1, 2, 10, 20))
    ]  # an empty box is none
    assert field.labels == (CellClass.NEUTROPHIL, CellClass.BASOPHIL)
    assert field.dataset == "raabin"


def test_read_fields_missing_column_raises(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image,xmin\nf.jpg,1\n")
    with pytest.raises(LabelledDataInvalid, match=r"boxes\.csv, line 1, kind: missing column"):
        read_fields(tmp_path)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("f.jpg,wbc,1,2,,22", "line 2: could not convert string to float"),
        ("f.jpg,WBC,1,2,11,22", "line 2: 'WBC' is not a valid ObjectClass"),
        ("f.jpg,wbc,1,2", "line 2: missing xmax"),
        ("g.jpg,wbc,1,2,11,22", "line 2: no such image: .*g.jpg"),
    ],
)
def test_read_fields_invalid_box_is_named_by_line(tmp_path: Path, row: str, said: str) -> None:
    _image(tmp_path / "images" / "f.jpg")
    (tmp_path / "boxes.csv").write_text(f"image,kind,xmin,ymin,xmax,ymax\n{row}\n")
    with pytest.raises(LabelledDataInvalid, match=rf"boxes\.csv, {said}"):
        read_fields(tmp_path)


def test_read_class_folders_groups_csv_not_utf8_raises(tmp_path: Path) -> None:
    _image(tmp_path / "MONOCYTE" / "a.jpg")
    (tmp_path / "groups.csv").write_bytes("label,image,source\nMONOCYTE,a.jpg,Müller\n".encode("latin-1"))
    with pytest.raises(LabelledDataInvalid, match=r"groups\.csv, line 2: not UTF-8"):
        read_class_folders(tmp_path)


def test_read_fields_unreadable_table_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boxes.csv").write_text("image,kind,xmin,ymin,xmax,ymax\n")

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(LabelledDataInvalid, match=r"boxes\.csv: cannot be read: Permission denied"):
        read_fields(tmp_path)


def test_read_fields_too_long_image_name_is_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "boxes.csv").write_text(f"image,kind,xmin,ymin,xmax,ymax\n{'n' * 300},wbc,1,1,2,2\n")
    with pytest.raises(LabelledDataInvalid, match=r"boxes\.csv, line 2: no such image"):
        read_fields(tmp_path)


def test_dataset_is_named_after_its_folder_for_any_form_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `wbctool verify .` would take cells that the models were trained on for new ones."""
    _image(tmp_path / "pbc" / "neutrophil" / "a.jpg")
    _image(tmp_path / "kaggle" / "TRAIN" / "MONOCYTE" / "a.jpg")
    monkeypatch.chdir(tmp_path / "pbc")
    assert [i.dataset for i in read_class_folders(Path())] == ["pbc"]
    assert [i.dataset for i in read_class_folders(Path("neutrophil"))] == ["pbc"]
    assert [i.dataset for i in read_class_folders(Path("../kaggle/TRAIN"))] == ["kaggle"]


SHIPPED = GroupSplit()


def split_of(source: str, splitting: GroupSplit = SHIPPED, origin: str = "bccd") -> Split:
    return splitting.assign(SimpleNamespace(group=source, dataset=origin))


def test_group_split_folds_test_every_group_once() -> None:
    for number in range(300):
        splits = [split_of(str(number), GroupSplit(fold)) for fold in range(FOLDS)]
        assert splits.count(Split.TEST) == 1
        assert Split.TRAIN in splits


def test_group_split_held_out_dataset_is_all_test() -> None:
    splitting = GroupSplit(held_out_datasets=("pbc",))
    assert {split_of(str(n), splitting, "pbc") for n in range(50)} == {Split.TEST}
    assert {split_of(str(n), splitting, "bccd") for n in range(50)} == set(Split)


def test_group_split_has_leakage_of_other_fold_or_dataset() -> None:
    training = {"group_split": {"fold": 0, "held_out_datasets": []}, "datasets": {"pbc": 3}}
    assert not GroupSplit().has_leakage(training)
    assert GroupSplit(fold=1).has_leakage(training)
    assert GroupSplit(held_out_datasets=("pbc",)).has_leakage(training)
    assert not GroupSplit(held_out_datasets=("elsewhere",)).has_leakage(training)


def test_group_split_from_card_reads_fold_and_datasets() -> None:
    assert GroupSplit.from_card({}) == GroupSplit()
    assert GroupSplit.from_card({"group_split": {"fold": 2, "held_out_datasets": ["pbc"]}}) == GroupSplit(2, ("pbc",))


def test_group_split_depends_on_group_alone_and_is_near_70_10_20() -> None:
    splits = Counter(split_of(str(number)) for number in range(5000))
    assert splits[Split.TRAIN] / 5000 == pytest.approx(0.7, abs=0.03)
    assert splits[Split.VALIDATION] / 5000 == pytest.approx(0.1, abs=0.03)
    assert splits[Split.TEST] / 5000 == pytest.approx(0.2, abs=0.03)
    assert split_of("36") is split_of("36")


def test_group_split_test_groups_are_those_of_the_shipped_models() -> None:
    """A changed salt would quietly turn training images into test images of the shipped models."""
    assert [n for n in range(40) if split_of(str(n)) is Split.TEST] == [1, 4, 9, 11, 20, 22, 25, 28, 31, 37, 39]
