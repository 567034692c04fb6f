"""The labeled cells that a laboratory teaches."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from wbctool.adaptation.cells import describe_left_out_fields


def write_fields(root: Path, labels: dict[str, str]) -> Path:
    """Write fields with two boxes each of nucleated cells."""
    (root / "images").mkdir(parents=True)
    for name in labels:
        Image.new("RGB", (60, 40)).save(root / "images" / name)
    rows = [f"{name},wbc,{x},2,{x + 9},22" for name in labels for x in (0, 20)]
    (root / "boxes.csv").write_text("\n".join(["image,kind,xmin,ymin,xmax,ymax", *rows]))
    rows = [f'{name},"{text}"' for name, text in labels.items() if text]
    (root / "labels.csv").write_text("\n".join(["image,wbc_labels", *rows]))
    return root


def test_describe_left_out_fields_names_those_whose_labels_belong_to_no_box(tmp_path: Path) -> None:
    labels = {"a.png": "basophil,basophil", "b.png": "basophil,monocyte", "c.png": "basophil", "d.png": ""}
    write_fields(tmp_path / "set", labels)
    (note,) = describe_left_out_fields(tmp_path)
    assert note.startswith("3 fields with 6 cells left out")
    assert note.endswith(": set/images/b.png, set/images/c.png, set/images/d.png")


def test_describe_left_out_fields_without_such_fields_is_empty(tmp_path: Path) -> None:
    write_fields(tmp_path / "set", {"a.png": "basophil,basophil", "b.png": "myeloblast,myeloblast"})
    assert describe_left_out_fields(tmp_path) == []
