"""What `--json` prints: JSON alone on standard output, for scripts."""

import json

from wbctool.inference.model_card import default_models_dir


def test_run_prints_summary_alone(cli, slides, tmp_path):
    (slides / "s2" / "bad.png").write_bytes(b"")
    done = cli("run", slides, "--out", tmp_path / "a.xlsx", "--json")
    summary = json.loads(done.stdout)
    assert done.exit_code == summary["exit_code"] == 3
    assert summary["schema"] == "wbctool-run-summary/1"
    assert summary["slides"] == {"ok": 1, "partial": 1, "failed": 0, "waiting": 0}
    assert summary["counts_csv"] == str(tmp_path / "a.csv")
    assert summary["workbook"] == str(tmp_path / "a.xlsx")
    assert summary["failed"][0]["errors"][0]["field"] == "bad.png"
    assert summary["results"][1] == {
        "slide": "s10",
        "status": "ok",
        "done_in_run": True,
        "fields": 1,
        "fields_failed": 0,
        "cells": 12,
        "counted": 10,
        "review": 0,
        "not_wbc": 2,
        "flags": ["low_count", "nrbc"],
        "report": str(tmp_path / "a" / "s10" / "report.html"),
    }


def test_run_prints_names_of_any_bytes(cli, slides, tmp_path):
    (slides / "s2").rename(slides / "\udcff\n")
    summary = json.loads(cli("run", slides, "--out", tmp_path / "a.csv", "--json", "--quiet").stdout)
    assert {entry["slide"] for entry in summary["results"]} == {"\udcff\n", "s10"}


def test_dry_run_prints_plan(cli, slides, tmp_path):
    plan = json.loads(cli("run", slides, "--out", tmp_path / "a.csv", "--json", "--dry-run").stdout)
    assert plan["slides"][0] == {"slide": "s2", "action": "to do", "fields": 2}


def test_run_that_fails_prints_nothing(cli, tmp_path):
    done = cli("run", tmp_path / "gone", "--out", tmp_path / "a.csv", "--json")
    assert (done.exit_code, done.stdout) == (4, "")


def test_models_list_and_verify_print_each_model(cli):
    models = json.loads(cli("models", "list", "--json").stdout)["models"]
    assert [model["kind"] for model in models] == ["classifier", "compact", "detector", "generator"]
    assert "neutrophil" in models[0]["classes"]
    assert "classes" not in models[3]
    result = json.loads(cli("models", "verify", "--json").stdout)
    assert result["ok"]
    assert result["folder"] == str(default_models_dir())
    assert result["models"][0] == {"card": "classifier.json", "ok": True, "problem": None}


def test_models_verify_says_what_is_wrong(cli, tmp_path):
    (tmp_path / "detector.json").write_text("{}")
    done = cli("models", "verify", "--models", tmp_path, "--json")
    result = json.loads(done.stdout)
    assert (done.exit_code, result["ok"]) == (1, False)
    assert "is not a model card" in result["models"][0]["problem"]


def test_review_verify_prints_what_was_checked(cli, slides, tmp_path):
    cli("run", slides, "--out", tmp_path / "a.csv")
    result = json.loads(cli("review", "verify", tmp_path / "a.csv", "--json").stdout)
    assert (result["ok"], result["slides"], result["problems"]) == (True, 2, [])
    (tmp_path / "a" / "s2" / "cells.csv").write_text("")
    done = cli("review", "verify", tmp_path / "a.csv", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["problems"]
