import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wbctool.adaptation.labels_file import LabelledCell, Labels, NoClass, Purpose, format_labels, read_labels
from wbctool.errors import RecordInvalid
from wbctool.labels import CellClass, UnknownKind
from wbctool.types.cells import Box

TIME = datetime(2026, 3, 4, 9, 30, 15, 250_000, UTC)


def labelled(cell: int, label, **changes) -> LabelledCell:
    known = LabelledCell(
        slide="ward 3/s1",
        field="f 1.jpg",
        field_sha256="a" * 64,
        cell=cell,
        box=Box(10, 0, 40, 38),
        chosen=Purpose.MEASURE,
        label=label,
        time=TIME,
        answer_shown=False,
    )
    return replace(known, **changes)


LABELS = Labels(
    reader="Dr. Żuk",
    created=TIME,
    tool_version="0.1.0",
    page="b" * 64,
    cells_asked=5,
    results={"ward 3/s1": "c" * 64},
    cells=(
        labelled(1, CellClass.IMMATURE_GRANULOCYTE),
        labelled(2, UnknownKind.BLAST, chosen=Purpose.TEACH, answer_shown=True),
        labelled(3, NoClass.NONE_OF_THESE),
        labelled(1, NoClass.CANNOT_TELL, field="f 2.jpg"),
    ),
)


@pytest.fixture
def content() -> dict:
    return json.loads(format_labels(LABELS))


def refusal(tmp_path: Path, content: object) -> RecordInvalid:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    with pytest.raises(RecordInvalid) as caught:
        read_labels(path)
    assert caught.value.path == path
    return caught.value


def test_labels_written_are_read_back_the_same(tmp_path):
    path = tmp_path / "labels.json"
    path.write_bytes(format_labels(LABELS))
    read = read_labels(path)
    assert read == LABELS
    assert [type(cell.label) for cell in read.cells] == [CellClass, UnknownKind, NoClass, NoClass]


def test_file_has_plain_words(content):
    assert content["schema"] == "wbctool-labels/1"
    assert content["cells"][0] == {
        "slide": "ward 3/s1",
        "field": "f 1.jpg",
        "field_sha256": "a" * 64,
        "cell": 1,
        "box": {"x": 10, "y": 0, "width": 40, "height": 38},
        "chosen": "random",
        "label": "immature_granulocyte",
        "time": "2026-03-04T09:30:15.250000Z",
        "answer_shown": False,
    }


def test_name_that_is_not_utf8_survives(tmp_path):
    name = "f\udcff.jpg"
    path = tmp_path / "labels.json"
    path.write_bytes(format_labels(replace(LABELS, cells=(labelled(1, CellClass.BASOPHIL, field=name),))))
    assert read_labels(path).cells[0].field == name


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("cells", 1, "label"), "neut", "cells.1.label"),
        (("cells", 1, "label"), 3, "cells.1.label"),
        (("cells", 0, "time"), "2026-03-04T09:30:15", "cells.0.time"),
        (("cells", 0, "time"), 1_700_000_000, "cells.0.time"),
        (("cells", 2, "cell"), 0, "cells.2.cell"),
        (("cells", 2, "cell"), True, "cells.2.cell"),
        (("cells", 2, "box"), {"x": 1, "y": 1, "width": 0, "height": 4}, "cells.2"),
        (("cells", 2, "box", "x"), -1, "cells.2"),
        (("cells", 2, "chosen"), "both", "cells.2.chosen"),
        (("cells", 3, "answer_shown"), "no", "cells.3.answer_shown"),
        (("cells", 0, "field_sha256"), "abc", "cells.0.field_sha256"),
        (("results", "ward 3/s1"), "abc", "results.ward 3/s1"),
        (("results",), {}, "results"),
        (("reader",), "", "reader"),
    ],
)
def test_invalid_value_is_refused_with_its_place(tmp_path, content, place, value, named):
    target = content
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    assert f": {named}: " in refusal(tmp_path, content).reason


def test_cell_named_twice_is_refused(tmp_path, content):
    content["cells"].append(content["cells"][0])
    assert "cells: " in refusal(tmp_path, content).reason


@pytest.mark.parametrize("content", [[], {"schema": "wbctool-labels/2"}, {"schema": "wbctool-review/1"}, {}])
def test_other_json_is_refused(tmp_path, content):
    refusal(tmp_path, content)


@pytest.mark.parametrize("written", [None, b"", b"\xff\xfe", b"[" * 100_000])
def test_file_that_is_missing_or_no_json_is_refused(tmp_path, written):
    path = tmp_path / "labels.json"
    if written is not None:
        path.write_bytes(written)
    with pytest.raises(RecordInvalid) as caught:
        read_labels(path)
    assert caught.value.path == path
