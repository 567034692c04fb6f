"""What `wbctool status` and the metrics say of the last run."""

import json
import os
import platform
import re
from datetime import UTC, datetime

import fakes
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from wbctool.errors import OutputNotWritable, StatusUnknown
from wbctool.paths import OutputPaths
from wbctool.pipeline.prometheus import write_metrics
from wbctool.review.apply import apply_reviews
from wbctool.store.lock import lock_output
from wbctool.store.run_record import read_run_record
from wbctool.store.status import (
    RunPhase,
    format_status_json,
    format_status_text,
    read_report,
    read_report_or_none,
    save_failure,
)
from wbctool.types.results import SlideStatus


@pytest.fixture
def output(run):
    return OutputPaths(run.out)


def test_read_report_partly_failed_run(run, output):
    (run.root / "s2" / "f2.png").write_bytes(b"")
    assert run() == 3
    report = read_report(output)
    assert (report.phase, report.exit_code, report.stopped_by) == (RunPhase.ENDED, 3, None)
    assert [report.count(status) for status in SlideStatus] == [1, 1, 0, 0]  # ok, partial, failed, waiting
    assert report.duration is not None
    lines = format_status_text(report).splitlines()
    assert lines[0].endswith("exit code 3")
    assert lines[2] == "slides: 1 ok, 1 partial; that run processed 2"
    assert lines[3] == "reviewed: 0, unfamiliar: 0"
    assert lines[4:] == ["partial: s2: 1 of 2 fields failed", "  f2.png, read: the file is empty"]
    told = json.loads(format_status_json(report))
    assert told["slides"] == {"ok": 1, "partial": 1, "failed": 0, "waiting": 0}
    assert told["failed"][0]["errors"] == [{"field": "f2.png", "stage": "read", "cause": "the file is empty"}]


def test_format_status_names_waiting_slides(run, output):
    run(settle_s=600.0)
    report = read_report(output)
    assert json.loads(format_status_json(report))["waiting"] == ["s2", "s10"]
    assert "waiting: s10" in format_status_text(report).splitlines()


def test_format_status_counts_reviewed_and_unfamiliar_slides_and_names_possible_blasts(run, output):
    run()
    for flags, lines in (("low_count", []), ("unfamiliar;low_count;possible_blasts", ["possible blasts: s10"])):
        text = output.counts_csv.read_text()
        output.counts_csv.write_text(re.sub(r"(?m)^(s10,.*),[^,]*$", rf"\1,{flags}", text))
        report = read_report(output)
        assert f"reviewed: 0, unfamiliar: {len(lines)}" in format_status_text(report).splitlines()
        assert [line for line in format_status_text(report).splitlines() if "blasts" in line] == lines
    told = json.loads(format_status_json(report))
    assert (told["reviewed"], told["unfamiliar"], told["possible_blasts"]) == (0, 1, ["s10"])


def test_read_report_counts_reviewed_slides(run, output, tmp_path):
    run()
    review = {"schema": "wbctool-review/1", "slide": "s10", "reader": "AB", "time": "2026-01-02T03:04:05.000Z"}
    review |= {"results": fakes.hash_cells(run.folder / "s10" / "cells.csv"), "comment": "", "cells": []}
    (tmp_path / "review.json").write_text(json.dumps(review))
    list(apply_reviews(output, [tmp_path / "review.json"]))
    assert read_report(output).reviewed == 1
    output.counts_csv.unlink()
    report = read_report(output)
    assert "reviewed" not in format_status_text(report)
    assert json.loads(format_status_json(report))["possible_blasts"] is None


def test_format_status_text_escapes_names(run, output):
    (run.root / "a\nb\x1b[2J").mkdir()
    (run.root / "a\nb\x1b[2J" / "x\ny.png").write_bytes(b"")
    run()
    text = format_status_text(read_report(output))
    assert "\x1b" not in text
    assert r"failed: a\nb\x1b[2J: 1 of 1 fields failed" in text.splitlines()


def test_read_report_has_notices_of_input(run, output):
    (run.root / "slides.csv").write_text("slide,age\na,40\n'=b,3\n")
    run()
    report = read_report(output)
    assert report.notices == ("slides.csv names slides that do not exist: a, '=b",)
    assert f"notice: {report.notices[0]}" in format_status_text(report).splitlines()
    assert json.loads(format_status_json(report))["notices"] == list(report.notices)


def test_read_report_run_json_without_notices_has_none(run, output):
    run()
    content = json.loads(output.run_json.read_bytes())
    del content["notices"]
    output.run_json.write_text(json.dumps(content))
    assert read_report(output).notices == ()


def begun(output):
    """run.json as it is in the midst of a run."""
    content = json.loads(output.run_json.read_bytes())
    for key in ("slides", "counts"):
        del content[key]
    output.run_json.write_text(json.dumps(content | {"end": None, "exit_code": None}))


def test_read_report_running(run, output):
    run()
    begun(output)
    with lock_output(output):
        report = read_report(output)
        assert report.phase is RunPhase.RUNNING
        assert format_status_text(report).splitlines()[0].endswith(f"process {os.getpid()} on {platform.node()}")


def test_read_report_while_the_models_are_loading_is_of_the_run_that_begins(run, output):
    assert run() == 0
    ended = read_run_record(output).end
    with lock_output(output):
        report = read_report(output)
    started = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
    assert (report.phase, report.start, report.end, report.last_end) == (RunPhase.RUNNING, started, None, ended)
    assert report.slides == ()


def test_read_report_after_a_killed_run_is_of_the_run_that_begins(run, output):
    run()
    begun(output)
    content = json.loads(output.run_json.read_bytes())
    output.run_json.write_text(json.dumps(content | {"start": "2026-01-01T00:00:00.000+00:00"}))
    with lock_output(output):
        assert read_report(output).start > datetime(2026, 1, 2, tzinfo=UTC)


def test_run_record_keeps_the_end_of_the_last_run_that_ended(run, output):
    run()
    ended = read_run_record(output).end
    run()
    begun(output)
    assert read_report(output).last_end == ended
    run()
    assert read_run_record(output).last_end == ended


def test_read_report_while_a_review_is_applied_is_of_the_run_that_ended(run, output):
    assert run() == 0
    with lock_output(output, "review apply"):
        report = read_report(output)
        assert (report.phase, report.exit_code, report.holder) == (RunPhase.ENDED, 0, "")


@pytest.mark.parametrize("note", [None, "dead", "not json", "another process of that number", "an earlier version's"])
def test_read_report_killed(run, output, note):
    run()
    begun(output)
    if note == "dead":
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        output.lock_holder_json.write_text(json.dumps({"pid": pid, "host": platform.node(), "started": 1.0}))
    elif note in {"another process of that number", "an earlier version's"}:
        started = 1.0 if note == "another process of that number" else "another-boot 12"
        content = {"pid": os.getpid(), "host": platform.node(), "started": started}
        output.lock_holder_json.write_text(json.dumps(content))
    elif note:
        output.lock_holder_json.write_text(note)
    report = read_report(output)
    assert report.phase is RunPhase.KILLED
    assert "was killed before it ended" in format_status_text(report)


def test_read_report_holder_on_another_host_counts_as_running(run, output):
    run()
    begun(output)
    output.lock_holder_json.write_text(json.dumps({"pid": 1, "host": "elsewhere", "started": ""}))
    assert (
        format_status_text(read_report(output)).splitlines()[0].endswith("elsewhere, which cannot be checked from here")
    )


def test_read_report_failed_start_keeps_slides_of_the_run_before(run, output):
    run()
    save_failure(output, datetime(2026, 1, 2, tzinfo=UTC), 1, "no model")
    report = read_report(output)
    assert (report.exit_code, report.failure, report.count(SlideStatus.OK)) == (1, "no model", 2)
    assert format_status_text(report).startswith("last run: 2026-01-02 00:00:00 UTC, exit code 1: no model")
    assert format_status_text(report).endswith("slides: 2 ok; as an earlier run left them\nreviewed: 0, unfamiliar: 0")
    assert json.loads(format_status_json(report))["done_in_run"] == 0
    run()
    assert read_report(output).exit_code == 0


def test_save_failure_without_results_writes_nothing(tmp_path):
    save_failure(OutputPaths(tmp_path / "c.csv"), datetime.now(UTC), 4, "no image")
    assert list(tmp_path.iterdir()) == []


def test_save_failure_foreign_folder_writes_nothing(tmp_path):
    (tmp_path / "c").mkdir()
    save_failure(OutputPaths(tmp_path / "c.csv"), datetime.now(UTC), 2, "the slides are there")
    assert list((tmp_path / "c").iterdir()) == []


def test_read_report_without_a_run_is_unknown(output):
    with pytest.raises(StatusUnknown, match="no run has looked at a slide yet"):
        read_report(output)
    assert read_report_or_none(output) is None


def test_read_report_names_the_place_in_run_json(run, output):
    run()
    content = json.loads(output.run_json.read_bytes())
    content["slides"][1]["cells"] = "many"
    output.run_json.write_text(json.dumps(content))
    with pytest.raises(StatusUnknown, match=r"run.json is not a valid record of a run: slides.1.cells: "):
        read_report(output)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"start": 1}'])
def test_read_report_invalid_run_json_is_unknown(run, output, content):
    run()
    output.run_json.write_text(content)
    with pytest.raises(StatusUnknown, match="is not a valid record of a run"):
        read_report(output)


def metrics(path):
    families = text_string_to_metric_families(path.read_text())
    return {(s.name, s.labels.get("status")): s.value for family in families for s in family.samples}


def test_write_metrics_of_a_run(run, output, tmp_path):
    fakes.draw_field(run.root / "s3" / "f.png", ["neutrophil"])
    run()
    (run.root / "s2" / "f2.png").write_bytes(b"")
    run()
    write_metrics(tmp_path / "wbctool.prom", read_report(output), 3)
    told = metrics(tmp_path / "wbctool.prom")
    assert told["wbctool_last_run_exit_code", None] == 3
    assert told["wbctool_slides", "ok"] == 2
    assert told["wbctool_slides", "partial"] == 1
    assert told["wbctool_last_run_slides_done", None] == 1
    assert told["wbctool_last_run_cells_done", None] == 2
    assert told["wbctool_fields_failed", None] == 1


def test_write_metrics_without_a_run_has_only_end_and_exit_code(tmp_path):
    write_metrics(tmp_path / "wbctool.prom", None, 1)
    told = metrics(tmp_path / "wbctool.prom")
    assert set(told) == {("wbctool_last_run_end_timestamp_seconds", None), ("wbctool_last_run_exit_code", None)}


def test_write_metrics_not_writable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputNotWritable):
        write_metrics(tmp_path / "file" / "wbctool.prom", None, 0)
