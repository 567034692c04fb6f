import json
from dataclasses import replace

import fakes
import pytest

from wbctool.batch.runstate import (
    SeenFiles,
    SlideState,
    files_intact,
    fingerprint,
    publish_slide,
    read_state,
    stamp_of,
    states_below,
)
from wbctool.layout import OutputLayout
from wbctool.records import FieldFailure, Slide, SlideStatus
from wbctool.report.tables import COUNTS_COLUMNS
from wbctool.settings import Limits

ROW = tuple(str(i) for i in range(len(COUNTS_COLUMNS)))
FAILURES = (FieldFailure("s\udcff", "f", "read", "empty"),)


@pytest.fixture
def layout(tmp_path):
    return OutputLayout(tmp_path / "counts.csv")


def state(**files):
    return SlideState("f" * 64, SlideStatus.PARTIAL, ROW, FAILURES, files, Limits(), fakes.provenance())


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


def opened(layout, slide="s"):
    seen = SeenFiles(layout)
    seen.open(slide)
    return seen


def test_files_intact(layout):
    content_hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of "hello"
    names = ("differential.csv", "cells.csv", "report.html")
    publish_slide(layout, "s", dict.fromkeys(names, b"hello"), state(), ())
    whole = dict.fromkeys(names, content_hash)
    assert files_intact(layout, "s", state(**whole), opened(layout))
    assert not files_intact(layout, "s", state(**(whole | {"cells.csv": "0" * 64})), opened(layout))
    of_one_file = state(**{"cells.csv": content_hash})
    assert not files_intact(layout, "s", of_one_file, opened(layout))
    (layout.slide_folder("s") / "report.html").unlink()
    assert not files_intact(layout, "s", state(**whole), opened(layout))


@pytest.fixture
def field(tmp_path):
    path = tmp_path / "f.png"
    path.write_bytes(b"hello")
    return path


def hashes(seen, field):
    return seen.hash_fields(Slide("s", field.parent, (field,)), 300)


def test_a_field_just_written_is_not_trusted_by_its_time(layout, field):
    publish_slide(layout, "s", {}, state(), ())
    seen = opened(layout)
    assert hashes(seen, field)[0][1] is not None
    seen.save()
    assert not layout.slide_file("s", ".seen.json").exists()


def test_a_seen_field_is_not_read_again(layout, field):
    publish_slide(layout, "s", {}, state(), ())
    seen = opened(layout)
    seen.note("f.png", (1, 2, 3), "of another time")
    seen.note("gone.png", (1, 2, 3), "forgotten below")
    seen.save()
    assert hashes(opened(layout), field)[0][1] != "of another time"
    seen = opened(layout)
    seen.note("f.png", (*stamp_of(field)[:1], 0, 0), "x")
    content = {"f.png": [*stamp_of(field), "known"], "gone.png": [1, 2, 3, "x"]}
    layout.slide_file("s", ".seen.json").write_text(json.dumps(content))
    seen = opened(layout)
    assert hashes(seen, field) == (("f.png", "known"),)
    seen.save()
    assert json.loads(layout.slide_file("s", ".seen.json").read_text()).keys() == {"f.png"}


@pytest.mark.parametrize("content", ["", "[]", "1", '{"f.png": 1}', "\udcff"])
def test_a_broken_cache_costs_time_alone(layout, field, content):
    publish_slide(layout, "s", {}, state(), ())
    layout.slide_file("s", ".seen.json").write_text(content, errors="surrogateescape")
    assert hashes(opened(layout), field)[0][1] is not None


def test_a_slide_without_results_keeps_no_cache(layout, field):
    seen = opened(layout)
    seen.note("f.png", (1, 2, 3), "x")
    seen.save()
    assert not layout.folder.exists()


def test_an_unreadable_field_has_no_hash(layout, tmp_path):
    assert hashes(opened(layout), tmp_path / "gone.png") == (("gone.png", None),)


def test_only_failures_of_the_files_are_final():
    assert state().is_final
    on_the_machine = FieldFailure("s", "f", "classify", "CUDA failure")
    assert not replace(state(), failures=(*FAILURES, on_the_machine)).is_final


def test_a_state_whose_counts_are_no_texts_is_none(layout):
    publish_slide(layout, "s", {}, state(), ())
    path = layout.slide_file("s", "slide.json")
    content = json.loads(path.read_text())
    content["counts"]["cells"] = 12
    path.write_text(json.dumps(content))
    assert read_state(layout, "s") is None


def test_known_slides_below_a_folder(layout):
    for slide in ("ward/a", "ward/b/c", "ward", "warden/a"):
        publish_slide(layout, slide, {}, state(), ())
    assert [id_ for id_, _ in states_below(layout, "ward")] == ["ward/a", "ward/b/c"]
