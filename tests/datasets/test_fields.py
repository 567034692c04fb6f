"""Fields with boxes, and fields of red cells."""

from pathlib import Path

import pytest
from PIL import Image

from wbctool.datasets.fields import find_field_folders, read_cell_labels, read_fields, read_red_cell_fields
from wbctool.errors import LabelledDataInvalid
from wbctool.labels import CellClass
from wbctool.types.cells import Box, ObjectClass


def _image(path: Path, width: int = 40, height: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path, "PNG")
    return path


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
    ("row", "message"),
    [
        ("f.jpg,wbc,1,2,,22", "line 2, xmax: '' is not a number of pixels"),
        ("f.jpg,leukocyte,1,2,11,22", "line 2, kind: 'leukocyte' is none of wbc, rbc, platelets"),
        ("f.jpg,wbc,1,2", "line 2: missing xmax"),
        ("g.jpg,wbc,1,2,11,22", "line 2: no such image: .*g.jpg"),
        ("f.jpg,wbc,30,2,60,22", "line 2: the cell lies outside the image, which has 40×30 pixels"),
        ("f.jpg,wbc,-20,2,10,22", "line 2: the cell lies outside the image"),
    ],
)
def test_read_fields_invalid_box_is_named_by_line(tmp_path: Path, row: str, message: str) -> None:
    _image(tmp_path / "images" / "f.jpg")
    (tmp_path / "boxes.csv").write_text(f"image,kind,xmin,ymin,xmax,ymax\n{row}\n")
    with pytest.raises(LabelledDataInvalid, match=rf"boxes\.csv, {message}"):
        read_fields(tmp_path)


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


def write_field(root: Path, labels: str = "", boxes: int = 1) -> Path:
    """Write one field with boxes of white cells."""
    _image(root / "images" / "f.jpg")
    rows = "".join(f"f.jpg,wbc,{10 * n},2,{10 * n + 9},22\n" for n in range(boxes))
    (root / "boxes.csv").write_text(f"image,kind,xmin,ymin,xmax,ymax\n{rows}")
    if labels:
        (root / "labels.csv").write_text(f'image,wbc_labels\nf.jpg,"{labels}"\n')
    return root


@pytest.mark.parametrize(
    ("labels", "boxes", "kind"),
    [
        ("neutrophil", 1, CellClass.NEUTROPHIL),
        ("neutrophil,neutrophil", 2, CellClass.NEUTROPHIL),
        ("neutrophil", 2, None),
        ("neutrophil,basophil", 2, None),
        ("neutrophil,blast", 2, None),
        ("myeloblast", 1, "blast"),
        ("", 1, None),
    ],
)
def test_labelled_field_common_kind(tmp_path: Path, labels: str, boxes: int, kind: str | None) -> None:
    (field,) = read_fields(write_field(tmp_path, labels, boxes))
    assert field.common_kind == kind


def test_read_fields_labels_of_another_table_are_for_fields_without(tmp_path: Path) -> None:
    more = {"f.jpg": CellClass.MONOCYTE}
    assert read_fields(write_field(tmp_path / "a"), more)[0].labels == (CellClass.MONOCYTE,)
    assert read_fields(write_field(tmp_path / "b", "basophil"), more)[0].labels == (CellClass.BASOPHIL,)


def test_read_cell_labels_leaves_out_empty_ones_and_keeps_unknown_kinds(tmp_path: Path) -> None:
    (tmp_path / "read.csv").write_text("image,label\na.jpg,Monocyte\nb.jpg,\nc.jpg,blast\n")
    assert read_cell_labels(tmp_path / "read.csv") == {"a.jpg": CellClass.MONOCYTE, "c.jpg": "blast"}
    with pytest.raises(LabelledDataInvalid, match=r"none\.csv is missing"):
        read_cell_labels(tmp_path / "none.csv")


def test_read_red_cell_fields_has_centers_and_images_without(tmp_path: Path) -> None:
    for name in ("1", "2"):
        _image(tmp_path / "chula" / "images" / f"{name}.jpg", 640, 480)
    (tmp_path / "chula" / "red_cells.csv").write_text("image,x,y,type\n2.jpg,594,95,0\n2.jpg,10,11,3\n")
    first, second = read_red_cell_fields(tmp_path / "chula")
    assert (first.path.name, first.centers, first.dataset) == ("1.jpg", (), "chula")
    assert second.centers == ((594, 95), (10, 11))


@pytest.mark.parametrize("row", ["2.jpg,1,1,0", "1.jpg,x,1,0", "1.jpg,1", "1.jpg,99,1,0"])
def test_read_red_cell_fields_wrong_row_is_named_by_line(tmp_path: Path, row: str) -> None:
    _image(tmp_path / "images" / "1.jpg")
    (tmp_path / "red_cells.csv").write_text(f"image,x,y,type\n{row}\n")
    with pytest.raises(LabelledDataInvalid, match=r"red_cells\.csv, line 2[:,] "):
        read_red_cell_fields(tmp_path)


@pytest.mark.parametrize(("table", "header"), [("labels.csv", "image,wbc_labels"), ("sources.csv", "image,source")])
def test_read_fields_row_of_no_image_is_named_by_line(tmp_path: Path, table: str, header: str) -> None:
    """As of names without their ending: the labels of all fields would vanish."""
    _image(tmp_path / "images" / "f.jpg")
    (tmp_path / "boxes.csv").write_text("image,kind,xmin,ymin,xmax,ymax\nf.jpg,wbc,1,2,11,22\n")
    (tmp_path / table).write_text(f"{header}\nf,neutrophil\n")
    with pytest.raises(LabelledDataInvalid, match=rf"{table}, line 2: no such image: .*f"):
        read_fields(tmp_path)
