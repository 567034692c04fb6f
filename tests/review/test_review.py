"""Reviews applied to what runs wrote, without a browser."""

import csv
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import fakes
import pytest
from typer.testing import CliRunner

from wbctool.cli import app
from wbctool.errors import AuditLogCorrupt, ReviewRefused
from wbctool.paths import OutputPaths
from wbctool.report.categories import category_of
from wbctool.review import apply as lab_review
from wbctool.review.apply import apply_reviews
from wbctool.review.audit import audit_reviews
from wbctool.store import audit_log
from wbctool.store.checksum import add_checksum
from wbctool.store.lock import lock_output

ORIGINALS = {"original-cells.csv", "original-differential.csv", "original-report.html", "original-slide.json"}


def wbctool(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def apply(output, *paths):
    return [outcome for _, outcome in apply_reviews(output, paths)]


def apply_one(output, path):
    (outcome,) = apply(output, path)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def read_log(output):
    return [json.loads(line) for line in output.audit_jsonl.read_text().splitlines()]


def test_apply_reviews_recounts_as_worked_by_hand(run, output, write):
    before = run.tree()
    apply_one(output, write((3, "review", "monocyte"), (1, "neutrophil", "artefact")))
    row = run.rows()["s2"]
    assert [row[c] for c in ("status", "cells", "counted", "review", "not_wbc")] == ["ok", "3", "2", "0", "1"]
    # 1 of 2: the exact interval is 1.26 to 98.74
    assert [row[f"monocyte_{c}"] for c in ("n", "pct", "ci95_low", "ci95_high")] == ["1", "50.00", "1.26", "98.74"]
    assert (row["neutrophil_n"], row["flags"]) == ("0", "low_count")
    with output.slide_file("s2", "cells.csv").open(newline="") as lines:
        cells = list(csv.DictReader(lines))
    assert [(c["label"], c["confidence"], c["outcome"], c["reason"]) for c in cells] == [
        ("neutrophil", "0.9300", "not_wbc", "artefact"),
        ("lymphocyte", "0.9300", "counted", ""),
        ("monocyte", "0.4000", "counted", ""),
    ]
    kept = {name: content for name, content in before.items() if "/s2/" not in name and name.endswith("html") is False}
    after = run.tree()
    assert {name for name, content in kept.items() if after[name] != content} == {"counts.csv"}
    for name in ORIGINALS:
        assert output.slide_file("s2", name).read_bytes() == before[f"counts/s2/{name.removeprefix('original-')}"]


def test_apply_reviews_logs_each_change_in_a_hash_chain(output, write):
    apply_one(output, write((3, "review", "basophil"), comment="fine"))
    lines = output.audit_jsonl.read_bytes().splitlines()
    cell, own = map(json.loads, lines)
    assert cell["previous"] == "0" * 64
    assert own["previous"] == hashlib.sha256(lines[0]).hexdigest()
    assert (own["event"], own["moved"], own["cells"], own["comment"]) == ("review", 1, 1, "fine")
    for entry in (cell, own):
        assert (entry["slide"], entry["reader"], entry["time"]) == ("s2", "AB", "2026-01-02T03:04:05.678+00:00")
    assert (cell["field"], cell["cell"], cell["from"], cell["to"]) == ("f2.png", 1, "review", "basophil")
    (review,) = json.loads(output.slide_file("s2", "slide.json").read_text())["reviews"]
    assert review["entry_sha256"] == hashlib.sha256(lines[1]).hexdigest()


def test_apply_reviews_results_may_be_named_by_the_hash_of_cells_csv(output, write):
    """As a script outside does, which cannot know where the columns end that make the cells."""
    for moves, reader in ([(3, "review", "basophil")], "AB"), ([(3, "basophil", "review")], "CD"):
        apply_one(output, write(*moves, reader=reader, results=sha256(output.slide_file("s2", "cells.csv"))))
    entries = [entry for entry in read_log(output) if entry["event"] == "review"]
    assert sha256(output.slide_file("s2", "original-cells.csv")) not in {entry["results"] for entry in entries}
    assert audit_reviews(output).problems == ()


def test_apply_reviews_marks_slide_json_report_and_index(run, output, write):
    apply_one(output, write())
    state = json.loads(output.slide_file("s2", "slide.json").read_text())
    assert state["status"] == "ok"
    assert [(r["reader"], r["n_reclassified"]) for r in state["reviews"]] == [("AB", 0)]
    assert state["files"]["report.html"] == sha256(output.slide_file("s2", "report.html"))
    assert "Reviewed by AB" in output.slide_file("s2", "report.html").read_text()
    assert ">AB</td>" in output.index_html.read_text()


def test_run_keeps_review_of_unchanged_slide(run, output, write):
    apply_one(output, write((3, "review", "monocyte")))
    before = run.tree()
    assert run() == 0
    assert run.looked == []
    assert run.tree() == before


def test_apply_reviews_moves_add_up_and_back_restores_tables(run, output, write):
    before = run.tree()
    apply_one(output, write((3, "review", "monocyte"), (2, "lymphocyte", "review")))
    apply_one(output, write((3, "monocyte", "review"), (2, "review", "lymphocyte"), reader="CD"))
    after = run.tree()
    for name in ("counts.csv", "counts/s2/cells.csv", "counts/s2/differential.csv"):
        assert after[name] == before[name]
    assert audit_reviews(output).problems == ()
    assert [r["reader"] for r in json.loads(after["counts/s2/slide.json"])["reviews"]] == ["AB", "CD"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"slide": "s10"}, "made for different results"),
        ({"slide": "s3"}, "no results for slide 's3'"),
        ({"slide": "../s2"}, "no results for slide"),
        ({"results": "0" * 64}, "made for different results"),
        ({"results": "x"}, "results: "),
        ({"reader": ""}, "reader: "),
        ({"reader": "   "}, "reader: "),
        ({"reader": "A\nB"}, "reader: "),
        ({"reader": "A\u202eB"}, "reader: "),
        ({"time": 3.0}, "time: "),
        ({"comment": None}, "comment: "),
        ({"schema": "wbctool-review/9"}, "schema: "),
        ({"time": "yesterday"}, "time: "),
        ({"extra": 1}, "extra: "),
    ],
)
def test_apply_reviews_review_that_does_not_fit_is_refused(run, output, write, changes, why):
    before = run.tree()
    with pytest.raises(ReviewRefused, match=why):
        apply_one(output, write((3, "review", "monocyte"), **changes))
    assert run.tree() == before


@pytest.mark.parametrize(
    ("moves", "why"),
    [
        ([(3, "neutrophil", "monocyte")], "moves it from 'neutrophil', but it is in 'review'"),
        ([(3, "review", "blast")], "does not know the class"),
        ([(3, "review", "monocyte")] * 2, "lists a cell twice"),
    ],
)
def test_apply_reviews_impossible_move_is_refused(run, output, write, moves, why):
    before = run.tree()
    with pytest.raises(ReviewRefused, match=why):
        apply_one(output, write(*moves))
    assert run.tree() == before


def test_review_apply_deeply_nested_file_is_refused_in_one_line(output, tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    done = wbctool("review", "apply", output.counts_csv, tmp_path / "deep.json")
    assert done.exit_code == 1
    assert done.stderr.count("deep.json") == 1
    assert len(done.stderr.splitlines()) == 1


def test_read_review_byte_order_mark_is_accepted(output, write):
    path = write((3, "review", "monocyte"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert apply_one(output, path).differential.review == 0


def test_apply_reviews_later_review_can_remove_a_comment(output, write, tmp_path):
    def commented(text, **changes):
        content = json.loads(write((3, "review", "review"), **changes).read_text())
        content["cells"][0]["comment"] = text
        (tmp_path / "comment.json").write_text(json.dumps(content))
        return tmp_path / "comment.json"

    first = apply_one(output, commented("a band?"))
    assert [note.comment for note in first.notes] == ["a band?"]
    assert "a band?" in output.slide_file("s2", "report.html").read_text()
    apply_one(output, commented("", reader="CD"))
    assert "a band?" not in output.slide_file("s2", "report.html").read_text()
    assert "a band?" in output.audit_jsonl.read_text()
    assert audit_reviews(output).problems == ()


def test_apply_reviews_second_time_is_refused(output, write):
    path = write()
    apply_one(output, path)
    with pytest.raises(ReviewRefused, match="already been applied"):
        apply_one(output, path)


def test_apply_reviews_of_one_reader_and_page_applies_the_last_saved(output, write):
    last = write((3, "review", "monocyte"), name="b.json", time="2026-01-02T04:00:00+01:00")
    first = write((3, "review", "basophil"), name="c.json", time="2026-01-02T02:59:59Z")
    middle = write((3, "review", "basophil"), name="a.json", time="2026-01-02T02:59:59.5Z")
    outcomes = dict(apply_reviews(output, [first, middle, last]))
    assert outcomes[first] == outcomes[middle] == lab_review.Superseded(last)
    assert category_of(outcomes[last].cells[2].prediction) == "monocyte"
    assert [entry["moved"] for entry in read_log(output) if entry["event"] == "review"] == [1]


def test_apply_reviews_of_two_readers_or_of_other_results_are_not_superseded(output, write):
    first = write((3, "review", "review"), name="a.json")
    second = write((3, "review", "monocyte"), name="b.json", reader="CD", time="2026-01-03T00:00:00Z")
    other = write((3, "review", "monocyte"), name="c.json", time="2026-01-04T00:00:00Z", results="0" * 64)
    *applied, refused = apply(output, first, second, other)
    assert [result.reviews[-1].reader for result in applied] == ["AB", "CD"]
    assert isinstance(refused, ReviewRefused)


def test_apply_reviews_that_was_applied_before_is_not_called_superseded(output, write):
    """The later one is of results that are no more; its reader must open the report again."""
    first = write((3, "review", "basophil"), name="a.json")
    later = write((3, "review", "monocyte"), name="b.json", time="2026-01-04T00:00:00Z")
    apply(output, first)
    outcomes = apply(output, first, later)
    assert ["already been applied" in str(outcomes[0]), "different results" in str(outcomes[1])] == [True, True]


def test_review_apply_superseded_review_is_named_and_no_error(output, write, tmp_path):
    (tmp_path / "reviews").mkdir()
    later = write((3, "review", "monocyte"), name="reviews/a.json", time="2026-01-03T00:00:00Z")
    earlier = write((3, "review", "basophil"), name="reviews/b.json")
    done = wbctool("review", "apply", output.counts_csv, tmp_path / "reviews")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{earlier}: not applied, because the same reader saved {later} later" in done.stdout


def test_apply_reviews_altered_table_is_refused(output, write):
    path = write()
    output.slide_file("s2", "cells.csv").write_text("altered")
    with pytest.raises(ReviewRefused, match="was changed after the run wrote it"):
        apply_one(output, path)


def test_review_apply_refused_review_does_not_stop_the_others(output, write, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    good = write((3, "review", "monocyte"))
    done = wbctool("review", "apply", output.counts_csv, tmp_path / "broken.json", good, tmp_path / "none.json")
    assert done.exit_code == 1
    assert "s2: reviewed by AB, 1 cell moved; now 3 counted, 0 review, 0 not WBC" in done.output
    assert len(done.stderr.splitlines()) == 2


def test_review_apply_locked_output_applies_nothing(output, write):
    path = write()
    with lock_output(output, "review acknowledge"):
        refused = wbctool("review", "apply", output.counts_csv, path)
    assert refused.exit_code == 5
    assert "is in use by `wbctool review acknowledge` (process" in refused.stderr
    assert not output.audit_jsonl.exists()


def test_review_without_results_fails(tmp_path):
    for command in (["apply", tmp_path / "c.csv", tmp_path / "r.json"], ["verify", tmp_path / "c.csv"]):
        done = wbctool("review", *command)
        assert done.exit_code == 1
        assert "contains no results" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("killed_at", ["differential.csv", "cells.csv", "report.html", "slide.json"])
def test_apply_reviews_after_kill_completes_with_the_same_file(run, output, write, monkeypatch, killed_at):
    path, replace = write((3, "review", "monocyte")), Path.replace

    def replace_until(temporary, target):
        if target.name == killed_at:
            raise KeyboardInterrupt
        return replace(temporary, target)

    monkeypatch.setattr(Path, "replace", replace_until)
    with pytest.raises(KeyboardInterrupt):
        apply_one(output, path)
    monkeypatch.undo()
    assert audit_reviews(output).problems != ()
    apply_one(output, path)
    assert run.rows()["s2"]["monocyte_n"] == "1"
    assert audit_reviews(output).problems == ()


def test_apply_reviews_unfinished_run_leaves_tables_to_the_next(run, output, write, caplog):
    manifest = json.loads(output.run_json.read_text())
    del manifest["slides"]
    output.run_json.write_text(json.dumps(manifest, indent=1))
    apply_one(output, write((3, "review", "monocyte")))
    assert "the last run did not finish" in caplog.text
    assert run.rows()["s2"]["monocyte_n"] == "0"
    assert run() == 0
    assert run.rows()["s2"]["monocyte_n"] == "1"


def test_apply_reviews_odd_names(run, tmp_path):
    name = "=s\udcff"
    fakes.draw_field(run.root / name / "f.png", ["review"]).rename(run.root / name / "'=\udcfe<b>.png")
    run()
    output = OutputPaths(run.out)
    move = {"row": 1, "field": "'=\udcfe<b>.png", "cell": 1, "from": "review", "to": "basophil", "comment": "\udcff"}
    content = {
        "schema": "wbctool-review/1",
        "slide": name,
        "results": fakes.hash_cells(output.slide_file(name, "cells.csv")),
        "reader": "=A",
        "time": "2026-01-02T03:04:05Z",
        "comment": "",
        "cells": [{**move, "comment": "?"}],
    }
    (tmp_path / "r.json").write_text(json.dumps(content))
    apply_one(output, tmp_path / "r.json")
    assert run.rows()["'=s\\xff"]["basophil_n"] == "1"
    assert audit_reviews(output).problems == ()
    assert run() == 0
    assert run.looked == []


class TestVerify:
    @pytest.fixture
    def reviewed(self, output, write):
        apply_one(output, write((3, "review", "monocyte")))
        return output

    def problems(self, output):
        done = wbctool("review", "verify", output.counts_csv)
        assert done.exit_code == (1 if done.stderr else 0)
        return done.stderr

    def test_no_problem_prints_what_was_checked(self, reviewed):
        done = wbctool("review", "verify", reviewed.folder)
        assert done.output.startswith("2 slides, 1 reviewed; 2 lines in the audit log, the last ")

    @pytest.mark.parametrize("line", [0, 1])
    def test_changed_log_line_is_found(self, reviewed, line):
        lines = reviewed.audit_jsonl.read_text().splitlines(keepends=True)
        lines[line] = lines[line].replace('"AB"', '"XY"')
        reviewed.audit_jsonl.write_text("".join(lines))
        assert ("line 2 does not follow", "the audit log lacks 1 review of it")[line] in self.problems(reviewed)

    def test_removed_log_lines_are_found(self, reviewed):
        lines = reviewed.audit_jsonl.read_text().splitlines(keepends=True)
        reviewed.audit_jsonl.write_text(lines[1])
        assert "line 1 does not follow" in self.problems(reviewed)
        reviewed.audit_jsonl.write_text("")
        assert "the audit log lacks 1 review of it" in self.problems(reviewed)
        reviewed.audit_jsonl.unlink()
        assert "the audit log lacks 1 review of it" in self.problems(reviewed)

    def test_shortened_log_is_found(self, reviewed):
        lines = reviewed.audit_jsonl.read_text().splitlines(keepends=True)
        reviewed.audit_jsonl.write_text(lines[0])
        assert "the audit log lacks 1 review of it" in self.problems(reviewed)

    @pytest.mark.parametrize("name", ["cells.csv", "differential.csv", "report.html"])
    def test_changed_file_is_found_even_with_its_hash(self, reviewed, name):
        path, state_path = reviewed.slide_file("s2", name), reviewed.slide_file("s2", "slide.json")
        path.write_text(path.read_text() + "\n")
        assert f"{name} does not match its hash in slide.json" in self.problems(reviewed)
        state = json.loads(state_path.read_text())
        state["files"][name] = sha256(path)
        state_path.write_text(json.dumps(state))
        assert "slide 's2': slide.json cannot be trusted: its checksum does not match; it was altered" in self.problems(
            reviewed
        )
        del state["sha256"]
        state_path.write_text(json.dumps(add_checksum(state)))
        assert f"{name} does not match the original and the audit log" in self.problems(reviewed)

    def test_restored_originals_are_found(self, reviewed):
        for name in ORIGINALS:
            reviewed.slide_file("s2", name).rename(reviewed.slide_file("s2", name.removeprefix("original-")))
        assert "is a review that the results do not contain" in self.problems(reviewed)

    def test_changed_originals_are_found(self, reviewed):
        reviewed.slide_file("s2", "original-cells.csv").write_text("altered")
        assert "cells.csv is missing, or was changed" in self.problems(reviewed)

    @pytest.mark.parametrize(
        ("was", "now", "why"),
        [
            ("s2,ok,2,0,3,3,0,0", "s2,ok,2,0,3,300,0,0", "slide 's2': counts.csv does not agree with slide.json"),
            ("s10,ok,1,0,12,10", "s10,ok,1,0,12,9", "slide 's10': counts.csv does not agree with slide.json"),
            ("s10,ok,", "s10,waiting,", ""),  # as a run leaves a slide that has changed since
            ("s10,ok,1,0,12,10", "s10,waiting,1,0,12,9", "slide 's10': counts.csv does not agree with slide.json"),
            ("s10,", "s11,", "slide 's11': it is in counts.csv, but not in run.json"),
            ("s10,", "s11,", "slide 's10': it is in run.json, but not in counts.csv"),
            ("s10,", "s2,", "slide 's2': counts.csv lists it 2 times"),
            ("s10,", "../s10,", "counts.csv is not a table written by a run: '../s10' is not a slide id"),
            ("counted", "count", "counts.csv is not a table written by a run: its columns differ"),
            ("s10,ok,", '"s10",ok,', "counts.csv is not in the form that a run writes"),
        ],
    )
    def test_changed_row_of_counts_csv_is_found(self, reviewed, was, now, why):
        text = reviewed.counts_csv.read_text()
        assert was in text
        reviewed.counts_csv.write_text(text.replace(was, now, 1))
        found = self.problems(reviewed)
        assert why in found
        assert bool(found) == bool(why)

    def test_empty_or_missing_counts_csv_is_found(self, reviewed):
        header = reviewed.counts_csv.read_text().partition("\n")[0]
        for text in ("", header, header + "\n"):
            reviewed.counts_csv.write_text(text)
            assert "counts.csv" in self.problems(reviewed)
        reviewed.counts_csv.unlink()
        assert "counts.csv cannot be read: No such file or directory" in self.problems(reviewed)

    def test_other_order_of_slides_is_found(self, reviewed):
        header, first, second = reviewed.counts_csv.read_text().splitlines(keepends=True)
        reviewed.counts_csv.write_text(header + second + first)
        assert "counts.csv lists the slides in a different order from run.json" in self.problems(reviewed)

    def test_slide_without_its_record_is_named(self, reviewed):
        state = reviewed.slide_file("s10", "slide.json")
        shutil.copy(reviewed.slide_file("s2", "slide.json"), state)
        assert self.problems(reviewed) == "wbctool: slide 's10': slide.json belongs to slide 's2'\n"
        state.write_text("{")
        assert "slide 's10': slide.json cannot be trusted" in self.problems(reviewed)
        state.unlink()
        assert self.problems(reviewed) == "wbctool: slide 's10': slide.json is missing\n"
        shutil.rmtree(state.parent)
        assert self.problems(reviewed) == "wbctool: slide 's10': slide.json is missing\n"

    def test_changed_record_is_found(self, reviewed):
        state = reviewed.slide_file("s10", "slide.json")
        state.write_text(state.read_text().replace('"counted": "10"', '"counted": "900"'))
        assert (
            "slide 's10': slide.json cannot be trusted: its checksum does not match; it was altered"
            in self.problems(reviewed)
        )

    def test_unreadable_file_is_one_line(self, reviewed, monkeypatch):
        read_bytes = Path.read_bytes

        def unreadable(path):
            if path.match("s10/report.html"):
                raise PermissionError(errno.EACCES, "Permission denied")
            return read_bytes(path)

        monkeypatch.setattr(Path, "read_bytes", unreadable)
        assert self.problems(reviewed) == "wbctool: slide 's10': report.html cannot be read: Permission denied\n"

    def test_invalid_run_json_is_found(self, reviewed):
        reviewed.run_json.write_text(reviewed.run_json.read_text()[:200])
        assert "run.json is not a valid record of a run" in self.problems(reviewed)

    def test_waiting_and_failed_slides_need_no_record(self, run, output, monkeypatch):
        fakes.draw_field(run.root / "s3" / "f.png", ["basophil"])
        assert run(settle_s=3600) == 0
        assert run.rows()["s3"]["status"] == "waiting"
        assert self.problems(output) == ""
        monkeypatch.setattr("wbctool.store.slide_writer.render_report", lambda *_: 1 / 0)
        assert run(force=True) == 3
        assert {row["status"] for row in run.rows().values()} == {"failed"}
        assert self.problems(output) == ""  # what earlier runs published of s2 and s10 stays

    def test_slide_gone_from_the_input_is_checked(self, run, output):
        shutil.rmtree(run.root / "s10")
        assert run() == 0
        assert wbctool("review", "verify", output.counts_csv).output.startswith("2 slides, 0 reviewed")
        output.slide_file("s10", "cells.csv").write_text("altered")
        assert "slide 's10': cells.csv does not match its hash in slide.json" in self.problems(output)
        output.slide_file("s10", "slide.json").write_text("{}")
        assert "s10/slide.json cannot be trusted" in self.problems(output)

    def test_unfinished_run_may_leave_an_older_table(self, run, output, write):
        manifest = json.loads(output.run_json.read_text())
        del manifest["slides"]
        output.run_json.write_text(json.dumps({**manifest, "end": None}, indent=1))
        assert self.problems(output) == ""
        apply_one(output, write((3, "review", "monocyte")))
        assert "does not agree with slide.json; the last run did not finish: run again" in self.problems(output)
        assert run() == 0
        assert self.problems(output) == ""


class TestAuditLog:
    def test_append_drops_half_a_line(self, output, caplog):
        audit_log.append_entries(output, [{"event": "redone", "slide": "a"}])
        with output.audit_jsonl.open("ab") as file:
            file.write(b'{"event": "re')
        assert len(audit_log.read_audit_log(output)) == 1
        audit_log.append_entries(output, [{"event": "redone", "slide": "b"}])
        assert [entry.slide for entry in audit_log.read_audit_log(output)] == ["a", "b"]
        assert "incomplete last line" in caplog.text

    def test_append_to_new_log_syncs_file_and_folder(self, output, monkeypatch):
        """Its lines on the disk are of no use without its name in the folder."""
        synced, fsync = [], os.fsync
        monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.fstat(file).st_ino), fsync(file)))
        audit_log.append_entries(output, [{"event": "redone", "slide": "a"}])
        assert synced == [path.stat().st_ino for path in (output.audit_jsonl, output.folder)]

    def test_append_to_corrupt_log_is_refused(self, output):
        output.audit_jsonl.write_text('{"event": "review"}\n')
        with pytest.raises(AuditLogCorrupt):
            audit_log.append_entries(output, [{"event": "redone", "slide": "a"}])
        assert output.audit_jsonl.read_text() == '{"event": "review"}\n'


def test_read_review_accepts_what_the_page_saves(write):
    assert lab_review.read_review(write((3, "review", "monocyte"))).cells[0].from_ == "review"


def test_apply_reviews_updates_absolute_counts_and_keeps_metadata_and_quality(run, tmp_path):
    (run.root / "slides.csv").write_text("slide,patient,age,analyser_wbc\ns2,P1,40,10\n")
    assert run() == 0
    output = OutputPaths(run.out)
    before = json.loads(output.slide_file("s2", "slide.json").read_text())
    review = {
        "schema": "wbctool-review/1",
        "slide": "s2",
        "results": fakes.hash_cells(output.slide_file("s2", "cells.csv")),
        "reader": "AB",
        "time": "2026-01-02T03:04:05.678Z",
        "comment": "",
        "cells": [{"row": 3, "field": "f2.png", "cell": 1, "from": "review", "to": "monocyte", "comment": ""}],
    }
    (tmp_path / "review.json").write_text(json.dumps(review))
    assert wbctool("review", "apply", run.out, tmp_path / "review.json").exit_code == 0
    after = json.loads(output.slide_file("s2", "slide.json").read_text())
    # one cell of two, then of three, of 10 × 10⁹/L
    assert before["absolute_counts"]["classes"]["neutrophil"]["value"] == 5.0
    assert after["absolute_counts"]["classes"]["neutrophil"]["value"] == 3.3333
    assert after["absolute_counts"]["classes"]["monocyte"]["value"] == 3.3333
    assert (after["metadata"], after["quality"]) == (before["metadata"], before["quality"])
    assert after["metadata"]["patient"] == "P1"
    assert "3.33" in output.slide_file("s2", "report.html").read_text()
    assert wbctool("review", "verify", run.out).exit_code == 0
