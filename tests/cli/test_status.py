"""`wbctool status` and the metrics of `wbctool run`."""

import json

import pytest

from wbctool import errors
from wbctool.paths import OutputPaths
from wbctool.store.lock import lock_output


class TestMetricsAndStatus:
    def metrics(self, tmp_path):
        return dict(
            line.split(" ") for line in (tmp_path / "m.prom").read_text().splitlines() if not line.startswith("#")
        )

    def test_partial_run_ends_both_with_3(self, cli, slides, tmp_path):
        (slides / "s2" / "f2.png").write_bytes(b"")
        done = cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "m.prom")
        assert done.exit_code == 3
        assert self.metrics(tmp_path)["wbctool_last_run_exit_code"] == "3.0"
        for out in ("a.csv", "a", "a/run.json", "a/index.html"):
            report = cli("status", tmp_path / out)
            assert report.exit_code == 3
            assert "partial: s2" in report.output
        assert json.loads(cli("status", tmp_path / "a.csv", "--json").output)["exit_code"] == 3

    def test_run_without_models_ends_both_with_1(self, cli, slides, tmp_path, monkeypatch):
        def load(settings):
            raise errors.ModelNotFound("no model")

        monkeypatch.setattr("wbctool.cli.run.load_stages", load)
        assert cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "m.prom").exit_code == 1
        assert self.metrics(tmp_path)["wbctool_last_run_exit_code"] == "1.0"
        assert cli("status", tmp_path / "a.csv").exit_code == 1

    def test_run_that_could_not_begin_replaces_good_one(self, cli, slides, tmp_path, monkeypatch):
        run = ("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "m.prom")
        assert cli(*run).exit_code == 0
        assert cli("status", tmp_path / "a.csv").exit_code == 0
        slides.rename(tmp_path / "unplugged")
        assert cli(*run).exit_code == 4
        assert self.metrics(tmp_path).keys() == {
            "wbctool_last_run_end_timestamp_seconds",
            "wbctool_last_run_exit_code",
        }
        report = cli("status", tmp_path / "a.csv")
        assert report.exit_code == 4
        assert "exit code 4: " in report.output

    def test_max_age_reports_missing_runs(self, cli, slides, tmp_path):
        cli("run", slides, "--out", tmp_path / "a.csv")
        assert cli("status", tmp_path / "a.csv", "--max-age", "2").exit_code == 0
        assert cli("status", tmp_path / "a.csv", "--max-age", "1e300").exit_code == 0
        report = cli("status", tmp_path / "a.csv", "--max-age", "0")
        assert report.exit_code == 1
        assert "no run has ended within the last 0 hours" in report.output

    @pytest.mark.parametrize("age", ["-1", "inf", "nan"])
    def test_max_age_that_is_no_age_is_wrong_usage(self, cli, slides, tmp_path, age):
        cli("run", slides, "--out", tmp_path / "a.csv")
        report = cli("status", tmp_path / "a.csv", "--max-age", age)
        assert (report.exit_code, report.stderr) == (2, f"wbctool: --max-age: {age} is not a number of hours\n")

    def test_metrics_file_with_other_ending_is_wrong_usage(self, cli, slides, tmp_path):
        done = cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "a.csv")
        assert done.exit_code == 2
        assert "--metrics: the name must end in .prom" in done.output

    def test_metrics_are_left_to_run_that_holds_output(self, cli, slides, tmp_path):
        with lock_output(OutputPaths(tmp_path / "a.csv")):
            assert cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "m.prom").exit_code == 5
        assert not (tmp_path / "m.prom").exists()

    def test_metrics_that_cannot_be_written_do_not_fail_run(self, cli, slides, tmp_path):
        (tmp_path / "file").write_text("")
        done = cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "file" / "m.prom")
        assert done.exit_code == 0
        assert "metrics not written" in done.output

    def test_dry_run_writes_no_metrics(self, cli, slides, tmp_path):
        cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "m.prom", "--dry-run")
        assert not (tmp_path / "m.prom").exists()
