import pytest

from wbctool.batch.runstate import (
    SeenFiles,
    SlideState,
    files_intact,
    fingerprint,
    publish_slide,
    read_state,
    stamp_of,
)
from wbctool.layout import OutputLayout
from wbctool.records import FieldFailure, Slide, SlideStatus
from wbctool.report.tables import COUNTS_COLUMNS

ROW = tuple(str(i) for i in range(len(COUNTS_COLUMNS)))
FAILURES = (FieldFailure("s\udcff", "f", "read", "empty"),)


@pytest.fixture
def layout(tmp_path):
    return OutputLayout(tmp_path / "counts.csv")


def state(**files):
    return SlideState("f" * 64, SlideStatus.PARTIAL, ROW, FAILURES, files)


def test_a_state_comes_back(layout):
    publish_slide(layout, "s\udcff", {}, state(), (("f", None),))
    assert read_state(layout, "s\udcff") == state()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "wbctool-slide/0"}', '"x"', "\udcff"])
def test_a_state_that_is_none_is_none(layout, text):
    publish_slide(layout, "s", {}, state(), ())
    layout.slide_file("s", "slide.json").write_text(text, errors="surrogateescape")
    assert read_state(layout, "s") is None


def test_a_state_moved_to_another_slide_is_none(layout):
    publish_slide(layout, "s", {}, state(), ())
    layout.slide_folder("s").rename(layout.slide_folder("t"))
    assert read_state(layout, "t") is None


def test_fingerprint_depends_on_names_contents_order_and_basis():
    fields = (("a", "1"), ("b", None))
    prints = [
        fingerprint(fields, {"model": 1}),
        fingerprint(fields[::-1], {"model": 1}),
        fingerprint((("a", "1"), ("b", "2")), {"model": 1}),
        fingerprint((("a", "1"), ("c", None)), {"model": 1}),
        fingerprint(fields, {"model": 2}),
    ]
    assert len(set(prints)) == 5
    assert fingerprint(fields, {"x": 1, "y": 2}) == fingerprint(fields, {"y": 2, "x": 1})


def test_files_intact(layout):
    content_hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of "hello"
    names = ("differential.csv", "cells.csv", "report.html")
    publish_slide(layout, "s", dict.fromkeys(names, b"hello"), state(), ())
    whole = dict.fromkeys(names, content_hash)
    assert files_intact(layout, "s", state(**whole), SeenFiles({}))
    assert not files_intact(layout, "s", state(**(whole | {"cells.csv": "0" * 64})), SeenFiles({}))
    of_one_file = state(**{"cells.csv": content_hash})
    assert not files_intact(layout, "s", of_one_file, SeenFiles({}))
    (layout.slide_folder("s") / "report.html").unlink()
    assert not files_intact(layout, "s", state(**whole), SeenFiles({}))


def test_a_field_just_written_is_not_trusted_by_its_time(tmp_path):
    field = tmp_path / "f.png"
    field.write_bytes(b"hello")
    seen = SeenFiles({})
    seen.hash_fields(Slide("s", tmp_path, (field,)), 300)
    seen.write(tmp_path / "seen.json", ["s"])
    assert SeenFiles.read(tmp_path / "seen.json").hash_fields(Slide("s", tmp_path, (field,)), 300)[0][1] is not None
    assert (tmp_path / "seen.json").read_text() == '{\n "s": {}\n}\n'


def test_a_seen_field_is_not_read(tmp_path):
    field = tmp_path / "f.png"
    field.write_bytes(b"hello")
    seen = SeenFiles({"s": {"f.png": [*stamp_of(field), "known"]}})
    assert seen.hash_fields(Slide("s", tmp_path, (field,)), 300) == (("f.png", "known"),)


def test_an_unreadable_field_has_no_hash(tmp_path):
    gone = tmp_path / "gone.png"
    assert SeenFiles({}).hash_fields(Slide("s", tmp_path, (gone,)), 300) == (("gone.png", None),)
