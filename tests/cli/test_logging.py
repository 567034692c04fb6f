"""What a run logs, on standard error and in the log file."""

import json
import logging
import warnings
from pathlib import Path

import fakes
import pytest

from wbctool.cli.logging import configure_logging
from wbctool.notices import log_notice


@pytest.mark.parametrize("target", ["a field", "the table", "among the results", "settings"])
def test_log_file_that_is_another_file_is_refused(cli, slides, tmp_path, target):
    out, toml = tmp_path / "counts.csv", tmp_path / "lab.toml"
    toml.write_text("workers = 1\n")
    file = {
        "a field": slides / "s2" / "f1.png",
        "the table": out,
        "among the results": tmp_path / "counts" / "s2" / "cells.csv",
        "settings": toml,
    }[target]
    before = file.read_bytes() if file.is_file() else None
    done = cli("run", slides, "--out", out, "--log-file", file)
    assert done.exit_code == 2
    assert f"--log-file {file}: " in done.stderr
    assert (file.read_bytes() if file.is_file() else None) == before
    assert not out.exists()


@pytest.mark.parametrize("there", ["", '{"ti', '{"time": "2026-01-02T03:0'])
def test_log_with_torn_first_line_is_continued(cli, slides, tmp_path, there):
    log = tmp_path / "wbctool.log"
    log.write_text(there)
    for _ in range(2):
        assert cli("run", slides, "--out", tmp_path / "counts.csv", "--log-file", log).exit_code == 0
    assert log.read_text().count('"started: ') == 2


def test_log_has_json_lines(cli, slides, tmp_path):
    (slides / "s2" / "bad\n.png").write_bytes(b"")
    cli("run", slides, "--out", tmp_path / "a.csv", "--log-file", tmp_path / "logs" / "run.log", "--quiet")
    lines = [json.loads(line) for line in (tmp_path / "logs" / "run.log").read_text().splitlines()]
    assert [line["level"] for line in lines] == ["info", "error", "info", "info", "info"]
    assert "bad\\n.png" in lines[1]["message"]
    assert lines[2]["message"] == "slide 's2': partial, to do"
    assert lines[-1]["message"] == "ended with exit code 3"


def test_logger_asked_before_configuration_logs_after_it(tmp_path):
    """A logger remembers what its level was when it was last asked."""
    root, logger = logging.getLogger("wbctool"), logging.getLogger("wbctool.asked_before")
    before = root.level
    root.setLevel(logging.WARNING)
    try:
        assert not logger.isEnabledFor(logging.INFO)
        with configure_logging(quiet=True, log_file=tmp_path / "run.log"):
            logger.info("heard")
        assert not logger.isEnabledFor(logging.INFO)
    finally:
        root.setLevel(before)
    assert json.loads((tmp_path / "run.log").read_text())["message"] == "heard"


@pytest.mark.parametrize(
    ("quiet", "lines"), [(True, ["an error", "a notice"]), (False, ["a warning", "an error", "a notice"])]
)
def test_quiet_shows_errors_and_notices(quiet, lines, capsys):
    with configure_logging(quiet=quiet, log_file=None):
        logging.getLogger("wbctool.test").warning("a warning")
        logging.getLogger("wbctool.test").error("an error")
        log_notice("a notice")
    assert capsys.readouterr().err.splitlines() == [f"wbctool: {line}" for line in lines]


def test_log_has_cause_of_failed_run(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    cli("run", tmp_path / "empty", "--out", tmp_path / "a.csv", "--log-file", tmp_path / "run.log")
    last = json.loads((tmp_path / "run.log").read_text().splitlines()[-1])["message"]
    assert last == f"ended with exit code 4: no image found in {tmp_path / 'empty'}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_log_that_cannot_be_written_warns_once(cli, slides, tmp_path, capfd):
    done = cli("run", slides, "--out", tmp_path / "a.csv", "--log-file", "/dev/full")
    assert done.exit_code == 0
    assert done.output.count("the log /dev/full cannot be written") == 1
    assert "Traceback" not in done.output


def test_warnings_of_libraries_go_to_log_alone(cli, slides, tmp_path, monkeypatch):
    def load(settings):
        warnings.warn("an odd tag", UserWarning, stacklevel=1)
        return fakes.fake_stages(settings)

    monkeypatch.setattr("wbctool.cli.run.load_stages", load)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = cli("run", slides, "--out", tmp_path / "a.csv", "--log-file", tmp_path / "run.log")
    assert "odd tag" not in done.output
    assert "odd tag" in (tmp_path / "run.log").read_text()
