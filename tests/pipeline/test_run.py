"""A folder of slides: results, resume, waiting, stopping."""

import csv
import errno
import hashlib
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

import wbctool
from wbctool.cli.progress import NullProgress
from wbctool.cli.run import stop_on_signals
from wbctool.errors import FieldImplausible, FieldWronglySaved, OutputNotWritable, SettingsInvalid, SlidesNotFound
from wbctool.labels import CellClass
from wbctool.paths import OutputPaths
from wbctool.pipeline.plan import Action
from wbctool.store.reader import read_published_slides
from wbctool.store.run_summary import format_run_summary
from wbctool.types.cells import Outcome, Reason


def manifest(run):
    return json.loads((run.folder / "run.json").read_text())


def in_an_hour():
    """A clock by which every file of the test is an hour old or older."""
    return time.time() + 3600


def test_run_matches_results_worked_by_hand(run):
    assert run() == 0
    rows = run.rows()
    assert list(rows) == ["s2", "s10"]
    s10 = rows["s10"]
    assert [s10[c] for c in ("status", "fields", "fields_failed", "cells", "counted", "review", "not_wbc")] == [
        *("ok", "1", "0", "12", "10", "0", "2")
    ]
    # 9 and 1 of 10: the exact intervals are 55.50 to 99.75 and 0.25 to 44.50
    assert [s10[f"neutrophil_{c}"] for c in ("n", "pct", "ci95_low", "ci95_high")] == ["9", "90.00", "55.50", "99.75"]
    assert [s10[f"monocyte_{c}"] for c in ("n", "pct", "ci95_low", "ci95_high")] == ["1", "10.00", "0.25", "44.50"]
    assert s10["nrbc_per_100_wbc"] == "10.00"
    assert s10["flags"] == "low_count;nrbc"
    assert (rows["s2"]["counted"], rows["s2"]["review"], rows["s2"]["flags"]) == (
        "2",
        "1",
        "low_count;high_review_share",
    )
    for slide in rows:
        # A slow run also leaves .seen.json, as the fields are old enough by then.
        assert sorted(p.name for p in (run.folder / slide).iterdir() if not p.name.startswith(".")) == [
            "cells.csv",
            "differential.csv",
            "report.html",
            "slide.json",
            "thumbnails.zip",
        ]


def test_slide_json_holds_the_hashes_of_the_other_files(run):
    run()
    state = json.loads((run.folder / "s2" / "slide.json").read_text())
    assert state["status"] == "ok"
    assert [f["name"] for f in state["fields"]] == ["f1.png", "f2.png"]
    assert state["fields"][0]["sha256"] == hashlib.sha256((run.root / "s2" / "f1.png").read_bytes()).hexdigest()
    assert state["files"] == {
        name: hashlib.sha256((run.folder / "s2" / name).read_bytes()).hexdigest()
        for name in ("differential.csv", "cells.csv", "report.html", "thumbnails.zip")
    }


def test_run_json_records_the_run(run):
    run(workers=3)
    written = manifest(run)
    assert written["settings"]["workers"] == 3
    assert written["argv"] == ["wbctool", "run"]
    assert (written["device"], written["provider"], written["precision"]) == ("cpu", "CPUExecutionProvider", "fp32")
    assert written["models"] == {"classifier.onnx": "ab" * 32}
    assert (written["exit_code"], written["stopped_by"], written["counts"]) == (0, None, {"ok": 2})
    assert [s["slide"] for s in written["slides"]] == ["s2", "s10"]
    assert {"read", "check", "detect", "crop", "picture", "quality", "prepare", "classify", "write"} == set(
        written["seconds"]
    )
    assert written["start"] <= written["end"]


def test_run_json_has_the_numbers_of_the_table(run):
    (run.root / "s2" / "bad.png").write_bytes(b"")
    run()
    recorded = {entry["slide"]: entry for entry in manifest(run)["slides"]}
    for slide, row in run.rows().items():
        for name in ("fields", "fields_failed", "cells", "counted"):
            assert recorded[slide][name] == int(row[name])


def test_run_json_is_written_at_the_start(run):
    ends = []

    def detect(field):
        ends.append(manifest(run)["end"])
        return fakes.detect(field)

    run.detect = detect
    run()
    assert ends == [None] * 3


def test_up_to_date_slide_is_not_processed_again(run):
    run()
    before = run.tree()
    assert run() == 0
    assert run.looked == []
    assert run.tree() == before


def test_second_run_does_not_read_unchanged_fields(run, monkeypatch):
    run.now = in_an_hour  # or the fields would be so new that they might change again within a tick of the clock
    run()
    monkeypatch.setattr("wbctool.store.hash_cache.read_image_bytes", None)
    assert run() == 0
    assert run.looked == []


def test_third_run_does_not_read_unchanged_results(run, monkeypatch):
    run()
    run.now = in_an_hour
    run()  # reads the results once more, and remembers their times
    read, was_read = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda path: was_read.append(path.name) or read(path))
    assert run() == 0
    assert not {"cells.csv", "report.html", "differential.csv", "f1.png"} & set(was_read)
    (run.folder / "s2" / "cells.csv").write_text("altered")
    run()
    assert sorted(run.looked) == ["f1.png", "f2.png"]


GOLDEN_TABLES = {8: "9f15aa5cd74c0e4c5c87b42fb549b841511915e4f4bc535c2fff58dcd409f6b0"}


def test_changed_results_need_another_results_version(run):
    """If this fails, laboratories must process their slides again: raise RESULTS_VERSION, and put its hash here.

    Not for a column of ``LATER_CELL_COLUMNS``, which the tables of slides that are up to date may lack.
    """
    run()
    tables = [content for name, content in sorted(run.tree().items()) if name.endswith(".csv")]
    assert hashlib.sha256(b"".join(tables)).hexdigest() == GOLDEN_TABLES[wbctool.RESULTS_VERSION]


def test_diameter_follows_the_scale_and_is_empty_without_one(run):
    run()
    assert {cell["diameter_um"] for cell in read_cells(run, "s2")} == {""}
    (run.root / "slides.csv").write_text("slide,um_per_px\ns2,0.5\n")
    run()
    assert {cell["diameter_um"] for cell in read_cells(run, "s2")} == {"8.0"}  # of 16 pixels
    slides = {slide.result.slide: slide.result for slide in read_published_slides(OutputPaths(run.out))}
    assert {cell.diameter_um for cell in slides["s2"].cells} == {8.0}
    assert {cell.diameter_um for cell in slides["s10"].cells} == {None}


def read_cells(run, slide):
    with (run.folder / slide / "cells.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_without_hash_cache_the_content_decides(run):
    run()
    (run.folder / ".seen.json").write_text("not json")
    for path in run.root.rglob("*.png"):
        os.utime(path, (1, 1))
    assert run() == 0
    assert run.looked == []


def test_changed_field_of_the_same_size_and_time_is_processed(run):
    path = run.root / "s2" / "f2.png"
    fakes.draw_field(path, ["review"])
    run()
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the end of the file's last chunk: the size stays, the pixels too
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    run()
    assert "f2.png" in run.looked


@pytest.mark.parametrize("change", ["field", "new field", "gone field", "setting", "model", "result", "lost result"])
def test_slide_is_processed_again_if_anything_it_depends_on_changes(run, change):
    run()
    settings = {}
    if change == "field":
        fakes.draw_field(run.root / "s2" / "f2.png", ["monocyte"])
    elif change == "new field":
        fakes.draw_field(run.root / "s2" / "f3.png", ["monocyte"])
    elif change == "gone field":
        (run.root / "s2" / "f2.png").unlink()
    elif change == "setting":
        settings = {"max_blur_um": 0.9}
    elif change == "model":
        run.model = "cd" * 32
    elif change == "result":
        (run.folder / "s2" / "cells.csv").write_text("tampered with")
    else:
        (run.folder / "s2" / "report.html").unlink()
    assert run(**settings) == 0
    assert "f1.png" in run.looked
    fresh = type(run)(run.root, run.out.parent.parent / "fresh" / "counts.csv")
    fresh.model = run.model
    fresh(**settings)
    assert run.tree() == fresh.tree()


def test_force_processes_all_slides_again(run):
    run()
    run(force=True)
    assert len(run.looked) == 3


def test_removed_slide_loses_its_row_and_keeps_its_folder(run):
    run()
    (run.root / "s10" / "f1.png").unlink()
    run()
    assert list(run.rows()) == ["s2"]
    assert (run.folder / "s10" / "slide.json").exists()


@pytest.mark.parametrize("settings", [{"workers": 4}, {"batch_size": 1}, {"workers": 3, "batch_size": 2}])
def test_workers_and_batch_size_change_no_byte(run, tmp_path, settings):
    for i in range(12):
        fakes.draw_field(run.root / "s2" / f"more{i}.png", fakes.NAMES[: i % 7])
    (run.root / "s2" / "more5.png").write_bytes(b"broken")
    other = type(run)(run.root, tmp_path / "other" / "counts.csv")
    assert run(workers=1) == other(**settings) == 3
    assert run.tree() == other.tree()


IMPOSSIBLE_SCALE = (
    "slide 's2': red cells measure 40.0 µm by um_per_px in slides.csv, which must be wrong; focus is not judged"
)


class TestNotices:
    def measure_impossible(self, monkeypatch):
        from wbctool.pipeline import field_worker

        def measure(*args, measure=field_worker.measure_quality):
            return replace(measure(*args), red_cell_um=40.0 if args[-1] else None)

        monkeypatch.setattr(field_worker, "measure_quality", measure)

    def test_impossible_scale_is_noticed_on_every_run(self, run, monkeypatch, caplog):
        self.measure_impossible(monkeypatch)
        (run.root / "slides.csv").write_text("slide,um_per_px\ns2,5\n")
        for looked in (3, 0):
            caplog.clear()
            assert run() == 0
            assert len(run.looked) == looked
            assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
                IMPOSSIBLE_SCALE
            ]
            assert manifest(run)["notices"] == [IMPOSSIBLE_SCALE]
            assert "red cells measure 40.0 µm" in (run.folder / "index.html").read_text()

    def test_notices_name_other_models_as_the_cause_of_processing_slides_again(self, run, caplog):
        def notices(model, **options):
            run.model = model
            caplog.clear()
            run(**options)
            return [record.getMessage() for record in caplog.records if record.name == "wbctool.notices"]

        run()
        assert notices("cd" * 32) == ["2 slides processed again: their results are of other models"]
        assert manifest(run)["notices"] == []  # a later run, or the index page after a review, must not repeat it
        assert notices("cd" * 32) == []
        assert notices("ef" * 32, force=True) == []  # the cause is the option

    def test_notices_of_input_are_in_run_json_from_the_start(self, run):
        (run.root / "slides.csv").write_text("slide,age\ngone,5\n")
        seen = []

        def detect(field):
            seen.extend(manifest(run)["notices"])
            return fakes.detect(field)

        run.detect = detect
        run()
        assert set(seen) == {"slides.csv names slides that do not exist: gone"}


class TestFailures:
    def test_failure_stays_in_its_field(self, run, real_jpeg):
        (run.root / "s2" / "short.jpg").write_bytes(real_jpeg.read_bytes()[:-700])
        assert run() == 3
        rows = run.rows()
        assert (rows["s2"]["status"], rows["s10"]["status"]) == ("partial", "ok")
        assert (rows["s2"]["fields"], rows["s2"]["fields_failed"], rows["s2"]["counted"]) == ("3", "1", "2")
        assert "failed_fields" in rows["s2"]["flags"]
        (error,) = manifest(run)["slides"][0]["errors"]
        assert (error["slide"], error["field"], error["stage"]) == ("s2", "short.jpg", "read")
        assert "incomplete" in error["cause"]

    def test_implausible_field_fails_by_name_and_is_not_retried(self, run, monkeypatch):
        checked = []

        def refuse_f2(field):
            checked.append(field.name)
            if field.name == "f2.png":
                raise FieldImplausible("too dark")

        stages = fakes.fake_stages
        monkeypatch.setattr(fakes, "fake_stages", lambda *args: replace(stages(*args), check=refuse_f2))
        assert run() == run() == 3
        rows = run.rows()
        assert (rows["s2"]["status"], rows["s2"]["fields_failed"], rows["s2"]["cells"]) == ("partial", "1", "2")
        (error,) = manifest(run)["slides"][0]["errors"]
        assert (error["field"], error["stage"], error["cause"]) == ("f2.png", "check", "too dark")
        assert sorted(checked) == ["f1.png", "f1.png", "f2.png"]

    @pytest.mark.parametrize(("n_fields", "is_held_back"), [(2, True), (4, False)])
    def test_cells_go_to_review_if_many_fields_are_wrongly_saved(self, run, monkeypatch, n_fields, is_held_back):
        fakes.draw_field(run.root / "s2" / "f1.png", ["neutrophil", "platelet", "lymphocyte"])
        for number in range(3, n_fields + 1):
            fakes.draw_field(run.root / "s2" / f"f{number}.png", ["neutrophil"] * number)

        def refuse_f2(field):
            if field.name == "f2.png":
                raise FieldWronglySaved("red and blue are exchanged")

        def see_blasts(rgb):
            return tuple(
                replace(p, outcome=Outcome.NEEDS_REVIEW, reason=Reason.POSSIBLE_BLAST)
                if p.label is CellClass.LYMPHOCYTE
                else p
                for p in fakes.classify(rgb)
            )

        run.classify = see_blasts
        stages = fakes.fake_stages
        monkeypatch.setattr(fakes, "fake_stages", lambda *args: replace(stages(*args), check=refuse_f2))
        assert run() == 3
        row = run.rows()["s2"]
        assert row["fields_failed"] == "1"
        assert (row["counted"] == "0", row["review"] == row["cells"]) == (is_held_back, is_held_back)
        assert ("out_of_domain" in row["flags"]) == is_held_back
        with (run.folder / "s2" / "cells.csv").open(newline="") as lines:
            reasons = [cell["reason"] for cell in csv.DictReader(lines) if cell["field"] == "f1.png"]
        held_back = ["out_of_distribution", "out_of_distribution", "possible_blast"]
        assert reasons == (held_back if is_held_back else ["", "platelet", "possible_blast"])
        page = (run.folder / "s2" / "report.html").read_text()
        assert ("Many fields have wrong colors" in page) == is_held_back
        assert "low_count" in row["flags"]
        assert ("Add fields" in page) == (not is_held_back)
        assert not is_held_back or "Classify those cells first" not in page

    def test_slide_with_all_fields_failed_is_failed(self, run):
        for path in (run.root / "s2").iterdir():
            path.write_bytes(b"")
        assert run() == 3
        row = run.rows()["s2"]
        assert (row["status"], row["fields_failed"], row["cells"]) == ("failed", "2", "0")
        assert (row["neutrophil_n"], row["neutrophil_pct"]) == ("0", "")
        assert "no_wbc" not in row["flags"]

    def test_failure_is_not_retried_but_still_reported(self, run):
        (run.root / "s2" / "f1.png").write_bytes(b"")
        run()
        before = run.tree()
        assert run() == 3
        assert run.looked == []
        assert run.tree() == before
        assert manifest(run)["slides"][0]["errors"][0]["field"] == "f1.png"

    def test_failure_is_retried_if_asked_or_if_the_field_changes(self, run):
        (run.root / "s2" / "f1.png").write_bytes(b"")
        run()
        assert run(retry_failed=True) == 3
        assert run.looked == ["f2.png"]
        fakes.draw_field(run.root / "s2" / "f1.png", ["neutrophil"])
        assert run() == 0

    @pytest.mark.parametrize("batch_size", [1, 64])
    def test_classifier_failure_falls_on_the_field_at_fault(self, run, batch_size):
        def classify(rgb):
            if (rgb == fakes.COLORS["review"]).all(axis=-1).any():
                raise RuntimeError("bad\ncell")
            return fakes.classify(rgb)

        run.classify = classify
        assert run(batch_size=batch_size) == 3
        (error,) = manifest(run)["slides"][0]["errors"]
        cause = "RuntimeError: bad cell"
        expected = {"slide": "s2", "field": "f2.png", "stage": "classify", "cause": cause, "is_wrongly_saved": False}
        assert error == expected
        assert run.rows()["s2"]["counted"] == "2"

    def test_machine_failure_is_retried_without_being_asked(self, run):
        def detect(field):
            raise RuntimeError("CUDA failure 719")

        run.detect = detect
        assert run() == 3
        run.detect = fakes.detect
        assert run() == 0

    def test_memory_error_is_a_failure_of_the_machine(self, run, monkeypatch):
        from wbctool.pipeline import field_source

        def decode(data, limit):
            raise MemoryError

        monkeypatch.setattr(field_source, "decode_rgb", decode)
        assert run() == 3
        assert manifest(run)["slides"][0]["errors"][0]["stage"] == "memory"
        monkeypatch.undo()
        assert run() == 0

    def test_report_failure_stays_in_its_slide(self, run, monkeypatch):
        from wbctool.store import slide_writer

        def render(result, *args, render=slide_writer.render_report):
            if result.slide == "s2":
                raise ZeroDivisionError("a defect")
            return render(result, *args)

        monkeypatch.setattr(slide_writer, "render_report", render)
        assert run() == 3
        assert [row["status"] for row in run.rows().values()] == ["failed", "ok"]
        monkeypatch.undo()
        assert run() == 0

    def test_max_failures_stops_the_run(self, run):
        for slide in ("s2", "s10"):
            (run.root / slide / "f1.png").write_bytes(b"")
        assert run(max_failures=1) == 3
        assert [row["status"] for row in run.rows().values()] == ["partial", "waiting"]
        assert manifest(run)["stopped_by"] == "max_failures"

    def test_unreached_changed_slide_waits_with_its_earlier_numbers(self, run):
        run()
        before = run.rows()["s10"]
        for field in ("s2/f1.png", "s10/f9.png"):
            (run.root / field).write_bytes(b"")
        assert run(max_failures=1) == 3
        assert run.rows()["s10"] == before | {"status": "waiting"}

    def test_unlistable_folder_fails_and_slides_below_it_wait(self, run, monkeypatch):
        fakes.draw_field(run.root / "s2" / "a" / "f1.png", ["neutrophil"])
        run()
        before, earlier = run.rows(), run.tree()
        scandir = os.scandir

        def deny(path):
            if Path(path) == run.root / "s2":
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", deny)
        assert run() == 3
        rows = run.rows()
        assert {name: row["status"] for name, row in rows.items()} == {"s2": "failed", "s2/a": "waiting", "s10": "ok"}
        assert rows["s2/a"] == before["s2/a"] | {"status": "waiting"}
        monkeypatch.undo()
        assert run() == 0
        assert run.looked == []  # what was there is still there
        assert run.tree() == earlier


class TestWaiting:
    SETTLE_S = 600.0

    def test_just_modified_slide_waits(self, run):
        run.now = in_an_hour
        os.utime(run.root / "s10" / "f1.png", (in_an_hour(),) * 2)
        assert run(settle_s=self.SETTLE_S) == 0
        rows = run.rows()
        assert [row["status"] for row in rows.values()] == ["ok", "waiting"]
        assert [rows["s10"][c] for c in ("fields", "cells", "neutrophil_n", "neutrophil_pct", "flags")] == [
            *("1", "0", "0", "", "")
        ]
        assert not (run.folder / "s10").exists()
        assert run() == 0
        assert rows["s2"] == run.rows()["s2"]
        assert run.rows()["s10"]["status"] == "ok"

    def test_earlier_results_of_a_waiting_slide_stay(self, run):
        run()
        before = (run.folder / "s10" / "cells.csv").read_bytes()
        fakes.draw_field(run.root / "s10" / "f1.png", ["monocyte"])
        run(settle_s=self.SETTLE_S)
        row = run.rows()["s10"]
        assert (row["status"], row["cells"]) == ("waiting", "12")
        assert (run.folder / "s10" / "cells.csv").read_bytes() == before

    def test_times_a_year_ahead_do_not_make_a_slide_wait(self, run):
        for path in run.root.rglob("*.png"):
            os.utime(path, (time.time() + 3e7,) * 2)
        run.now = in_an_hour
        run(settle_s=self.SETTLE_S)
        assert {row["status"] for row in run.rows().values()} == {"ok"}

    def test_copy_with_the_time_of_its_original_waits(self, run):
        frozen_at = time.time()
        run.now = lambda: frozen_at + self.SETTLE_S  # what has changed until now is settled, what changes next is not
        copy = run.root / "s10" / "f2.png"
        shutil.copy2(run.root / "s2" / "f1.png", copy)
        os.utime(copy, (1, 1))
        while copy.stat().st_ctime <= frozen_at:  # a file system's clock ticks every few milliseconds
            os.utime(copy, (1, 1))
        run(settle_s=self.SETTLE_S)
        assert [row["status"] for row in run.rows().values()] == ["ok", "waiting"]

    @pytest.mark.parametrize("change", ["add", "remove", "gone"])
    def test_slide_that_changes_during_the_run_waits(self, run, change):
        def detect(field):
            if change == "add":
                fakes.draw_field(run.root / "s10" / "f2.png", ["neutrophil"])
            elif change == "remove":
                (run.root / "s10" / "f1.png").unlink(missing_ok=True)
            else:
                shutil.rmtree(run.root / "s10", ignore_errors=True)
            return fakes.detect(field)

        run.detect = detect
        for i in range(3, 23):  # more than are analyzed ahead of their turn
            fakes.draw_field(run.root / "s2" / f"f{i}.png", ["neutrophil"])
        assert run(workers=1) == 0
        assert [row["status"] for row in run.rows().values()] == ["ok", "waiting"]
        assert not (run.folder / "s10").exists()
        run.detect = fakes.detect
        assert run() == 0
        assert list(run.rows()) == (["s2", "s10"] if change == "add" else ["s2"])


class TestStopping:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_signal_ends_the_run_after_the_field(self, run, number, code):
        def detect(field):
            if field.rgb.shape[0] > fakes.GRID_PX:  # the one field of s10
                os.kill(os.getpid(), number)
            return fakes.detect(field)

        run.detect = detect
        for i in range(30):  # more than are analyzed ahead of their turn
            fakes.draw_field(run.root / "s5" / f"f{i}.png", ["neutrophil"])
        before = signal.getsignal(signal.SIGINT)
        with stop_on_signals(run.stop):
            assert run(workers=1) == code
        assert [row["status"] for row in run.rows().values()] == ["ok", "waiting", "waiting"]
        assert manifest(run)["stopped_by"] == number.name
        assert signal.getsignal(signal.SIGINT) is before
        run.stop.signal = None
        run.detect = fakes.detect
        assert run() == 0
        assert len(run.looked) == 31  # s5 and s10

    def test_signal_before_the_first_slide_changes_no_row(self, run):
        (run.root / "s2" / "f2.png").write_bytes(b"")
        assert run() == 3
        before = run.tree()
        run.stop.signal = signal.SIGTERM
        assert run() == 143
        assert run.tree() == before

    def test_signal_does_not_wait_for_a_whole_batch(self, run):
        fakes.draw_field(run.root / "s2" / "f3.png", ["neutrophil"] * 60)
        batches = []

        def classify(rgb):
            batches.append(len(rgb))
            run.stop.signal = signal.SIGTERM
            return fakes.classify(rgb)

        run.classify = classify
        assert run(batch_size=64) == 143
        assert sum(batches) <= 8
        assert not (run.folder / "s2").exists()

    @pytest.mark.slow
    def test_run_killed_at_any_write_is_continued_by_the_next(self, run, tmp_path):
        (run.root / "s2" / "f2.png").write_bytes(b"broken")
        reference = type(run)(run.root, tmp_path / "reference" / "counts.csv")
        assert reference() == 3
        for kill_at in range(1, 100):
            attempt = type(run)(run.root, tmp_path / f"killed{kill_at}" / "counts.csv")
            if not killed_at_sync(attempt, kill_at):
                break
            for path in attempt.folder.rglob("slide.json"):
                json.loads(path.read_text())  # whole, or not there
            assert attempt() == 3
            assert attempt.tree() == reference.tree()
            assert not list(attempt.out.parent.rglob(".tmp-*"))
        assert kill_at > 20  # 13 files, each synced with its folder


def killed_at_sync(run, n):
    """Run in a child that is killed at its n-th fsync. Whether it was."""
    pid = os.fork()
    if pid == 0:
        sync, calls = os.fsync, []

        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) == n:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(descriptor)

        os.fsync = fsync
        try:
            run()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


class TestOutput:
    def test_full_disk_leaves_earlier_results(self, run, monkeypatch):
        run()
        before = run.tree()
        sync, calls = os.fsync, []

        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) > 8:
                raise OSError(28, "No space left on device")
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(OutputNotWritable, match="No space left on device"):
            run(force=True)
        monkeypatch.undo()
        assert run.tree() == before
        assert run() == 0

    def test_file_in_place_of_the_results_folder_raises(self, run):
        run.out.parent.mkdir()
        run.folder.write_text("in the way")
        with pytest.raises(OutputNotWritable):
            run()
        assert run.folder.read_text() == "in the way"

    def test_file_in_place_of_one_slides_folder_fails_that_slide_alone(self, run):
        run.folder.mkdir(parents=True)
        (run.folder / "s2").write_text("in the way")
        assert run() == 3
        assert [row["status"] for row in run.rows().values()] == ["failed", "ok"]
        (error,) = manifest(run)["slides"][0]["errors"]
        assert error["stage"] == "write"
        (run.folder / "s2").unlink()
        assert run() == 0

    def test_slide_with_too_long_path_fails_alone(self, run):
        deep = run.root / "s1"
        names = ["n" * 250] * 15
        fakes.draw_field(deep.joinpath(*names) / "f.png", ["neutrophil"])
        out = run.out.parent.joinpath(*["o" * 250] * 2) / "counts.csv"
        assert run(out=out) == 3
        with out.open(newline="") as lines:
            assert [row["status"] for row in csv.DictReader(lines)] == ["failed", "ok", "ok"]
        results = json.loads(format_run_summary(OutputPaths(out)))["results"]
        assert [result["report"] is None for result in results] == [True, False, False]
        assert set(wbctool.read_cells(out)["slide"]) == {"s2", "s10"}

    @pytest.mark.parametrize("out", ["slides.csv", "slides/s2.csv"])
    def test_results_in_the_folder_of_slides_are_refused(self, run, out):
        with pytest.raises(SettingsInvalid, match="which holds the slides"):
            run(out=run.root.parent / out)

    def test_results_among_the_slides_are_no_slides(self, run):
        run.out = run.root / "counts.csv"
        assert run() == 0
        again = type(run)(run.root, run.root / "again.csv")
        assert again() == 0
        assert list(again.rows()) == list(run.rows()) == ["s2", "s10"]

    def test_figures_among_the_slides_are_no_slides(self, run):
        fakes.draw_field(run.root / "fit" / "confusion.png", ["neutrophil"])
        (run.root / "fit" / "verification.json").write_text('{\n "schema": "wbctool-verification/1",\n "data": "x"\n}')
        assert run() == 0
        assert list(run.rows()) == ["s2", "s10"]

    @pytest.mark.parametrize("place", ["", "s2"])
    def test_results_beside_a_slide_do_not_make_it_wait(self, run, place):
        fakes.draw_field(run.root / "f1.png", ["neutrophil"])
        long_ago = time.time() - 3600
        for path in [*run.root.rglob("*.png"), run.root, run.root / "s2", run.root / "s10"]:
            os.utime(path, (long_ago, long_ago))
        frozen_at = time.time()
        run.now = lambda: (
            frozen_at + TestWaiting.SETTLE_S
        )  # the results that the first run writes are new by this clock
        run.out = run.root / place / "counts.csv"
        for _ in range(2):  # the second time, the first one's results are new
            assert run(settle_s=TestWaiting.SETTLE_S) == 0
            assert {row["status"] for row in run.rows().values()} == {"ok"}
        fakes.draw_field(run.root / place / "f1.png", ["monocyte"])
        run(settle_s=TestWaiting.SETTLE_S)
        changed = place or run.root.name
        assert [name for name, row in run.rows().items() if row["status"] == "waiting"] == [changed]

    def test_unlistable_root_leaves_the_table(self, run, monkeypatch):
        run()
        before, scandir = run.tree(), os.scandir

        def deny(path):
            if Path(path) == run.root:
                raise OSError(errno.ESTALE, "Stale file handle")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", deny)
        with pytest.raises(SlidesNotFound, match="slides cannot be listed: Stale file handle"):
            run()
        assert run.tree() == before

    def test_unwritable_table_raises_before_the_first_slide(self, run, monkeypatch):
        run()
        touch = Path.touch

        def deny(path, *how, **else_):
            if path.parent == run.out.parent:
                raise PermissionError(errno.EACCES, "Permission denied")
            touch(path, *how, **else_)

        monkeypatch.setattr(Path, "touch", deny)
        with pytest.raises(OutputNotWritable, match=r"counts\.csv cannot be written: Permission denied"):
            run(force=True)
        assert run.looked == []

    def test_without_images_nothing_is_written(self, run):
        for path in run.root.rglob("*.png"):
            path.unlink()
        with pytest.raises(SlidesNotFound):
            run()
        assert not run.out.parent.exists()

    def test_dry_run_writes_nothing(self, run):
        plans = []

        class Note(NullProgress):
            def plan_ready(self, plan):
                plans.append([(p.slide.id, p.action) for p in plan])

        run.progress = Note()
        assert run(dry_run=True) == 0
        assert not run.out.parent.exists()
        run()
        fakes.draw_field(run.root / "s2" / "f2.png", ["monocyte"])
        before = run.tree()
        run(dry_run=True)
        assert run.tree() == before
        assert plans[0] == [("s2", Action.PROCESS), ("s10", Action.PROCESS)]
        assert plans[-1] == [("s2", Action.PROCESS), ("s10", Action.SKIP)]


class TestNames:
    NAMES = ("new\nline", 'quo"te, comma', "<script>alert(1)</script>", "=1+1", "-x", "@y", "+z", "run.json", "[red]")

    def test_odd_names_are_published_and_escaped(self, run):
        for name in self.NAMES:
            fakes.draw_field(run.root / name / f"{name}.png".replace("/", ""), ["neutrophil"])
        assert run() == 0
        rows = run.rows()
        assert {n for n in rows if n.startswith("'")} == {"'=1+1", "'-x", "'@y", "'+z"}
        assert {"new\nline", 'quo"te, comma', "run.json"} <= set(rows)
        report = (run.folder / "<script>alert(1)<" / "script>" / "report.html").read_text()
        assert "<script>alert(1)" not in report
        before = run.tree()
        assert run() == 0
        assert run.looked == []
        assert run.tree() == before

    def test_names_that_are_not_utf8_are_published(self, run):
        fakes.draw_field(run.root / "smear\udcff" / "ok.png", ["neutrophil"]).rename(
            run.root / "smear\udcff/\udcfe.png"
        )
        assert run() == 0
        assert "smear\\xff" in run.rows()
        assert (run.folder / "smear\udcff" / "slide.json").exists()
        assert "smear\\xff,\\xfe.png,1," in (run.folder / "smear\udcff" / "cells.csv").read_text()
        assert run() == 0
        assert run.looked == []


def test_slide_without_wbc_has_empty_percents(run):
    fakes.draw_field(run.root / "s3" / "f.png", [])
    assert run() == 0
    row = run.rows()["s3"]
    assert (row["status"], row["cells"], row["neutrophil_n"], row["neutrophil_pct"]) == ("ok", "0", "0", "")
    assert row["flags"] == "no_wbc;low_count"


def test_same_image_twice_is_flagged(run):
    (run.root / "s10" / "copy.png").write_bytes((run.root / "s10" / "f1.png").read_bytes())
    run()
    assert "duplicate_fields" in run.rows()["s10"]["flags"]
