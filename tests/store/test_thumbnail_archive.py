"""thumbnails.zip: the images of a report as data."""

import io
import json
import zipfile
from dataclasses import replace

import fakes
import pytest
from PIL import Image

from wbctool.labels import CellClass
from wbctool.limits import Limits
from wbctool.stages.differential import count_cells
from wbctool.store.thumbnail_archive import pack_thumbnails, unpack_thumbnails
from wbctool.types.cells import Box, Cell, Detection
from wbctool.types.results import CellThumbnails, FieldThumbnail, SlideResult, SlideStatus

CAM = bytes(range(0, 256, 4))  # 8 × 8; it holds a line feed, by which a map's header ends


def make_result(thumbnails, fields=(), cams=None):
    predictions = [replace(fakes.predict("neutrophil"), cam=cam) for cam in cams or [b""] * len(thumbnails)]
    cells = tuple(Cell("f", i, Detection(Box(0, 0, 9, 9), 0.9), True, p) for i, p in enumerate(predictions, 1))
    differential = count_cells(predictions, tuple(CellClass), Limits())
    return SlideResult("s", SlideStatus.OK, 1, (), cells, tuple(thumbnails), differential, tuple(fields))


RESULT = make_result(
    [CellThumbnails(b"a", b"b"), CellThumbnails(b"c"), CellThumbnails()],
    [FieldThumbnail("f\udcff<.png", 640, 480, b"jpeg"), FieldThumbnail("g", 30, 20, b"other")],
    [CAM, b"", b""],
)


def test_unpack_gives_back_what_was_packed():
    thumbnails = unpack_thumbnails(pack_thumbnails(RESULT), len(RESULT.cells))
    assert thumbnails.cells == RESULT.thumbnails
    assert thumbnails.fields == RESULT.field_thumbnails
    assert thumbnails.cams == (CAM, b"", b"")


def test_pack_same_result_gives_same_bytes_stored_with_fixed_dates(monkeypatch):
    content = pack_thumbnails(RESULT)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert pack_thumbnails(RESULT) == content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
    assert {member.compress_type for member in members} == {zipfile.ZIP_STORED}
    assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}


def test_pack_names_members_by_what_they_show():
    with zipfile.ZipFile(io.BytesIO(pack_thumbnails(RESULT))) as archive:
        assert archive.namelist() == [
            "cells/0001-native.webp",
            "cells/0001-super-resolved.webp",
            "cells/0001-grad-cam.pgm",
            "cells/0002-native.webp",
            "fields/0001.jpg",
            "fields/0002.jpg",
            "fields.json",
        ]
        first, _ = json.loads(archive.read("fields.json"))
        assert first == {"name": "f\udcff<.png", "image": "fields/0001.jpg", "width": 640, "height": 480}
        with Image.open(io.BytesIO(archive.read("cells/0001-grad-cam.pgm"))) as image:
            assert (image.size, image.tobytes()) == ((8, 8), CAM)


def test_pack_slide_without_cells_gives_an_archive_without_images():
    thumbnails = unpack_thumbnails(pack_thumbnails(make_result([])), 0)
    assert (thumbnails.cells, thumbnails.cams, thumbnails.fields) == ((), (), ())


@pytest.mark.parametrize("content", [b"", b"no archive", pack_thumbnails(RESULT)[:-9]])
def test_unpack_other_content_raises_value_error(content):
    with pytest.raises(ValueError, match="it is not an archive of thumbnails"):
        unpack_thumbnails(content, 3)
