"""A review stays as long as the slide's cells do; where it must end, the run, the status and the index say so."""

import csv
import errno
import json
import logging
import os
import re
from pathlib import Path

import fakes
import pytest
from typer.testing import CliRunner

from wbctool.cli import app
from wbctool.errors import OutputLocked, ReviewRefused
from wbctool.paths import OutputPaths
from wbctool.review.acknowledge import acknowledge_ended_reviews
from wbctool.review.apply import apply_reviews
from wbctool.review.audit import audit_reviews
from wbctool.store.ended_reviews import EndedReview, describe_ended_reviews, find_ended_reviews
from wbctool.store.lock import lock_output
from wbctool.store.reader import SkippedSlide, read_published_slides
from wbctool.store.run_record import read_run_record
from wbctool.store.slide_record import read_slide_record
from wbctool.store.status import format_status_json, format_status_text, read_report

ENDED = (
    "review ended: slide 's2', reviewed by AB, has other cells since a later run; "
    "review again, or take note with `wbctool review acknowledge`"
)


def apply_one(output, path):
    ((_, outcome),) = apply_reviews(output, [path])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@pytest.fixture
def reviewed(output, write):
    """s2, whose cell in review a reader has moved to the monocytes."""
    apply_one(output, write((3, "review", "monocyte"), comment="fine"))
    return output


def events(output):
    return [json.loads(line)["event"] for line in output.audit_jsonl.read_text().splitlines()]


def check_reviewed(run, output):
    """s2 is reviewed everywhere."""
    record = read_slide_record(output.slide_file("s2", "slide.json"), "s2")
    assert [(review.reader, review.n_reclassified, review.comment) for review in record.reviews] == [("AB", 1, "fine")]
    assert (run.rows()["s2"]["monocyte_n"], run.rows()["s2"]["review"]) == ("1", "0")
    with output.slide_file("s2", "cells.csv").open(newline="") as lines:
        assert [cell["outcome"] for cell in csv.DictReader(lines)][2] == "counted"
    assert "Reviewed by AB" in output.slide_file("s2", "report.html").read_text()
    assert ">AB</td>" in output.index_html.read_text()
    assert find_ended_reviews(output) == {}
    assert read_report(output).notices == ()
    assert audit_reviews(output).problems == ()
    (slide,) = (slide for slide in read_published_slides(output) if slide.result.slide == "s2")
    assert slide.is_final


def set_slides_csv(run, columns, values):
    (run.root / "slides.csv").write_text(f"slide,{columns}\ns2,{values}\n")


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("accession", "H-2041"),
        ("patient,age,sex", "P-77,54,F"),
        ("analyser_wbc", "7.2"),
        ("objective,stain", "100x,MGG"),
        ("um_per_px", "0.1"),
        ("accession,um_per_px,age", "H-2041,0.12,7"),
    ],
)
@pytest.mark.parametrize("former", [False, True])
def test_review_stays_whatever_slides_csv_says(run, reviewed, columns, values, former, make_former):
    if former:
        make_former(run)
    set_slides_csv(run, columns, values)
    assert run() == 0
    assert (run.looked == []) is ("um_per_px" not in columns)  # by which the images are measured
    check_reviewed(run, reviewed)
    assert events(reviewed) == ["cell", "review"]


@pytest.mark.parametrize(
    "settings",
    [
        {"adult": True},
        {"low_count_below": 1, "adult": True, "reference_ranges": {"monocyte": [1, 2]}},
        {"high_review_share": 0.9},
        {"max_blur_um": 5},
        {"duplicate_correlation": 0.5},
        {"max_megapixels": 50},
        {"super_resolve": "never"},
        {"force": True},
        {"force": True, "adult": True, "workers": 3},
    ],
)
def test_review_stays_with_settings_that_give_the_same_cells(run, reviewed, settings):
    assert run(**settings) == 0
    check_reviewed(run, reviewed)
    assert run(**settings | {"force": False}) == 0
    assert run.looked == []
    check_reviewed(run, reviewed)


def test_words_follow_around_the_review(run, reviewed):
    set_slides_csv(run, "accession,analyser_wbc,age", "H-2041,9,40")
    run(low_count_below=1)
    page = reviewed.slide_file("s2", "report.html").read_text()
    assert "H-2041" in page
    record = read_slide_record(reviewed.slide_file("s2", "slide.json"), "s2")
    assert record.absolute_counts.classes["monocyte"].value == 3  # one of three counted cells
    assert record.out_of_range["monocyte"] == {"percent": "high", "absolute": "high"}
    assert "monocyte,1,33.33,0.84,90.57,0.00,9.00,high" in reviewed.slide_file("s2", "differential.csv").read_text()


def test_words_change_twice_and_back(run, reviewed):
    before = run.tree()
    for columns, values in (("accession", "a"), ("accession,age", "b,50")):
        set_slides_csv(run, columns, values)
        run()
        check_reviewed(run, reviewed)
    (run.root / "slides.csv").unlink()
    run()
    assert run.tree() == before


def test_review_saved_before_a_change_of_words_is_applied_after_it(run, output, write):
    path = write((3, "review", "monocyte"), comment="fine")
    set_slides_csv(run, "accession", "H-2041")
    run()
    run(force=True)
    apply_one(output, path)
    check_reviewed(run, output)
    assert "H-2041" in output.slide_file("s2", "report.html").read_text()


def test_second_review_follows_a_change_of_words(run, reviewed, write):
    set_slides_csv(run, "accession", "H-2041")
    run()
    result = apply_one(reviewed, write((3, "monocyte", "basophil"), reader="CD", time="2026-01-03T00:00:00Z"))
    assert [review.reader for review in result.reviews] == ["AB", "CD"]
    assert "H-2041" in reviewed.slide_file("s2", "report.html").read_text()
    run(adult=True)
    assert run.looked == []
    assert run.rows()["s2"]["basophil_n"] == "1"
    assert audit_reviews(reviewed).problems == ()


def test_touched_and_resaved_images_keep_the_review(run, reviewed):
    os.utime(run.root / "s2" / "f1.png", (1, 1))
    path = run.root / "s2" / "f2.png"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the content differs, the pixels do not
    path.write_bytes(data)
    run()
    assert "f2.png" in run.looked
    check_reviewed(run, reviewed)


@pytest.mark.parametrize(
    "damage", ["slide.json", "report.html", "cells.csv", "original-slide.json", "original-cells.csv"]
)
@pytest.mark.parametrize("lost", [False, True])
def test_damaged_results_are_made_again_with_the_review(run, reviewed, damage, lost):
    path = reviewed.slide_file("s2", damage)
    if lost:
        path.unlink()
    else:
        path.write_text("altered")
    run(adult=True)
    check_reviewed(run, reviewed)


def test_review_verify_checks_the_report_of_another_version_by_its_hash(run, reviewed, make_former):
    path = reviewed.slide_file("s2", "report.html")
    state = json.loads(reviewed.slide_file("s2", "slide.json").read_text())
    assert re.fullmatch("[0-9a-f]{64}", state["renderer"])
    make_former(run)
    assert audit_reviews(reviewed).problems == ()
    path.write_text(path.read_text() + "\n")
    assert audit_reviews(reviewed).problems == ("slide 's2': report.html does not match its hash in slide.json",)


@pytest.mark.parametrize("killed_at", ["original-slide.json", "differential.csv", "report.html", "slide.json"])
@pytest.mark.parametrize("settings", [{"adult": True}, {"force": True}, {"max_blur_um": 7}])
def test_run_killed_while_it_publishes_keeps_the_review(run, reviewed, monkeypatch, kill_at, killed_at, settings):
    kill_at(killed_at)
    if (settings, killed_at) == ({"adult": True}, "original-slide.json"):  # the run's own files stay as they are
        run(**settings)
    else:
        with pytest.raises(KeyboardInterrupt):
            run(**settings)
    monkeypatch.undo()
    run(**settings)
    check_reviewed(run, reviewed)


@pytest.mark.parametrize("settings", [{}, {"adult": True}, {"force": True}])
@pytest.mark.parametrize("killed_at", ["cells.csv", "slide.json"])
def test_run_completes_a_review_that_was_killed(run, output, write, monkeypatch, kill_at, killed_at, settings):
    path = write((3, "review", "monocyte"), comment="fine")
    kill_at(killed_at)
    with pytest.raises(KeyboardInterrupt):
        apply_one(output, path)
    monkeypatch.undo()
    run(**settings)
    check_reviewed(run, output)
    with pytest.raises(ReviewRefused, match="already been applied"):
        apply_one(output, path)


def change_cells(run, how):
    if how == "field":
        fakes.draw_field(run.root / "s2" / "f2.png", ["odd"])
    elif how == "added":
        fakes.draw_field(run.root / "s2" / "f3.png", ["basophil"])
    elif how == "removed":
        (run.root / "s2" / "f1.png").unlink()
    elif how == "renamed":
        (run.root / "s2" / "f1.png").rename(run.root / "s2" / "f0.png")
    else:
        run.model = "cd" * 32
        run.classify = lambda rgb: tuple(fakes.predict("basophil") for _ in rgb)


@pytest.mark.parametrize("how", ["field", "added", "removed", "renamed", "model"])
def test_other_cells_end_the_review_and_everything_says_so(run, reviewed, how, caplog):
    kept = reviewed.audit_jsonl.read_bytes()
    change_cells(run, how)
    caplog.set_level(logging.INFO)
    again = ("2 slides processed again: their results are of other models",) if how == "model" else ()
    for notices in ((*again, ENDED), (ENDED,)):  # until someone takes note, every run says it
        caplog.clear()
        assert run(redo_reviewed=True) == 0
        assert tuple(r.getMessage() for r in caplog.records if r.name == "wbctool.notices") == notices
        assert read_run_record(reviewed).notices == (ENDED,)
    assert reviewed.audit_jsonl.read_bytes().startswith(kept)
    assert events(reviewed) == ["cell", "review", "redone"]
    report = read_report(reviewed)
    assert ENDED in format_status_text(report).splitlines()
    assert [entry["slide"] for entry in json.loads(format_status_json(report))["ended_reviews"]] == ["s2"]
    assert "review ended AB</td>" in reviewed.index_html.read_text()
    assert not list(reviewed.slide_folder("s2").glob("original-*"))
    assert audit_reviews(reviewed).problems == ()


KEPT = "1 reviewed slide with results of earlier models kept: s2; --redo-reviewed processes them again"


def test_other_models_leave_reviewed_slides_and_everything_says_so(run, reviewed, caplog):
    before = reviewed.slide_file("s2", "slide.json").read_bytes()
    change_cells(run, "model")
    caplog.set_level(logging.INFO)
    assert run() == 0
    assert reviewed.slide_file("s2", "slide.json").read_bytes() == before
    assert run.rows()["s10"]["basophil_n"] != "0"  # nobody has reviewed it
    again = "1 slide processed again: their results are of other models"
    assert [r.getMessage() for r in caplog.records if r.name == "wbctool.notices"] == [again, KEPT]
    assert read_run_record(reviewed).notices == (KEPT,)
    assert KEPT in format_status_text(read_report(reviewed))
    assert events(reviewed) == ["cell", "review"]


def test_kept_slide_follows_slides_csv_and_limits(run, reviewed):
    """Or a corrected name of a patient would stay away from a report that is final."""
    set_slides_csv(run, "patient,um_per_px", "WRONG,0.1")
    run()
    kept = read_slide_record(reviewed.slide_file("s2", "slide.json"), "s2")
    change_cells(run, "model")
    set_slides_csv(run, "patient,analyser_wbc,um_per_px", "RIGHT,9,0.2")
    for _ in range(2):
        assert run(low_count_below=1, max_blur_um=7) == 0
        record = read_slide_record(reviewed.slide_file("s2", "slide.json"), "s2")
        assert (record.patient, record.metadata.um_per_px) == ("RIGHT", 0.1)  # measured with this scale
        assert record.limits.low_count_below == 1
        assert record.limits.max_blur_um == kept.limits.max_blur_um
        assert record.absolute_counts.classes["monocyte"].value == 3
        assert record.cells_fingerprint == kept.cells_fingerprint
        assert record.provenance.models == kept.provenance.models
        assert read_run_record(reviewed).notices == (KEPT,)
        page = reviewed.slide_file("s2", "report.html").read_text()
        assert "RIGHT" in page
        assert "WRONG" not in page
    (run.root / "slides.csv").unlink()
    run()
    record = read_slide_record(reviewed.slide_file("s2", "slide.json"), "s2")
    assert (record.patient, record.readers) == ("", ("AB",))


def test_kept_slide_follows_back_to_the_models_and_the_words_before(run, reviewed):
    set_slides_csv(run, "patient", "RIGHT")
    run()
    model, classify = run.model, run.classify
    change_cells(run, "model")
    set_slides_csv(run, "patient", "TYPO")
    run(adult=True)
    run.model, run.classify = model, classify
    set_slides_csv(run, "patient", "RIGHT")
    for _ in range(2):
        run()
        record = read_slide_record(reviewed.slide_file("s2", "slide.json"), "s2")
        assert (record.patient, record.limits.adult) == ("RIGHT", False)
        check_reviewed(run, reviewed)
    assert run.looked == []


@pytest.mark.parametrize("fails", ["read", "lost"])
def test_kept_slide_that_cannot_be_brought_up_to_date_keeps_its_review(run, reviewed, monkeypatch, fails):
    change_cells(run, "model")
    set_slides_csv(run, "patient", "RIGHT")
    original = reviewed.slide_file("s2", "original-cells.csv")
    if fails == "lost":
        original.unlink()
    else:
        read_bytes = Path.read_bytes

        def deny(path):
            if path == original:
                raise OSError(errno.EIO, "Input/output error")
            return read_bytes(path)

        monkeypatch.setattr(Path, "read_bytes", deny)
    assert run() == 0
    assert events(reviewed) == ["cell", "review"]
    assert any("its line of slides.csv and the limits are not applied" in n for n in read_run_record(reviewed).notices)
    assert read_slide_record(reviewed.slide_file("s2", "slide.json"), "s2").readers == ("AB",)


@pytest.mark.parametrize("option", ["force", "retry_failed"])
def test_only_redo_reviewed_ends_the_review_of_earlier_models(run, reviewed, option):
    change_cells(run, "model")
    run(**{option: True})
    assert read_slide_record(reviewed.slide_file("s2", "slide.json"), "s2").readers == ("AB",)
    assert events(reviewed) == ["cell", "review"]
    run(redo_reviewed=True, **{option: True})
    assert events(reviewed) == ["cell", "review", "redone"]


def test_image_that_cannot_be_read_for_a_while_keeps_the_review(run, reviewed, monkeypatch, caplog):
    before = {path: path.read_bytes() for path in reviewed.slide_folder("s2").iterdir()}
    os.utime(run.root / "s2" / "f2.png", (1, 1))
    path_open = Path.open

    def deny(path, *args, **kwargs):
        if path == run.root / "s2" / "f2.png":
            raise OSError(errno.EIO, "Input/output error")
        return path_open(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", deny)
    assert run() == 3
    assert "'f2.png' cannot be read now; the slide's reviewed results stay" in caplog.text
    assert {path: path.read_bytes() for path in before} == before
    assert run.rows()["s2"]["status"] == "failed"
    assert 'href="counts/s2' not in reviewed.index_html.read_text()
    (skipped,) = (slide for slide in read_published_slides(reviewed) if isinstance(slide, SkippedSlide))
    assert (skipped.slide, skipped.reason) == ("s2", "the last run could not process it")
    monkeypatch.undo()
    assert run() == 0
    check_reviewed(run, reviewed)


def test_image_that_never_had_a_hash_does_not_keep_a_slide_from_being_processed(run, reviewed):
    (run.root / "s2" / "large.png").write_bytes(b"\0" * 2_000_000)
    run(max_megapixels=0.1)
    assert read_slide_record(reviewed.slide_file("s2", "slide.json"), "s2").readers == ("AB",)
    change_cells(run, "added")
    run(max_megapixels=0.1)
    assert "f3.png" in run.looked
    assert run.rows()["s2"]["status"] == "partial"
    assert events(reviewed)[-1] == "redone"


def test_review_of_a_slide_without_cells_holds_for_no_other_images(run, output, write):
    fakes.draw_field(run.root / "empty" / "f.png", [])
    run()
    page = output.slide_file("empty", "report.html").read_text()
    results = re.search('"results": ?"([0-9a-f]{64})"', page).group(1)
    review = write(slide="empty", results=results, comment="no cells, indeed")
    apply_one(output, review)
    run(adult=True)
    assert read_slide_record(output.slide_file("empty", "slide.json")).readers == ("AB",)
    path = run.root / "empty" / "f.png"
    path.write_bytes(path.read_bytes() + b"another photograph")
    run()
    assert events(output)[-1] == "redone"
    assert read_slide_record(output.slide_file("empty", "slide.json")).readers == ()
    with pytest.raises(ReviewRefused, match="different results"):
        apply_one(output, review)


def test_review_of_a_slide_that_failed_as_a_whole_leaves_its_row(run, output, write, monkeypatch):
    path = write((3, "review", "monocyte"), comment="fine")
    scandir = os.scandir

    def deny(folder):
        if os.fspath(folder) == str(run.root / "s2"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", deny)
    assert run() == 3
    row = run.rows()["s2"]
    assert (row["status"], row["cells"], row["counted"]) == ("failed", "0", "0")
    apply_one(output, path)
    assert run.rows()["s2"] == row
    assert audit_reviews(output).problems == ()
    assert {slide.slide for slide in read_published_slides(output) if isinstance(slide, SkippedSlide)} == {"s2"}


def test_other_models_and_another_image_end_the_review(run, reviewed):
    change_cells(run, "model")
    change_cells(run, "field")
    assert run() == 0
    assert events(reviewed) == ["cell", "review", "redone"]


def test_dry_run_names_the_reviews_that_may_end(run, reviewed, capsys):
    from wbctool.cli.progress import DryRunProgress

    change_cells(run, "field")
    run.progress = DryRunProgress()
    run(dry_run=True)
    assert "s2: to do, 2 fields, reviewed by AB\n" in capsys.readouterr().out


def test_ended_review_is_settled_by_another_review(run, reviewed, write, caplog):
    change_cells(run, "field")
    run()
    apply_one(reviewed, write(reader="CD"))
    assert find_ended_reviews(reviewed) == {}
    page = reviewed.index_html.read_text()
    assert "review ended" not in page
    assert ">CD</td>" in page
    assert "review ended" not in format_status_text(read_report(reviewed))
    caplog.clear()
    run()
    assert "review ended" not in caplog.text
    change_cells(run, "added")
    run()
    assert find_ended_reviews(reviewed)["s2"].readers == ("CD",)


def acknowledge(output, *args):
    return CliRunner().invoke(app, ["review", "acknowledge", str(output.counts_csv), *args])


@pytest.mark.parametrize("named", [[], ["s2"]])
def test_acknowledged_end_is_listed_no_more(run, reviewed, named, caplog):
    change_cells(run, "field")
    run()
    done = acknowledge(reviewed, *named, "--reader", "EF")
    assert (done.exit_code, done.stdout) == (0, "s2: acknowledged by EF\n")
    assert "review ended" not in reviewed.index_html.read_text()
    assert "review ended" not in format_status_text(read_report(reviewed))
    assert audit_reviews(reviewed).problems == ()
    caplog.clear()
    run()
    assert "review ended" not in caplog.text
    assert acknowledge(reviewed, "--reader", "EF").stdout == "no review has ended\n"
    assert events(reviewed) == ["cell", "review", "redone", "acknowledged"]


@pytest.mark.parametrize(
    ("args", "why"),
    [(["s10", "--reader", "EF"], "slide 's10' has no review that ended"), (["--reader", " "], "initials")],
)
def test_acknowledge_refuses(run, reviewed, args, why):
    change_cells(run, "field")
    run()
    done = acknowledge(reviewed, *args)
    assert done.exit_code == 1
    assert why in done.stderr
    assert events(reviewed)[-1] == "redone"


def test_acknowledge_waits_for_no_run_and_finds_names_as_counts_csv_has_them(run, output, write):
    fakes.draw_field(run.root / "=s\udcff" / "f.png", ["review"])
    run()
    review = write(slide="=s\udcff", results=fakes.hash_cells(output.slide_file("=s\udcff", "cells.csv")))
    apply_one(output, review)
    fakes.draw_field(run.root / "=s\udcff" / "f.png", ["odd"])
    run()
    with lock_output(output), pytest.raises(OutputLocked):
        acknowledge_ended_reviews(output, [], "EF")
    assert acknowledge_ended_reviews(output, ["'=s\\xff"], "EF") == ["=s\udcff"]


def test_many_ended_reviews_are_one_line():
    ended = [EndedReview(f"s{i}", ("AB",), "") for i in range(30)]
    (line,) = describe_ended_reviews(ended)
    assert line.startswith("reviews ended: 30 reviewed slides have other cells since a later run: 's0', 's1', ")
    assert " and 20 more; " in line
    assert len(describe_ended_reviews(ended[:10])) == 10


def test_run_killed_after_it_noted_the_end_says_so_the_next_time(run, reviewed, monkeypatch, kill_at):
    change_cells(run, "field")
    kill_at("slide.json")
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    assert find_ended_reviews(reviewed) == {}  # its results are still there
    run()
    assert set(find_ended_reviews(reviewed)) == {"s2"}


def test_review_of_a_lost_audit_log_ends_loudly(run, reviewed, caplog):
    reviewed.audit_jsonl.unlink()
    run(adult=True)
    assert "review ended: slide 's2', reviewed, has other cells" in caplog.text


def test_damaged_audit_log_keeps_the_reviewed_results(run, reviewed, caplog):
    before = {path: path.read_bytes() for path in reviewed.slide_folder("s2").iterdir()}
    reviewed.audit_jsonl.write_text(reviewed.audit_jsonl.read_text().replace("AB", "XY"))
    assert run(adult=True) == 3
    assert "does not follow from the line before it" in caplog.text
    assert {path: path.read_bytes() for path in before} == before


class TestReviewFiles:
    def test_slide_is_found_whatever_the_name_of_the_file(self, output, write):
        path = write((3, "review", "monocyte"), name="review-s10 (1).json")
        assert apply_one(output, path).slide == "s2"

    def test_folder_stands_for_its_files_in_the_order_of_their_times(self, run, output, write, tmp_path):
        first = write((3, "review", "monocyte"), name="z.json")
        apply_one(output, first)
        later = write((3, "monocyte", "basophil"), name="A.JSON", reader="CD", time="2026-01-03T00:00:00Z")
        (tmp_path / "from-readers").mkdir()
        for path in (first, later):
            path.rename(tmp_path / "from-readers" / path.name)
        other = type(run)(run.root, tmp_path / "other" / "counts.csv")
        other()
        done = CliRunner().invoke(app, ["review", "apply", str(other.out), str(tmp_path / "from-readers")])
        assert (done.exit_code, done.stderr) == (0, "")
        record = read_slide_record(OutputPaths(other.out).slide_file("s2", "slide.json"))
        assert record.readers == ("AB", "CD")
        (tmp_path / "empty").mkdir()
        done = CliRunner().invoke(app, ["review", "apply", str(other.out), str(tmp_path / "empty")])
        assert (done.exit_code, "has no .json file" in done.stderr) == (1, True)
