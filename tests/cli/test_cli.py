"""The command line with fake stages; the real models are in test_end_to_end.py."""

import json
import logging
import os
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import fakes
import pytest
from typer.testing import CliRunner

from wbctool import errors
from wbctool.cli import app, run
from wbctool.cli.errors import get_exit_code
from wbctool.cli.logging import configure_logging
from wbctool.cli.train import BackboneChoice
from wbctool.paths import OutputPaths
from wbctool.store.lock import lock_output


@pytest.fixture
def cli(monkeypatch):
    monkeypatch.setattr(run, "load_stages", fakes.fake_stages)

    def call(*args):
        return CliRunner().invoke(app, [str(arg) for arg in args])

    return call


def test_help_is_quick_and_imports_nothing_heavy():
    heavy = ("numpy", "pandas", "scipy", "cv2", "PIL", "jinja2", "pydantic", "onnxruntime", "torch", "wbctool_training", "rich")
    code = f"import sys, wbctool.cli; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "wbctool", "--help"], check=True, capture_output=True)
        after = os.times()  # processor time: wall time would measure what else the machine does
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.4


def test_version(cli):
    assert cli("--version").output == "wbctool 0.1.0\n"


@pytest.mark.parametrize("arguments", [["run", "", "--out", "c.csv"], ["run", "slides", "--out", "c.csv", "--models="]])
def test_an_unset_variable_of_a_script_is_not_the_folder_that_cron_starts_in(tmp_path, arguments):
    fakes.draw_field(tmp_path / "holiday" / "beach.png", ["neutrophil"])
    command = [sys.executable, "-m", "wbctool", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "wbctool: an argument is empty; is a variable of the script unset?\n"
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]


@pytest.mark.parametrize("way", ["a field", "the table", "among the results", "settings"])
def test_a_log_spoils_no_other_file(cli, slides, tmp_path, way):
    out, toml = tmp_path / "counts.csv", tmp_path / "lab.toml"
    toml.write_text("workers = 1\n")
    file = {
        "a field": slides / "s2" / "f1.png",
        "the table": out,
        "among the results": tmp_path / "counts" / "s2" / "cells.csv",
        "settings": toml,
    }[way]
    before = file.read_bytes() if file.is_file() else None
    done = cli("run", slides, "--out", out, "--log-file", file)
    assert done.exit_code == 2
    assert f"--log-file {file}: " in done.stderr
    assert (file.read_bytes() if file.is_file() else None) == before
    assert not out.exists()


@pytest.mark.parametrize("there", ["", '{"ti', '{"time": "2026-01-02T03:0'])
def test_a_log_goes_on_though_a_full_disk_tore_its_first_line(cli, slides, tmp_path, there):
    log = tmp_path / "wbctool.log"
    log.write_text(there)
    for _ in range(2):
        assert cli("run", slides, "--out", tmp_path / "counts.csv", "--log-file", log).exit_code == 0
    assert log.read_text().count('"started: ') == 2


def test_a_run_says_a_line_a_slide(cli, slides, tmp_path):
    done = cli("run", slides, "--out", tmp_path / "counts.csv")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "s2: ok, 2 fields, 3 cells: 2 counted, 1 review, 0 not WBC",
        "s10: ok, 1 field, 12 cells: 10 counted, 0 review, 2 not WBC",
        f"{tmp_path}/counts.csv written",
    ]
    assert done.stderr == ""
    again = cli("run", slides, "--out", tmp_path / "counts.csv")
    assert again.stdout.splitlines()[0] == "s2: ok (up to date)"


def test_quiet_says_nothing_but_errors(cli, slides, tmp_path):
    assert cli("run", slides, "--out", tmp_path / "a.csv", "--quiet").output == ""
    (slides / "s2" / "bad.png").write_bytes(b"")
    done = cli("run", slides, "--out", tmp_path / "a.csv", "--quiet")
    assert done.exit_code == 3
    assert done.stdout == ""
    assert done.stderr == "wbctool: slide 's2', field 'bad.png', read: the file is empty\n"


def test_names_cannot_drive_the_terminal(cli, slides, tmp_path):
    fakes.draw_field(slides / "a\x1b[2J\nb [red]" / "f.png", [])
    (slides / "s2" / "\x1b[31m.png").write_bytes(b"")
    done = cli("run", slides, "--out", tmp_path / "a.csv")
    assert "\x1b" not in done.output
    assert r"a\x1b[2J\nb [red]: ok" in done.stdout


def test_a_dry_run(cli, slides, tmp_path):
    done = cli("run", slides, "--out", tmp_path / "out" / "a.csv", "--dry-run", "--log-file", tmp_path / "out" / "log")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == ["s2: to do, 2 fields", "s10: to do, 1 field", "2 slides: 2 to do"]
    assert not (tmp_path / "out").exists()


def test_the_log_is_json_lines(cli, slides, tmp_path):
    (slides / "s2" / "bad\n.png").write_bytes(b"")
    cli("run", slides, "--out", tmp_path / "a.csv", "--log-file", tmp_path / "logs" / "run.log", "--quiet")
    lines = [json.loads(line) for line in (tmp_path / "logs" / "run.log").read_text().splitlines()]
    assert [line["level"] for line in lines] == ["info", "error", "info", "info", "info"]
    assert "bad\\n.png" in lines[1]["message"]
    assert lines[2]["message"] == "slide 's2': partial, to do"
    assert lines[-1]["message"] == "ended with exit code 3"


def test_a_logger_that_was_silent_before_the_log_is_set_up_speaks_then(tmp_path):
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


def test_the_log_says_why_a_run_failed(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    cli("run", tmp_path / "empty", "--out", tmp_path / "a.csv", "--log-file", tmp_path / "run.log")
    last = json.loads((tmp_path / "run.log").read_text().splitlines()[-1])["message"]
    assert last == f"ended with exit code 4: no image found in {tmp_path / 'empty'}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_cannot_be_written_costs_one_line(cli, slides, tmp_path, capfd):
    done = cli("run", slides, "--out", tmp_path / "a.csv", "--log-file", "/dev/full")
    assert done.exit_code == 0
    assert done.output.count("the log /dev/full cannot be written") == 1
    assert "Traceback" not in done.output


def test_what_libraries_warn_of_goes_to_the_log_alone(cli, slides, tmp_path, monkeypatch):
    def load(settings):
        warnings.warn("an odd tag", UserWarning, stacklevel=1)
        return fakes.fake_stages(settings)

    monkeypatch.setattr(run, "load_stages", load)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = cli("run", slides, "--out", tmp_path / "a.csv", "--log-file", tmp_path / "run.log")
    assert "odd tag" not in done.output
    assert "odd tag" in (tmp_path / "run.log").read_text()


class TestMetricsAndStatus:
    def metrics(self, tmp_path):
        return dict(
            line.split(" ") for line in (tmp_path / "m.prom").read_text().splitlines() if not line.startswith("#")
        )

    def test_of_a_run(self, cli, slides, tmp_path):
        (slides / "s2" / "f2.png").write_bytes(b"")
        done = cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "m.prom")
        assert done.exit_code == 3
        assert self.metrics(tmp_path)["wbctool_last_run_exit_code"] == "3.0"
        for out in ("a.csv", "a"):
            told = cli("status", tmp_path / out)
            assert told.exit_code == 3
            assert "partial: s2" in told.output
        assert json.loads(cli("status", tmp_path / "a.csv", "--json").output)["exit_code"] == 3

    def test_of_a_run_that_could_not_begin(self, cli, slides, tmp_path, monkeypatch):
        def load(settings):
            raise errors.ModelNotFound("no model")

        monkeypatch.setattr(run, "load_stages", load)
        assert cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "m.prom").exit_code == 1
        assert self.metrics(tmp_path)["wbctool_last_run_exit_code"] == "1.0"
        assert cli("status", tmp_path / "a.csv").exit_code == 1

    def test_of_a_run_that_could_not_begin_after_a_good_one(self, cli, slides, tmp_path, monkeypatch):
        run = ("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "m.prom")
        assert cli(*run).exit_code == 0
        assert cli("status", tmp_path / "a.csv").exit_code == 0
        slides.rename(tmp_path / "unplugged")
        assert cli(*run).exit_code == 4
        assert self.metrics(tmp_path).keys() == {
            "wbctool_last_run_end_timestamp_seconds",
            "wbctool_last_run_exit_code",
        }
        told = cli("status", tmp_path / "a.csv")
        assert told.exit_code == 4
        assert "exit code 4: " in told.output

    def test_of_runs_that_have_ceased(self, cli, slides, tmp_path):
        cli("run", slides, "--out", tmp_path / "a.csv")
        assert cli("status", tmp_path / "a.csv", "--max-age", "2").exit_code == 0
        assert cli("status", tmp_path / "a.csv", "--max-age", "1e300").exit_code == 0
        told = cli("status", tmp_path / "a.csv", "--max-age", "0")
        assert told.exit_code == 1
        assert "no run has ended within the last 0 hours" in told.output

    @pytest.mark.parametrize("age", ["-1", "inf", "nan"])
    def test_an_age_that_is_none_is_wrong_usage(self, cli, slides, tmp_path, age):
        cli("run", slides, "--out", tmp_path / "a.csv")
        told = cli("status", tmp_path / "a.csv", "--max-age", age)
        assert (told.exit_code, told.stderr) == (2, f"wbctool: --max-age: {age} is not a number of hours\n")

    def test_a_metrics_file_has_its_own_ending(self, cli, slides, tmp_path):
        done = cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "a.csv")
        assert done.exit_code == 2
        assert "--metrics: the name must end in .prom" in done.output

    def test_are_left_to_the_run_that_holds_the_output(self, cli, slides, tmp_path):
        with lock_output(OutputPaths(tmp_path / "a.csv")):
            assert cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "m.prom").exit_code == 5
        assert not (tmp_path / "m.prom").exists()

    def test_that_cannot_be_written_do_not_cost_the_run(self, cli, slides, tmp_path):
        (tmp_path / "file").write_text("")
        done = cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "file" / "m.prom")
        assert done.exit_code == 0
        assert "metrics not written" in done.output

    def test_are_not_written_by_a_dry_run(self, cli, slides, tmp_path):
        cli("run", slides, "--out", tmp_path / "a.csv", "--metrics", tmp_path / "m.prom", "--dry-run")
        assert not (tmp_path / "m.prom").exists()


def test_settings_from_a_file(cli, slides, tmp_path):
    (tmp_path / "lab.toml").write_text("quiet = true\nlow_count_below = 5\nlimited_count_below = 5\n")
    done = cli("run", slides, "--out", tmp_path / "a.csv", "--config", tmp_path / "lab.toml")
    assert done.output == ""
    assert (tmp_path / "a.csv").read_text().splitlines()[2].endswith(",10.00,nrbc")


def test_adults_have_reference_ranges(cli, slides, tmp_path):
    cli("run", slides, "--out", tmp_path / "a.csv", "--adult")
    assert ",45.00,79.00," in (tmp_path / "a" / "s10" / "differential.csv").read_text()


class TestExitCodes:
    def test_2_the_laboratorys_table_stays(self, cli, slides, tmp_path):
        (slides / "slides.csv").write_text("slide,age\ns2,40\n")
        for option in (["--out"], ["--out", tmp_path / "a.csv", "--log-file"]):
            done = cli("run", slides, *option, slides / "slides.csv")
            assert done.exit_code == 2
            assert done.stderr.startswith(f"wbctool: {option[-1]}: {slides}/slides.csv is the laboratory's own table")
        assert (slides / "slides.csv").read_text() == "slide,age\ns2,40\n"

    def test_2_a_folder_of_something_else(self, cli, slides, tmp_path):
        (tmp_path / "proj").mkdir()
        (tmp_path / "proj" / "index.html").write_text("mine")
        for options in ([], ["--dry-run"]):
            done = cli("run", slides, "--out", tmp_path / "proj.csv", *options)
            assert done.exit_code == 2
            assert "which holds files of the same names that no run wrote; choose another name" in done.stderr
        assert [path.name for path in (tmp_path / "proj").iterdir()] == ["index.html"]

    def test_2_a_wrong_value_in_slides_csv(self, cli, slides, tmp_path):
        (slides / "slides.csv").write_text("slide,age\ns2,old\n")
        done = cli("run", slides, "--out", tmp_path / "a.csv")
        assert done.exit_code == 2
        assert f"{slides}/slides.csv, line 2, age: 'old': " in done.stderr

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["--out", "a.csv", "--workers", "0"], "wbctool: --workers: "),
            (["--out", "a.txt"], "wbctool: --out: the name must end in .csv"),
            (["--out", "a.csv", "--device", "gpu"], "--device"),
            (["--out", "a.csv", "--config", "gone.toml"], "wbctool: gone.toml: cannot be read"),
            ([], "--out"),
        ],
    )
    def test_2_wrong_usage(self, cli, slides, args, message):
        done = cli("run", slides, *args)
        assert done.exit_code == 2
        assert message in done.stderr

    def test_3_some_slide_failed(self, cli, slides, tmp_path):
        (slides / "s2" / "bad.png").write_bytes(b"")
        done = cli("run", slides, "--out", tmp_path / "a.csv")
        assert done.exit_code == 3
        assert "s2: partial, 3 fields (1 failed), 3 cells" in done.stdout

    def test_4_no_image(self, cli, tmp_path):
        assert cli("run", tmp_path, "--out", tmp_path / "a.csv").exit_code == 4
        assert cli("run", tmp_path / "gone", "--out", tmp_path / "a.csv").exit_code == 4

    def test_5_another_run_holds_the_output(self, cli, slides, tmp_path):
        ready, done = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                with lock_output(OutputPaths(tmp_path / "a.csv")):
                    os.write(ready[1], b"x")
                    os.read(done[0], 1)
            finally:
                os._exit(0)
        os.read(ready[0], 1)
        called = cli("run", slides, "--out", tmp_path / "a.csv")
        os.write(done[1], b"x")
        os.waitpid(pid, 0)
        assert called.exit_code == 5
        assert f"in use by another run (process {pid} on" in called.stderr

    def test_1_output_that_cannot_be_written(self, cli, slides, tmp_path):
        (tmp_path / "a").write_text("in the way")
        done = cli("run", slides, "--out", tmp_path / "a.csv")
        assert done.exit_code == 1
        assert done.stderr.startswith(f"wbctool: {tmp_path}/a cannot be written: ")

    def test_1_a_loop_of_links(self, cli, slides, tmp_path):
        (tmp_path / "loop").symlink_to("loop")
        done = cli("run", slides, "--out", tmp_path / "loop" / "a.csv")
        assert done.exit_code == 1
        assert done.stderr.startswith(f"wbctool: {tmp_path}/loop/a cannot be written: ")

    def test_1_a_name_that_is_too_long(self, cli, slides, tmp_path):
        for length in (252, 300):
            for folder in (tmp_path, slides):
                done = cli("run", slides, "--out", folder / f"{'n' * length}.csv")
                assert done.exit_code == 1
                assert done.stderr.endswith("cannot be written: File name too long\n")
                assert done.stdout == ""

    def test_1_no_models(self, slides, tmp_path):
        args = ["run", str(slides), "--out", str(tmp_path / "a.csv"), "--models", str(tmp_path)]
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 1
        assert f"the model card {tmp_path}/detector.json is missing" in done.stderr

    def test_1_log_that_cannot_be_written(self, cli, slides, tmp_path):
        done = cli("run", slides, "--out", tmp_path / "a.csv", "--log-file", tmp_path)
        assert done.exit_code == 1
        assert "the log" in done.stderr

    def test_130_ctrl_c_while_the_models_load(self, cli, slides, tmp_path, monkeypatch):
        def load(settings):
            raise KeyboardInterrupt

        monkeypatch.setattr(run, "load_stages", load)
        assert cli("run", slides, "--out", tmp_path / "a.csv").exit_code == 130

    def test_every_error_of_ours_is_fatal_but_three(self):
        kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
        others = {kind: get_exit_code(kind()) for kind in kinds if get_exit_code(kind()) != 1}
        assert others == {errors.SettingsInvalid: 2, errors.SlidesNotFound: 4, errors.OutputLocked: 5}


def test_train_offers_every_backbone():
    from wbctool_training.models.backbones import Backbone

    assert [choice.value for choice in BackboneChoice] == [backbone.value for backbone in Backbone]


def test_train_without_torch_says_what_to_install(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "wbctool_training"]:
        monkeypatch.delitem(sys.modules, name)
    done = cli("train")
    assert done.exit_code == 1
    assert done.stderr == "wbctool: `wbctool train` needs torch: pip install 'wbctool[train]'\n"


@pytest.mark.parametrize("module", ["wbctool_training.train", "wbctool.datasets.labelled"])
def test_a_module_of_our_own_that_is_missing_is_not_told_as_one_to_install(cli, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    done = cli("train")
    assert isinstance(done.exception, ModuleNotFoundError)
    assert "pip install" not in done.output


def test_models_verify_without_models(cli, tmp_path):
    done = cli("models", "verify", "--models", tmp_path)
    assert done.exit_code == 1
    assert "no model card" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--help"], 1, "wbctool: standard output cannot be written: No space left on device\n"),
        (["run", "--help"], 1, "wbctool: standard output cannot be written: No space left on device\n"),
        (["--version"], 1, "wbctool: standard output cannot be written: No space left on device\n"),
        (["models", "list"], 1, "wbctool: standard output cannot be written: No space left on device\n"),
        (["models", "verify"], 1, "wbctool: standard output cannot be written: No space left on device\n"),
        (["doctor", "--json"], 1, "wbctool: standard output cannot be written: No space left on device\n"),
    ],
)
def test_a_full_device_costs_a_line_and_the_exit_code_of_what_is_said_there(args, code, told, unbuffered):
    with Path("/dev/full").open("w") as full:
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        command = [sys.executable, "-m", "wbctool", *args]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (code, told)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("how", ["/dev/full", "closed"])
@pytest.mark.parametrize(
    ("command", "code"), [(["status", "--json"], 1), (["export", "geojson"], 0), (["review", "verify"], 1)]
)
def test_only_what_is_written_to_files_outlives_its_standard_output(cli, slides, tmp_path, command, code, how):
    """A monitor that reads an empty file must not be told that all is well."""
    cli("run", slides, "--out", tmp_path / "a.csv")
    shell = "exec " + shlex.join([sys.executable, "-m", "wbctool", *command, str(tmp_path / "a.csv")])
    shell += " >&-" if how == "closed" else f" >{how}"
    done = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == code
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["models", "verify"], ["models", "list"], ["doctor"]])
def test_a_reader_that_has_gone_is_no_error(command):
    process = subprocess.Popen(
        [sys.executable, "-m", "wbctool", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, b"")


def test_the_doctor_speaks_to_a_full_device(cli, monkeypatch):
    said = []
    monkeypatch.setattr("wbctool.cli.doctor.echo", said.append)
    cli("doctor")
    assert said[0].startswith("ok   python")


def run_with_fakes(*args):
    """The command line of `wbctool run` in a process of its own."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import fakes; from wbctool.cli import main, run;"
        "run.load_stages = fakes.fake_stages; sys.argv[1:] = sys.argv[2:]; main()"
    )
    return [sys.executable, "-c", code, str(Path(__file__).parents[1]), "run", *map(str, args)]


def test_a_closed_pipe_does_not_stop_a_run(slides, tmp_path):
    command = run_with_fakes(slides, "--out", tmp_path / "a.csv")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, b"")
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("options", "code"), [((), 0), (("--dry-run",), 1)])
def test_a_full_device_stops_a_dry_run_which_is_nothing_but_what_it_says(slides, tmp_path, options, code):
    command = run_with_fakes(slides, "--out", tmp_path / "a.csv", *options)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "wbctool: standard output cannot be written: No space left on device\n" if code else ""
    assert (done.returncode, done.stderr) == (code, said)
    assert (tmp_path / "a.csv").exists() is not bool(code)
