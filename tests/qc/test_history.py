"""The history of QC slides, and `wbctool qc` on it."""

import csv
import errno
import json

import fakes
import pytest
from typer.testing import CliRunner

from wbctool.cli import app
from wbctool.errors import OutputNotWritable
from wbctool.paths import OutputPaths
from wbctool.pipeline import executor
from wbctool.pipeline import run as run_module
from wbctool.qc.history import append_qc_records
from wbctool.review.apply import apply_reviews
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.types.results import SlideStatus


def history(run):
    with (run.folder / "qc-history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def qc(*args):
    return CliRunner().invoke(app, ["qc", *map(str, args)])


def fails_with(error):
    def fail(*args):
        raise error

    return fail


def test_history_has_a_row_each_time_a_qc_slide_is_processed(run):
    run(qc_slides=("s10",))
    (line,) = history(run)
    assert [line[c] for c in ("slide", "analysed", "counted", "neutrophil_n", "neutrophil_pct", "blur_um")] == [
        *("s10", "true", "10", "9", "90.00", "")
    ]
    assert line["models"] == "classifier.onnx=" + "ab" * 32
    assert line["fingerprint"] == json.loads((run.folder / "s10" / "slide.json").read_text())["cells_fingerprint"]
    run(qc_slides=("s10",))
    assert len(history(run)) == 1  # up to date: nothing was measured
    run(qc_slides=("s10",), force=True)
    fakes.draw_field(run.root / "s10" / "f1.png", ["neutrophil"])
    run(qc_slides=("s1*",))
    assert [entry["neutrophil_pct"] for entry in history(run)] == ["90.00", "90.00", "100.00"]


def test_history_of_a_reviewed_slide_is_the_tools_own(run, tmp_path):
    run(qc_slides=("s2",))
    review = {
        "schema": "wbctool-review/1",
        "slide": "s2",
        "results": fakes.hash_cells(run.folder / "s2" / "cells.csv"),
        "reader": "AB",
        "time": "2026-01-02T03:04:05.678Z",
        "cells": [{"row": 1, "field": "f1.png", "cell": 1, "from": "neutrophil", "to": "lymphocyte"}],
    }
    (tmp_path / "review.json").write_text(json.dumps(review))
    ((_, result),) = apply_reviews(OutputPaths(run.out), [tmp_path / "review.json"])
    assert not isinstance(result, Exception), result
    run(qc_slides=("s2",), force=True)
    first, second = history(run)
    assert first | {"time": ""} == second | {"time": ""}
    assert first["neutrophil_n"] == "1"


def test_qc_slides_that_name_no_slide_are_a_notice_and_brackets_are_plain(run, caplog):
    (run.root / "s2").rename(run.root / "QC [low]")
    run(qc_slides=("QC [low]", "qc-nosuch", "s1?"))
    assert {line["slide"] for line in history(run)} == {"QC [low]", "s10"}
    assert "no slide is named as the setting qc_slides says: qc-nosuch" in caplog.text


def test_history_takes_earlier_results_once(run):
    run()
    assert not (run.folder / "qc-history.csv").exists()
    run(qc_slides=("*",))
    run(qc_slides=("*",))
    assert [(line["slide"], line["analysed"]) for line in history(run)] == [("s2", "false"), ("s10", "false")]


def test_qc_slide_without_counted_cells_is_out_of_control(run):
    """Its chart must not go on saying what the last good run did."""
    for _ in range(3):
        run(qc_slides=("s10",), force=True)
    assert qc(run.out, "--baseline", 2).exit_code == 0
    (run.root / "s10" / "f1.png").write_bytes(b"")
    run(qc_slides=("s10",))
    last = history(run)[-1]
    assert [last[c] for c in ("status", "fields_failed", "counted", "neutrophil_pct")] == ["failed", "1", "0", ""]
    done = qc(run.out, "--baseline", 2)
    assert done.exit_code == 3
    assert f"neutrophil_pct: 3 values, out of control: no value since {last['time'][:10]}" in done.output
    fakes.draw_field(run.root / "s10" / "f1.png", [])
    run(qc_slides=("s10",))
    assert history(run)[-1]["status"] == "ok"
    assert qc(run.out, "--baseline", 2).exit_code == 3
    fakes.draw_field(run.root / "s10" / "f1.png", ["neutrophil"] * 9 + ["lymphocyte"])
    run(qc_slides=("s10",))
    assert "no value since" not in qc(run.out, "--baseline", 2).output


def test_history_after_killed_run_gets_the_missing_row(run, monkeypatch):
    run(qc_slides=("s10",))
    before = (run.folder / "qc-history.csv").read_bytes()
    fakes.draw_field(run.root / "s10" / "f1.png", ["neutrophil"])
    monkeypatch.setattr(run_module, "append_qc_records", fails_with(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(qc_slides=("s10",))
    monkeypatch.undo()
    assert (run.folder / "qc-history.csv").read_bytes() == before
    run(qc_slides=("s10",))
    assert [(line["analysed"], line["neutrophil_pct"]) for line in history(run)] == [
        ("true", "90.00"),
        ("false", "100.00"),
    ]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"status": "failed"}', b"\xff"])
def test_history_damaged_slide_json_costs_only_its_row(run, monkeypatch, caplog, content):
    """It stays where the slide could not be written anew; the run's record would say that it was killed, for ever."""
    run()

    def in_the_way(output, made):
        if made.record.slide == "s10":
            (run.folder / "s10" / "slide.json").write_bytes(content)
            raise OutputNotWritable("s10 cannot be written") from OSError(errno.ENOTDIR, "Not a directory")
        return publish_with_reviews(output, made)

    publish_with_reviews = executor.publish_with_reviews
    monkeypatch.setattr(executor, "publish_with_reviews", in_the_way)
    assert run(qc_slides=("*",), force=True) == 3
    assert [line["slide"] for line in history(run)] == ["s2"]
    assert "QC slide 's10' has no row in the history" in caplog.text
    assert json.loads((run.folder / "run.json").read_text())["exit_code"] == 3


def test_append_qc_records_too_long_name_costs_only_its_row(run, caplog):
    run()
    named, output = "n" * 300, OutputPaths(run.out)
    append_qc_records(output, ["n*"], [SlideOutcome(named, SlideStatus.FAILED, {}, ())], {named}, None)
    assert f"QC slide '{named}' has no row in the history" in caplog.text
    assert not output.qc_history_csv.exists()


def test_history_keeps_earlier_rows_byte_for_byte(run):
    run(qc_slides=("s10",))
    before = (run.folder / "qc-history.csv").read_bytes()
    run(qc_slides=("s10",), force=True)
    assert (run.folder / "qc-history.csv").read_bytes().startswith(before)


@pytest.mark.parametrize("content", [b"something else\n", b"\xff\n"])
def test_history_of_another_kind_is_left_unchanged(run, caplog, content):
    run()
    (run.folder / "qc-history.csv").write_bytes(content)
    assert run(qc_slides=("*",)) == 0
    assert (run.folder / "qc-history.csv").read_bytes() == content
    assert "left unchanged" in caplog.text


def test_history_unwritable_raises(run, monkeypatch):
    run()
    (run.folder / "qc-history.csv").mkdir()
    assert run(qc_slides=("*",)) == 0  # cannot be read: left alone
    (run.folder / "qc-history.csv").rmdir()
    monkeypatch.setattr("wbctool.qc.history.write_atomic", fails_with(OutputNotWritable))
    with pytest.raises(OutputNotWritable):
        run(qc_slides=("*",))


class TestCommand:
    def series(self, run, counts):
        for n in counts:
            fakes.draw_field(run.root / "s10" / "f1.png", ["neutrophil"] * n + ["lymphocyte"] * (10 - n))
            run(qc_slides=("s10",), force=True)

    def test_latest_value_in_control_exits_with_0(self, run, tmp_path):
        self.series(run, [6, 7, 8, 7])
        done = qc(run.out, "--baseline", "3")
        assert done.exit_code == 0
        assert "s10, neutrophil_pct: 4 values, in control" in done.output
        assert (run.out.parent / "counts-qc" / "levey-jennings.html").exists()

    def test_latest_value_out_of_control_exits_with_3(self, run, tmp_path):
        self.series(run, [6, 7, 8, 2])
        done = qc(run.folder, "--baseline", "3", "--slide", "s10", "--out", tmp_path / "charts")
        assert done.exit_code == 3
        # 60, 70, 80 %: mean 70, SD 10; 20 % is 5 SD below
        assert "s10, neutrophil_pct: 4 values, out of control: 1-2s, 1-3s" in done.output
        with (tmp_path / "charts" / "levey-jennings.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["quantity"] == "neutrophil_pct"]
        assert [(r["value"], r["z"], r["in_baseline"], r["rules"]) for r in rows[2:]] == [
            ("80", "1.0000", "true", ""),
            ("20", "-5.0000", "false", "1-2s;1-3s"),
        ]
        page = (tmp_path / "charts" / "levey-jennings.html").read_text()
        assert "http" not in page.replace("http-equiv", "")

    def test_incomplete_baseline_exits_with_0(self, run):
        self.series(run, [6, 1])
        done = qc(run.out)
        assert done.exit_code == 0
        assert "2 of 20 baseline values" in done.output

    def test_missing_history_exits_with_1(self, run):
        run()
        done = qc(run.out)
        assert done.exit_code == 1
        assert "the setting qc_slides" in done.output

    def test_unknown_slide_exits_with_1(self, run):
        run(qc_slides=("*",))
        done = qc(run.out, "--slide", "s3")
        assert done.exit_code == 1
        assert "it has s10, s2" in done.output

    def test_slide_is_named_by_its_id(self, run):
        fakes.draw_field(run.root / "=1+1" / "f.png", ["neutrophil"])
        run(qc_slides=("*",))
        done = qc(run.out, "--slide", "=1+1")
        assert done.exit_code == 0, done.output
        assert done.output.startswith("=1+1: 1 of 20 baseline values")
        with (run.out.parent / "counts-qc" / "levey-jennings.csv").open(newline="") as file:
            assert {row["slide"] for row in csv.DictReader(file)} == {"'=1+1"}
        assert "<h2>=1+1</h2>" in (run.out.parent / "counts-qc" / "levey-jennings.html").read_text()
        assert qc(run.out, "--slide", "'=1+1").exit_code == 1

    def test_page_escapes_slide_names(self, run):
        fakes.draw_field(run.root / "<script>" / "f.png", ["neutrophil"])
        run(qc_slides=("*",))
        assert qc(run.out).exit_code == 0
        assert "<script" not in (run.out.parent / "counts-qc" / "levey-jennings.html").read_text()
