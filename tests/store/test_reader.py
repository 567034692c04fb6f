"""Results read back: what a run published, or an error that names the file."""

import errno
import json
import math
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from wbctool.errors import ResultsInvalid
from wbctool.labels import CellClass
from wbctool.paths import OutputPaths
from wbctool.report.csv_tables import cells_csv, counts_row, differential_csv
from wbctool.store.checksum import add_checksum
from wbctool.store.reader import SkippedSlide, read_published_slides
from wbctool.types.cells import Outcome
from wbctool.types.results import SlideStatus

REVIEW = {"reader": "AB", "time": "2026-01-02", "n_reclassified": 0, "comment": "", "entry_sha256": "ab" * 32}


def read(run):
    return list(read_published_slides(OutputPaths.from_path(run.out)))


def test_read_published_slides_gives_back_the_published_bytes(run):
    run(adult=True)
    slides = read(run)
    assert [slide.result.slide for slide in slides] == ["s2", "s10"]
    adult = replace(fakes.provenance(), reference_source="ARUP Laboratories, adults")
    for slide in slides:
        folder = run.folder / slide.result.slide
        assert cells_csv(slide.result.slide, slide.result.cells, slide.classes) == (folder / "cells.csv").read_text()
        assert differential_csv(slide.result.differential) == (folder / "differential.csv").read_text()
        assert counts_row(slide.result) == run.rows()[slide.result.slide]
        assert (slide.provenance, slide.reviewed) == (adult, False)
    cell = slides[0].result.cells[2]
    assert (cell.field, cell.prediction.outcome, math.isnan(cell.prediction.energy)) == (
        "f2.png",
        Outcome.NEEDS_REVIEW,
        True,
    )
    assert slides[0].field_names == ("f1.png", "f2.png")


@pytest.mark.parametrize("name", ["=1+1", "'=1+1", "@a", 'b"\r\n,c', "\udcff", r"\xff", "'"])
def test_read_published_slides_odd_names_come_back(run, name):
    try:
        fakes.draw_field(run.root / name / f"{name}.png", ["basophil"])
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system has no such name")
    run()
    (slide,) = [one for one in read(run) if one.result.slide == name]
    assert slide.field_names == (f"{name}.png",)
    assert slide.result.cells[0].field == f"{name}.png"


def test_read_published_slides_flag_of_another_version_is_refused_by_name(run):
    run()
    path = run.folder / "s2" / "slide.json"
    record = json.loads(path.read_text())
    flags = record["counts"]["flags"]
    record["counts"]["flags"] = f"{flags};of_tomorrow"
    del record["sha256"]
    path.write_text(json.dumps(add_checksum(record)))
    run.out.write_text(run.out.read_text().replace(flags, f"{flags};of_tomorrow"))
    with pytest.raises(ResultsInvalid, match=r"s2/slide\.json cannot be read: .*'of_tomorrow' is not a valid Flag"):
        read(run)


@pytest.mark.parametrize("name", ["cells.csv", "differential.csv", "report.html", "thumbnails.zip"])
def test_read_published_slides_altered_file_is_refused_by_name(run, name):
    run()
    path = run.folder / "s10" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ResultsInvalid, match=rf"s10/{name} is not the file that was published: SHA-256 [0-9a-f]{{64}}"):
        read(run)


def test_read_published_slides_missing_file_is_named(run):
    run()
    (run.folder / "s2" / "cells.csv").unlink()
    with pytest.raises(ResultsInvalid, match=r"s2/cells.csv is missing"):
        read(run)


def test_read_published_slides_without_a_run_is_refused(run):
    with pytest.raises(ResultsInvalid, match=r"counts.csv is missing: no run has ended"):
        read(run)


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "slide,status\n../x,ok\n", "slide,status\ns2,splendid\n", "slide\ns,t\n"]
)
def test_read_published_slides_other_table_is_refused(run, text):
    run()
    run.out.write_text(text or "\xff", encoding="latin-1")
    with pytest.raises(ResultsInvalid, match=r"counts.csv is not "):
        read(run)


def rewrite(path, **changes):
    """slide.json as a run would have written it with other entries; None takes one out."""
    content = {name: value for name, value in json.loads(path.read_text()).items() if name != "sha256"} | changes
    path.write_text(json.dumps(add_checksum({name: value for name, value in content.items() if value is not None})))


def test_read_published_slides_unknown_schema_is_refused(run):
    run()
    rewrite(run.folder / "s2" / "slide.json", schema="wbctool-slide/9")
    with pytest.raises(ResultsInvalid, match=r"s2/slide.json cannot be read by this version of wbctool"):
        read(run)


def test_read_published_slides_without_provenance_names_the_place(run):
    run()
    rewrite(run.folder / "s2" / "slide.json", provenance=None)
    with pytest.raises(ResultsInvalid, match=r"s2/slide.json is not a valid record of a slide: provenance: "):
        read(run)


def test_read_published_slides_reviewed_slide_is_marked(run):
    run()
    rewrite(run.folder / "s2" / "slide.json", reviews=[REVIEW])
    assert [slide.reviewed for slide in read(run)] == [True, False]


def test_read_published_slides_waiting_slide_is_skipped(run):
    run()
    run(settle_s=3600)
    assert [(one.slide, one.status) for one in read(run)] == [
        ("s2", SlideStatus.WAITING),
        ("s10", SlideStatus.WAITING),
    ]


def test_read_published_slides_slide_newer_than_table_is_skipped(run):
    run()
    table = run.out.read_bytes()
    fakes.draw_field(run.root / "s2" / "f3.png", ["basophil"])
    run()
    run.out.write_bytes(table)  # as a run leaves it that is killed before its end
    changed, same = read(run)
    assert isinstance(changed, SkippedSlide)
    assert "run again" in changed.reason
    assert same.result.slide == "s10"


def test_read_published_slides_unpublished_slide_is_skipped(run):
    run()
    (run.folder / "s2" / "slide.json").unlink()
    assert read(run)[0] == SkippedSlide("s2", SlideStatus.OK, "it has no published results")


@pytest.mark.parametrize("changed", ["counted", "no hash", "nested"])
def test_read_published_slides_altered_slide_json_is_refused_by_name(run, changed):
    run()
    path = run.folder / "s2" / "slide.json"
    text = {
        "counted": path.read_text().replace('"counted": "2"', '"counted": "900"'),
        "no hash": path.read_text().replace('"sha256"', '"was"'),
        "nested": "[" * 100_000,
    }[changed]
    assert text != path.read_text()
    path.write_text(text)
    with pytest.raises(ResultsInvalid, match=r"s2/slide.json cannot be trusted: it.* makes it again"):
        read(run)


def test_read_published_slides_forbidden_folder_is_named(run, monkeypatch):
    run()
    monkeypatch.setattr(Path, "is_file", raising(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(ResultsInvalid, match=r"s2/slide.json cannot be read: Permission denied$"):
        read(run)


def test_read_published_slides_name_too_long_is_skipped(run, monkeypatch):
    run()
    monkeypatch.setattr(Path, "is_file", raising(OSError(errno.ENAMETOOLONG, "File name too long")))
    assert [one.reason for one in read(run)] == ["it has no published results"] * 2


def raising(error):
    def is_file(path):
        raise error

    return is_file


def test_analyzed_fields_leave_out_failed_fields(run):
    (run.root / "s2" / "f0.png").write_bytes(b"")
    run()
    assert (read(run)[0].field_names, read(run)[0].analyzed_fields) == (
        ("f0.png", "f1.png", "f2.png"),
        ("f1.png", "f2.png"),
    )


def test_read_published_slides_class_not_assessed_stays_so(run, monkeypatch):
    four = fakes.provenance(tuple(CellClass)[:4])
    monkeypatch.setattr(fakes, "provenance", lambda **_: four)
    run.classify = lambda rgb: tuple(map(_four, fakes.classify(rgb)))
    run()
    slide = read(run)[0]
    assert slide.classes == tuple(CellClass)[:4]
    assert [count.assessed for count in slide.result.differential.classes] == [True] * 4 + [False] * 2
    assert not slide.result.differential.nrbc_assessed


def _four(prediction):
    label = prediction.label if prediction.label in tuple(CellClass)[:4] else CellClass.MONOCYTE
    return replace(prediction, label=label, probabilities=(0.25,) * 4)
