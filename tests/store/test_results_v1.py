"""Results of schema version 1: they are not processed again, their reviews hold, and they are still read."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wbctool import former_names
from wbctool.cli import app
from wbctool.paths import OutputPaths
from wbctool.store.reader import PublishedSlide, read_published_slides
from wbctool.store.run_record import is_results, read_run_record
from wbctool.store.slide_record import read_slide_record
from wbctool.types.results import SlideStatus

FIXTURE = Path(__file__).parents[1] / "data" / "results-v1"
SLIDES = ("no-cells", "partial", "ward 3/smear 12", "ward 3/smear 14")
REVIEWED, UNREVIEWED = "ward 3/smear 12", "ward 3/smear 14"
ELSEWHERE = "its images are in original-report.html"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A copy of the fixture, whose cards have the current names, as the working directory."""
    shutil.copytree(FIXTURE, tmp_path / "v1")
    for card in (tmp_path / "v1" / "models").glob("*.json"):
        renames = former_names.DETECTOR_CARD if card.stem == "detector" else former_names.CARD
        card.write_text(json.dumps(rename(json.loads(card.read_text()), renames) | {"schema_version": 2}))
    monkeypatch.chdir(tmp_path / "v1")
    return tmp_path / "v1"


@pytest.fixture
def output(workplace):
    return OutputPaths(workplace / "results" / "counts.csv")


def rename(content, renames):
    if isinstance(content, dict):
        return {renames.get(key, key): rename(value, renames) for key, value in content.items()}
    return [rename(value, renames) for value in content] if isinstance(content, list) else content


def wbctool(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


RUN = ("run", "slides", "--out", "results/counts.csv", "--models", "models", "--readers", "vgg19")


def run_again():
    return wbctool(
        *RUN,
        "--workers",
        "1",
        "--quiet",
    )


def published(output):
    """The bytes of everything but what a run writes anew each time."""
    leave = {"run.json", "index.html", ".seen.json", ".lock"}
    return {
        path: path.read_bytes()
        for path in output.counts_csv.parent.rglob("*")
        if path.is_file() and path.name not in leave
    }


def test_run_processes_nothing_again(output):
    before = published(output)
    done = run_again()
    assert done.exit_code == 3  # `partial` still is
    run = read_run_record(output)
    assert [(slide.slide, slide.done_in_run) for slide in run.slides] == [(slide, False) for slide in SLIDES]
    assert published(output) == before
    assert json.loads(output.run_json.read_bytes())["schema"] == "wbctool-run/2"
    assert ">AB, CD</td>" in output.index_html.read_text()


def test_forced_run_adds_diameters_and_keeps_the_reviews(output):
    assert wbctool(*RUN, "--workers", "1", "--quiet", "--force").exit_code == 3
    with output.slide_file(REVIEWED, "cells.csv").open(newline="") as lines:
        assert next(csv.reader(lines))[-1] == "diameter_um"
    assert read_slide_record(output.slide_file(REVIEWED, "slide.json")).readers == ("AB", "CD")
    assert wbctool("review", "verify", output.counts_csv).exit_code == 0


def test_dry_run_finds_every_slide_up_to_date(output):
    before = published(output)
    done = wbctool(*RUN, "--dry-run")
    assert done.exit_code == 0
    assert done.output.endswith("4 slides: 4 up to date\n")
    assert published(output) == before


def test_former_cards_are_refused_with_the_current_names(output):
    shutil.copy(FIXTURE / "models" / "detector.json", "models")
    done = run_again()
    assert done.exit_code == 1
    for former, current in (("targets", "classes"), ("glance_px", "preview_px"), ("licence", "license")):
        assert f"{former} is now called {current}" in done.stderr


def test_slide_records_are_read_under_the_current_names(output):
    record = read_slide_record(output.slide_file(REVIEWED, "slide.json"), REVIEWED)
    assert [(review.reader, review.n_reclassified) for review in record.reviews] == [("AB", 3), ("CD", 1)]
    assert record.reviews[0].entry_sha256.startswith("b8a20782")
    assert [(quality.duplicate_of, quality.background_color) for quality in record.quality[:2]] == [
        ("", (90.1, 3.2, -1.6)),
        ("field-1.png", (90.1, 3.2, -1.6)),
    ]
    assert (record.limits.low_count_below, record.limits.adult) == (100, True)
    assert dict(record.provenance.settings)["low_count_below"] == "100"
    assert record.absolute_counts.classes["lymphocyte"].value == 6.887
    assert (record.patient, record.has_thumbnails) == ("P-77", False)


def test_run_record_is_read_under_the_current_names(output):
    assert is_results(output.folder)
    run = read_run_record(output)
    assert [slide.done_in_run for slide in run.slides] == [True] * len(SLIDES)
    assert run.batch_sizes == {"detector.onnx": 1, "generator.onnx": 1, "classifier.onnx": 1}
    assert run.device_message.startswith("no CUDA device")
    assert run.settings["min_nrbc"] == 1


def test_altered_slide_record_of_version_1_is_not_believed(output):
    path = output.slide_file("no-cells", "slide.json")
    path.write_text(path.read_text().replace('"counted": "9"', '"counted": "8"'))
    assert run_again().exit_code == 3
    done = [slide.slide for slide in read_run_record(output).slides if slide.done_in_run]
    assert done == ["no-cells"]
    assert json.loads(path.read_text())["schema"] == "wbctool-slide/2"
    assert output.slide_file("no-cells", "thumbnails.zip").is_file()


def test_review_verify_matches(output):
    done = wbctool("review", "verify", output.counts_csv)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.output.startswith("4 slides, 1 reviewed; 6 lines ")


@pytest.mark.parametrize("name", ["cells.csv", "report.html"])
def test_review_verify_finds_an_altered_file(output, name):
    path = output.slide_file(REVIEWED, name)
    path.write_bytes(path.read_bytes() + b"\n")
    done = wbctool("review", "verify", output.counts_csv)
    assert done.exit_code == 1
    assert f"slide '{REVIEWED}': {name} does not match its hash in slide.json" in done.stderr


@pytest.mark.parametrize(
    ("review", "slide", "readers", "change"),
    [
        ("review-EF.json", UNREVIEWED, ("EF",), {"lymphocyte_n": "23", "neutrophil_n": "1", "monocyte_n": "1"}),
        ("review-GH.json", REVIEWED, ("AB", "CD", "GH"), {"monocyte_n": "2", "review": "16", "counted": "47"}),
    ],
)
def test_review_apply_updates_tables_and_report(output, review, slide, readers, change):
    before, report = published(output), output.slide_file(slide, "report.html").read_bytes()
    done = wbctool("review", "apply", output.counts_csv, review)
    assert (done.exit_code, done.stderr) == (0, "")
    record = read_slide_record(output.slide_file(slide, "slide.json"), slide)
    assert record.readers == readers
    assert json.loads(output.slide_file(slide, "slide.json").read_text())["schema"] == "wbctool-slide/2"
    with output.counts_csv.open(newline="") as lines:
        row = {row["slide"]: row for row in csv.DictReader(lines)}[slide]
    assert {column: row[column] for column in change} == change
    page = output.slide_file(slide, "report.html").read_text()
    assert ELSEWHERE in page
    assert '<img id="native-' not in page
    original = output.slide_file(slide, "original-report.html").read_bytes()
    assert original == (before[output.slide_file(slide, "original-report.html")] if slide == REVIEWED else report)
    assert b"data:image/webp;base64," in original
    assert not output.slide_file(slide, "thumbnails.zip").exists()
    assert wbctool("review", "verify", output.counts_csv).exit_code == 0
    after = published(output)
    run_again()
    assert published(output) == after  # neither the review nor any other slide is processed again
    untouched = [path for path in before if path.parent != output.slide_folder(slide) and "audit" not in path.name]
    assert {path for path in untouched if after[path] != before[path]} == {output.counts_csv}


def test_review_apply_of_a_review_that_was_saved_before_a_column_came(output):
    wbctool(*RUN, "--workers", "1", "--quiet", "--force")
    header = output.slide_file(UNREVIEWED, "cells.csv").read_text().splitlines()[0]
    assert header.endswith(",subtype,diameter_um")
    done = wbctool("review", "apply", output.counts_csv, "review-EF.json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert wbctool("review", "verify", output.counts_csv).exit_code == 0


def test_status_reads_the_run(output):
    done = wbctool("status", output.counts_csv, "--json")
    assert done.exit_code == 3
    status = json.loads(done.output)
    assert (status["phase"], status["exit_code"], status["done_in_run"]) == ("ended", 3, 4)
    assert status["slides"] == {"ok": 3, "partial": 1, "failed": 0, "waiting": 0}


def test_published_slides_are_read(output):
    slides = list(read_published_slides(output))
    assert all(isinstance(slide, PublishedSlide) for slide in slides)
    assert [(slide.result.slide, slide.reviewed) for slide in slides] == [(s, s == REVIEWED) for s in SLIDES]
    assert [slide.result.status for slide in slides] == [SlideStatus.OK, SlideStatus.PARTIAL, *[SlideStatus.OK] * 2]
    assert [len(slide.result.cells) for slide in slides] == [9, 15, 63, 36]
    assert slides[2].result.quality[1].duplicate_of == "field-1.png"


def test_export_reads_the_results_and_finds_the_images(output):
    done = wbctool("export", "coco", output.counts_csv)
    assert done.exit_code == 0, done.output
    content = json.loads((output.counts_csv.parent / "counts-coco.json").read_text())
    assert (len(content["images"]), len(content["annotations"])) == (7, 123)
    done = wbctool("export", "fhir", output.counts_csv)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("change", ["accession", "adult", "force"])
def test_review_stays_when_the_slide_is_processed_again(output, change):
    if change == "accession":
        table = output.counts_csv.parents[1] / "slides" / "slides.csv"
        table.write_text(table.read_text().replace("H-2041", "H-2042"))
    options = {"accession": (), "adult": ("--adult",), "force": ("--force",)}[change]
    done = wbctool(
        *RUN,
        "--workers",
        "1",
        "--quiet",
        *options,
    )
    assert "review ended" not in done.stderr
    record = read_slide_record(output.slide_file(REVIEWED, "slide.json"), REVIEWED)
    assert record.readers == ("AB", "CD")
    assert wbctool("review", "verify", output.counts_csv).exit_code == 0
