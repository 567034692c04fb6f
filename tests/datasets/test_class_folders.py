"""Single-cell images in class folders, and the tables beside them."""

from pathlib import Path

import pytest

from wbctool.datasets.class_folders import describe_left_out, read_class_folders, read_single_cell_images
from wbctool.datasets.fields import find_field_folders
from wbctool.errors import LabelledDataInvalid
from wbctool.labels import CellClass, Subtype, UnknownKind


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


def test_read_class_folders_skips_folders_of_systems(tmp_path: Path) -> None:
    _image(tmp_path / "neutrophil" / "a.jpg", b"a")
    _image(tmp_path / "neutrophil" / "@eaDir" / "a.jpg" / "THUMB.jpg", b"b")
    _image(tmp_path / "#recycle" / "monocyte" / "c.jpg", b"c")
    _image(tmp_path / ".snapshot" / "hourly.0" / "neutrophil" / "d.jpg", b"d")
    _image(tmp_path / ".snapshot" / "images" / "e.jpg", b"e")
    (tmp_path / ".snapshot" / "boxes.csv").write_text("image,kind,xmin,ymin,xmax,ymax\n")
    assert find_field_folders(tmp_path) == ()
    assert [image.path.name for image in read_class_folders(tmp_path)] == ["a.jpg"]
    assert describe_left_out(tmp_path) == []


def test_read_class_folders_logs_folder_that_is_no_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _image(tmp_path / "ours" / "neutrophil" / "a.jpg", b"a")
    _image(tmp_path / "ours" / "lymphocite" / "b.jpg", b"b")
    _image(tmp_path / "fields" / "images" / "c.jpg", b"c")
    assert describe_left_out(tmp_path) == ["folder ours/lymphocite is left out: its name is not a class"]
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


@pytest.mark.parametrize("name", ["Groups.csv", "GROUPS.CSV"])
def test_read_class_folders_finds_groups_csv_in_any_case(tmp_path: Path, name: str) -> None:
    for image in ("1.jpeg", "2.jpeg"):
        _image(tmp_path / "MONOCYTE" / image)
    (tmp_path / name).write_text("label,image,source\nMONOCYTE,1.jpeg,7\nMONOCYTE,2.jpeg,7\n")
    assert [i.group for i in read_class_folders(tmp_path)] == ["7", "7"]


def test_read_class_folders_blank_source_in_groups_csv_raises(tmp_path: Path) -> None:
    _image(tmp_path / "MONOCYTE" / "1.jpeg")
    (tmp_path / "groups.csv").write_text("label,image,source\nMONOCYTE,1.jpeg, \n")
    with pytest.raises(LabelledDataInvalid, match=r"groups\.csv, line 2, source: it is empty"):
        read_class_folders(tmp_path)


def test_read_class_folders_image_missing_in_groups_csv_raises(tmp_path: Path) -> None:
    _image(tmp_path / "MONOCYTE" / "new.jpeg")
    (tmp_path / "groups.csv").write_text("label,image,source\nMONOCYTE,old.jpeg,7\n")
    with pytest.raises(LabelledDataInvalid, match=r"new\.jpeg is not in groups\.csv"):
        read_class_folders(tmp_path)


def test_read_class_folders_groups_csv_not_utf8_raises(tmp_path: Path) -> None:
    _image(tmp_path / "MONOCYTE" / "a.jpg")
    (tmp_path / "groups.csv").write_bytes("label,image,source\nMONOCYTE,a.jpg,Müller\n".encode("latin-1"))
    with pytest.raises(LabelledDataInvalid, match=r"groups\.csv, line 2: not UTF-8"):
        read_class_folders(tmp_path)


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


CELLS = "folder,image,source,label\nBAS,a.jpg,A1,basophil\nBAS,b.jpg,A1,basophil\nMOB,c.jpg,C1,blast\nPMB,d.jpg,D1,{}\n"


def write_munich(root: Path, last_label: str = "promyelocyte_bilobed") -> Path:
    """Four images of three kinds, with the table that names them."""
    for folder, name in (("BAS", "a"), ("BAS", "b"), ("MOB", "c"), ("PMB", "d")):
        _image(root / folder / f"{name}.jpg", name.encode())
    (root / "cells.csv").write_text(CELLS.format(last_label))
    return root


def test_read_single_cell_images_takes_labels_and_groups_from_cells_csv(tmp_path: Path) -> None:
    known, unknown = read_single_cell_images(write_munich(tmp_path / "lmu"))
    assert [(i.path.name, i.label, i.group, i.dataset) for i in known] == [
        ("a.jpg", CellClass.BASOPHIL, "A1", "lmu"),
        ("b.jpg", CellClass.BASOPHIL, "A1", "lmu"),
    ]
    assert [(i.kind, i.subtype, i.group, i.dataset) for i in unknown] == [
        (UnknownKind.BLAST, Subtype.MONOBLAST, "C1", "lmu"),
        (UnknownKind.BILOBED_PROMYELOCYTE, None, "D1", "lmu"),
    ]


@pytest.mark.parametrize(
    ("label", "kind"), [("Plasma cell", "plasma_cell"), ("SMUDGE", "smudge"), ("lymphocite", "lymphocite")]
)
def test_read_single_cell_images_keeps_any_kind_that_cells_csv_names(tmp_path: Path, label: str, kind: str) -> None:
    _, unknown = read_single_cell_images(write_munich(tmp_path / "lmu", label))
    assert unknown[-1].kind == kind


def test_read_single_cell_images_leaves_out_cell_without_label(tmp_path: Path) -> None:
    known, unknown = read_single_cell_images(write_munich(tmp_path / "lmu", ""))
    assert (len(known), len(unknown)) == (2, 1)


def test_read_single_cell_images_of_one_folder_find_the_table_above(tmp_path: Path) -> None:
    _, unknown = read_single_cell_images(write_munich(tmp_path / "lmu") / "MOB")
    assert [(i.group, i.dataset) for i in unknown] == [("C1", "lmu")]


def test_read_single_cell_images_image_missing_in_cells_csv_raises(tmp_path: Path) -> None:
    _image(write_munich(tmp_path / "lmu") / "BAS" / "new.jpg")
    with pytest.raises(LabelledDataInvalid, match=r"new\.jpg is not in cells\.csv"):
        read_single_cell_images(tmp_path)


def test_read_single_cell_images_cells_csv_without_a_column_raises(tmp_path: Path) -> None:
    write_munich(tmp_path / "lmu")
    (tmp_path / "lmu" / "cells.csv").write_text("folder;image;label\nBAS;a.jpg;basophil\n")
    with pytest.raises(LabelledDataInvalid, match=r"cells\.csv, line 1, source: missing column"):
        read_single_cell_images(tmp_path)


def test_read_single_cell_images_ignores_the_cells_csv_of_a_run(tmp_path: Path) -> None:
    _image(tmp_path / "ours" / "neutrophil" / "a.jpg", b"a")
    (tmp_path / "ours" / "cells.csv").write_text("slide,field,cell,label\ns,f.jpg,1,neutrophil\n")
    known, _ = read_single_cell_images(tmp_path)
    assert [i.label for i in known] == [CellClass.NEUTROPHIL]


def test_read_single_cell_images_folders_of_munich_need_no_table(tmp_path: Path) -> None:
    for number, name in enumerate(("NGB", "LYT", "MON", "EOS", "BAS", "EBO", "MMZ", "LYA", "MYO", "KSC")):
        _image(tmp_path / "AML" / name / f"{name}_0001.tiff", bytes([number]))
    known, unknown = read_single_cell_images(tmp_path)
    assert [i.label.value for i in known] == [
        *("basophil", "erythroblast", "eosinophil", "lymphocyte", "immature_granulocyte", "monocyte", "neutrophil"),
    ]
    assert [i.subtype for i in known if i.subtype] == [Subtype.METAMYELOCYTE, Subtype.BAND]
    assert [i.kind for i in unknown] == ["smudge", "atypical_lymphocyte", "blast"]


def test_read_class_folders_leaves_out_unknown_kinds_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(read_class_folders(write_munich(tmp_path / "lmu"))) == 2
    assert "2 cells of kinds that no class fits left out: bilobed_promyelocyte, blast" in caplog.text


def test_describe_left_out_does_not_name_folders_of_unknown_kinds(tmp_path: Path) -> None:
    for name in ("neutrophil", "smudge cells", "lymphocite"):
        _image(tmp_path / "ours" / name / "a.jpg", name.encode())
    assert describe_left_out(tmp_path) == ["folder ours/lymphocite is left out: its name is not a class"]


def test_describe_left_out_names_images_and_tables_that_are_not_read(tmp_path: Path) -> None:
    _image(tmp_path / "ours" / "neutrophil" / "a.jpg", b"a")
    _image(tmp_path / "ours" / "neutrophil" / "b.jxl", b"b")
    _image(tmp_path / "ours" / "monocyte" / "c.nef", b"c")
    _image(tmp_path / "ours" / "@eaDir" / "d.jxl", b"d")
    (tmp_path / ".snapshot" / "neutrophil").mkdir(parents=True)
    for name in ("ours/groups.csv.txt", "ours/cells.xlsx", "ours/notes.txt", ".snapshot/groups.csv.txt"):
        (tmp_path / name).write_text("label,image,source\n")
    assert describe_left_out(tmp_path) == [
        "not read: ours/groups.csv.txt; a table is groups.csv",
        "not read: ours/cells.xlsx; a table is cells.csv",
        "not read: 1 other image (jxl), 'ours/neutrophil/b.jxl'; export it as PNG, TIFF or JPEG",
        "not read: 1 raw camera image (nef), 'ours/monocyte/c.nef'; export it as 8-bit TIFF or JPEG",
    ]


def test_read_class_folders_subtype_is_of_the_images_class(tmp_path: Path) -> None:
    for folder, name in (("neutrophil", "BNE_1"), ("ig", "PMY_2"), ("ig", "IG_3"), ("monocyte", "MY_4")):
        _image(tmp_path / "pbc" / folder / f"{name}.jpg", name.encode())
    assert {i.path.stem: i.subtype for i in read_class_folders(tmp_path)} == {
        "BNE_1": Subtype.BAND,
        "PMY_2": Subtype.PROMYELOCYTE,
        "IG_3": None,
        "MY_4": None,
    }


@pytest.mark.parametrize(
    "row", ["neutrophil,x1.png,s1", "NEUTROPHILS,x1.png ,s1", "BNE,neutrophils\\x1.png,s1", "neutrophils,./x1.png,s1"]
)
def test_read_class_folders_finds_rows_as_other_systems_write_them(tmp_path: Path, row: str) -> None:
    (tmp_path / "neutrophils").mkdir()
    (tmp_path / "neutrophils" / "x1.png").touch()
    (tmp_path / "groups.csv").write_text(f"label,image,source\n{row}\n")
    (image,) = read_class_folders(tmp_path)
    assert image.group == "s1"


def test_read_class_folders_image_of_two_groups_raises(tmp_path: Path) -> None:
    (tmp_path / "neutrophil").mkdir()
    (tmp_path / "neutrophil" / "x.png").touch()
    (tmp_path / "groups.csv").write_text("label,image,source\nneutrophil,x.png,s1\nneutrophil,x.png,s2\n")
    with pytest.raises(LabelledDataInvalid, match=r"groups\.csv, line 3: x\.png has another value in an earlier line"):
        read_class_folders(tmp_path)


def test_read_single_cell_images_folders_that_differ_in_case_have_their_own_rows(tmp_path: Path) -> None:
    for folder in ("A", "a"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").touch()
    rows = "A,1.png,s1,neutrophil\na,1.png,s2,monocyte\n"
    (tmp_path / "cells.csv").write_text(f"folder,image,source,label\n{rows}")
    known, _ = read_single_cell_images(tmp_path)
    assert [(image.label, image.group) for image in known] == [(CellClass.NEUTROPHIL, "s1"), (CellClass.MONOCYTE, "s2")]


def test_read_class_folders_a_row_of_another_folder_is_not_taken(tmp_path: Path) -> None:
    """The rows of two patients' folders of one class tell them apart by the path."""
    (tmp_path / "neutrophil").mkdir()
    (tmp_path / "neutrophil" / "1.png").touch()
    (tmp_path / "groups.csv").write_text("label,image,source\nneutrophil,p2/1.png,p2\n")
    with pytest.raises(LabelledDataInvalid, match=r"1\.png is not in groups\.csv"):
        read_class_folders(tmp_path)
