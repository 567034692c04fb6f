import json
from dataclasses import replace

import fakes
import pytest

from wbctool.errors import RecordInvalid
from wbctool.limits import Limits
from wbctool.paths import OutputPaths
from wbctool.report.csv_tables import COUNTS_COLUMNS
from wbctool.store.audit_log import read_audit_log
from wbctool.store.checksum import add_checksum
from wbctool.store.hash_cache import HashCache, get_file_stat
from wbctool.store.publish import publish_with_reviews
from wbctool.store.slide_record import (
    FieldHash,
    SlideRecord,
    find_slide_record,
    iter_records_below,
    outputs_match,
    read_slide_record,
)
from wbctool.store.slide_writer import SlideFiles, write_slide_files
from wbctool.types.cells import Slide
from wbctool.types.results import FieldFailure, SlideStatus

NUMBERS = tuple(str(i) for i in range(2, len(COUNTS_COLUMNS)))
FAILURES = (FieldFailure("s\udcff", "f", "read", "empty"),)


@pytest.fixture
def output(tmp_path):
    return OutputPaths(tmp_path / "counts.csv")


def make_record(slide="s", files=None, fields=()):
    return SlideRecord(
        slide=slide,
        status=SlideStatus.PARTIAL,
        fingerprint="f" * 64,
        fields=fields,
        files=files or {},
        errors=FAILURES,
        counts=dict(columns((slide, "partial", *NUMBERS))),
        limits=Limits(),
        provenance=fakes.provenance(),
    )


def columns(row):
    return zip(COUNTS_COLUMNS, row, strict=True)


def test_find_slide_record_gives_back_what_was_published(output):
    record = make_record("s\udcff", fields=(FieldHash("f\udcfe", None), FieldHash("g", "ab" * 32)))
    write_slide_files(output, {}, record)
    assert find_slide_record(output, "s\udcff") == record


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "wbctool-slide/0"}', '"x"', "\udcff", "[" * 100_000])
def test_find_slide_record_other_content_gives_none(output, text):
    write_slide_files(output, {}, make_record())
    output.slide_file("s", "slide.json").write_text(text, errors="surrogateescape")
    assert find_slide_record(output, "s") is None


def test_find_slide_record_of_another_slide_gives_none(output):
    write_slide_files(output, {}, make_record())
    output.slide_folder("s").rename(output.slide_folder("t"))
    assert find_slide_record(output, "t") is None


def opened(output):
    seen = HashCache(output)
    seen.load_slide("s")
    return seen


def test_outputs_match_only_if_every_file_is_as_published(output):
    content_hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of "hello"
    names = ("differential.csv", "cells.csv", "report.html", "thumbnails.zip")
    write_slide_files(output, dict.fromkeys(names, b"hello"), make_record())
    whole = dict.fromkeys(names, content_hash)
    assert outputs_match(output, make_record(files=whole), opened(output))
    assert not outputs_match(output, make_record(files=whole | {"cells.csv": "0" * 64}), opened(output))
    of_version_1 = dict.fromkeys(names[:3], content_hash)
    assert outputs_match(output, make_record(files=of_version_1), opened(output))
    assert not outputs_match(output, make_record(files={"cells.csv": content_hash}), opened(output))
    (output.slide_folder("s") / "report.html").unlink()
    assert not outputs_match(output, make_record(files=whole), opened(output))


@pytest.fixture
def field(tmp_path):
    path = tmp_path / "f.png"
    path.write_bytes(b"hello")
    return path


def hashes(seen, field):
    return seen.hash_fields(Slide("s", field.parent, (field,)), 300)


def test_hash_cache_field_just_written_is_not_remembered(output, field):
    write_slide_files(output, {}, make_record())
    seen = opened(output)
    assert hashes(seen, field)[0][1] is not None
    seen.flush()
    assert not output.slide_file("s", ".seen.json").exists()


def test_hash_cache_remembered_field_is_not_read_again(output, field):
    write_slide_files(output, {}, make_record())
    seen = opened(output)
    seen.remember("f.png", (1, 2, 3), "of another time")
    seen.remember("gone.png", (1, 2, 3), "forgotten below")
    seen.flush()
    assert hashes(opened(output), field)[0][1] != "of another time"
    seen = opened(output)
    seen.remember("f.png", (*get_file_stat(field)[:1], 0, 0), "x")
    content = {"f.png": [*get_file_stat(field), "known"], "gone.png": [1, 2, 3, "x"]}
    output.slide_file("s", ".seen.json").write_text(json.dumps(content))
    seen = opened(output)
    assert hashes(seen, field) == (("f.png", "known"),)
    seen.flush()
    assert json.loads(output.slide_file("s", ".seen.json").read_text()).keys() == {"f.png"}


@pytest.mark.parametrize("content", ["", "[]", "1", '{"f.png": 1}', "\udcff"])
def test_hash_cache_broken_file_costs_only_time(output, field, content):
    write_slide_files(output, {}, make_record())
    output.slide_file("s", ".seen.json").write_text(content, errors="surrogateescape")
    assert hashes(opened(output), field)[0][1] is not None


def test_hash_cache_slide_without_results_writes_nothing(output, field):
    seen = opened(output)
    seen.remember("f.png", (1, 2, 3), "x")
    seen.flush()
    assert not output.folder.exists()


def test_hash_fields_unreadable_field_has_no_hash(output, tmp_path):
    assert hashes(opened(output), tmp_path / "gone.png") == (("gone.png", None),)


def test_is_deterministic_only_with_failures_of_the_files():
    assert make_record().is_deterministic
    on_the_machine = FieldFailure("s", "f", "classify", "CUDA failure")
    assert not replace(make_record(), errors=(*FAILURES, on_the_machine)).is_deterministic


def test_find_slide_record_altered_value_gives_none(output):
    write_slide_files(output, {}, make_record())
    path = output.slide_file("s", "slide.json")
    whole = path.read_text()
    for was, now in (
        ('"counted": "5"', '"counted": "900"'),
        ('"low_count_below": 100', '"low_count_below": 1'),
        ("read", "?"),
    ):
        assert was in whole
        path.write_text(whole.replace(was, now, 1))
        assert find_slide_record(output, "s") is None
    path.write_text(json.dumps(json.loads(whole)))  # the same values, laid out otherwise
    assert find_slide_record(output, "s") == make_record()
    path.write_text(json.dumps({name: value for name, value in json.loads(whole).items() if name != "sha256"}))
    assert find_slide_record(output, "s") is None


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("counts", {"cells": 12}),
        ("counts", {"fields": "x"}),
        ("counts", {"fields": "-1"}),
        ("counts", {"counted": ""}),
        ("counts", {"counted": "not_assessed"}),
        ("counts", {"neutrophil_n": "1.0"}),
        ("counts", {"slide": "t"}),
        ("counts", {"status": "ok"}),
        ("counts", {"more": "1"}),
        ("status", "waiting"),
        ("status", "splendid"),
        ("schema", "wbctool-slide/9"),
    ],
)
def test_find_slide_record_invalid_value_with_valid_checksum_gives_none(output, entry, value):
    write_slide_files(output, {}, make_record())
    path = output.slide_file("s", "slide.json")
    content = json.loads(path.read_text())
    del content["sha256"]
    content[entry] = {**content[entry], **value} if isinstance(value, dict) else value
    if value == "waiting":
        content["counts"]["status"] = value
    path.write_text(json.dumps(add_checksum(content)))
    assert find_slide_record(output, "s") is None


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"quality": [{"field": "f", "blur_um": "wide"}]}, "quality.0.blur_um: "),
        ({"limits": {"low_count_below": 0}}, "limits.low_count_below: "),
        ({"provenance": None}, "provenance: "),
        ({"counts": {}}, "counts: the columns are not those of counts.csv"),
        ({"schema": None}, "it has no schema"),
    ],
)
def test_read_invalid_record_names_file_and_path_inside(output, change, location):
    write_slide_files(output, {}, make_record())
    path = output.slide_file("s", "slide.json")
    content = {name: value for name, value in json.loads(path.read_text()).items() if name != "sha256"}
    path.write_text(json.dumps(add_checksum(content | change)))
    with pytest.raises(RecordInvalid) as caught:
        read_slide_record(path, "s")
    assert caught.value.path == path
    assert f"is not a valid record of a slide: {location}" in caught.value.reason


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('"counted": "2"', '"counted": "900"'),
        ('"fields": "2"', '"fields": "x"'),
        ('"status": "ok"', '"status": "waiting"'),
    ],
)
def test_run_processes_slide_with_altered_record_again(run, was, now):
    run()
    before, path = run.tree(), run.folder / "s2" / "slide.json"
    assert was in path.read_text()
    path.write_text(path.read_text().replace(was, now))
    assert run() == 0
    assert sorted(run.looked) == ["f1.png", "f2.png"]
    assert run.tree() == before


def test_find_slide_record_keeps_not_assessed(output):
    counts = {
        name: "not_assessed" if name.startswith("basophil") else value for name, value in make_record().counts.items()
    }
    write_slide_files(output, {}, replace(make_record(), counts=counts))
    assert find_slide_record(output, "s").counts == counts


def test_publish_files_logs_that_a_review_with_a_lost_record_is_void(output):
    write_slide_files(output, {}, make_record())
    path = output.slide_file("s", "slide.json")
    for name in ("slide.json", "cells.csv", "differential.csv", "report.html"):
        output.slide_file("s", f"original-{name}").write_bytes(path.read_bytes())
    again = SlideFiles({}, make_record())
    path.write_text(path.read_text().replace("partial", "ok"))
    publish_with_reviews(output, again)
    assert [(entry.event, entry.slide) for entry in read_audit_log(output)] == [("redone", "s")]
    assert [file.name for file in path.parent.iterdir()] == ["slide.json"]


def test_iter_records_below_gives_only_slides_below_the_folder(output):
    for slide in ("ward/a", "ward/b/c", "ward", "warden/a"):
        write_slide_files(output, {}, make_record(slide))
    assert [record.slide for record in iter_records_below(output, "ward")] == ["ward/a", "ward/b/c"]
