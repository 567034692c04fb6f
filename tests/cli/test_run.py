"""`wbctool run` with fake stages; tests/test_end_to_end.py runs the real models."""

import os

import fakes
import pytest
from tiny_models import write_tiny_models
from typer.testing import CliRunner

from wbctool import errors
from wbctool.cli import app
from wbctool.cli.errors import get_exit_code
from wbctool.paths import OutputPaths
from wbctool.store.lock import lock_output


def test_run_prints_a_line_for_each_slide(cli, slides, tmp_path):
    done = cli("run", slides, "--out", tmp_path / "counts.csv")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "s2: ok, 2 fields, 3 cells: 2 counted, 1 review, 0 not WBC",
        "s10: ok, 1 field, 12 cells: 10 counted, 0 review, 2 not WBC; nrbc",
        f"{tmp_path}/counts.csv written; open {tmp_path}/counts/index.html",
    ]
    assert done.stderr == ""
    again = cli("run", slides, "--out", tmp_path / "counts.csv")
    assert again.stdout.splitlines()[0] == "s2: ok (up to date)"


def test_run_that_creates_the_folder_of_its_output_says_so_once(cli, slides, tmp_path):
    """A share that is not mounted would be analyzed again onto the local disk."""
    out = tmp_path / "share" / "lab" / "a.csv"
    created = f"the folder {out.parent} did not exist and was created; is a share not mounted?"
    for log, n_times in ((tmp_path / "first.log", 1), (tmp_path / "second.log", 0)):
        done = cli("run", slides, "--out", out, "--quiet", "--log-file", log)
        assert (done.exit_code, done.stderr) == (0, "")
        assert log.read_text().count(created) == n_times
    assert out.exists()


def test_run_into_a_folder_whose_name_is_too_long_says_so(cli, slides, tmp_path):
    done = cli("run", slides, "--out", tmp_path / ("n" * 300) / "a.csv")
    assert done.exit_code == 1
    assert "File name too long" in done.stderr


def test_quiet_run_prints_errors_alone(cli, slides, tmp_path):
    assert cli("run", slides, "--out", tmp_path / "a.csv", "--quiet").output == ""
    (slides / "s2" / "bad.png").write_bytes(b"")
    done = cli("run", slides, "--out", tmp_path / "a.csv", "--quiet")
    assert done.exit_code == 3
    assert done.stdout == ""
    assert done.stderr == "wbctool: slide 's2', field 'bad.png', read: the file is empty\n"


def test_run_of_a_single_image_takes_it_as_a_slide(cli, slides, tmp_path):
    (slides / "slides.csv").write_text("slide,age\ns2,40\n")
    done = cli("run", slides / "s2" / "f1.png", "--out", tmp_path / "a.csv")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "f1: ok, 1 field, 2 cells: 2 counted, 0 review, 0 not WBC"
    assert done.stderr == ""
    assert (tmp_path / "a" / "f1" / "report.html").exists()
    assert cli("run", slides / "s2" / "f1.png", "--out", tmp_path / "a.csv").stdout.startswith("f1: ok (up to date)")
    assert cli("export", "geojson", tmp_path / "a.csv").exit_code == 0


@pytest.mark.usefixtures("without_openslide")
def test_run_names_what_is_not_read_on_every_run(cli, slides, tmp_path):
    (slides / "s3").mkdir()
    (slides / "s3" / "scan.svs").touch()
    for _ in range(2):
        done = cli("run", slides, "--out", tmp_path / "a.csv", "--quiet")
        assert done.exit_code == 0
        assert done.stderr.splitlines() == [
            "wbctool: not read: 1 whole-slide scan (svs), 's3/scan.svs'; install openslide to have it read (pip "
            "install 'wbctool[wsi]'), or export fields of it as PNG, TIFF or JPEG",
            "wbctool: not slides, as they hold no image that can be read: 's3'",
        ]
    assert "scan.svs" in (tmp_path / "a" / "index.html").read_text()
    assert "notice: not slides" in cli("status", tmp_path / "a.csv").stdout


def test_quiet_run_prints_notices(cli, slides, tmp_path):
    (slides / "slides.csv").write_text("slide,age\ngone,40\n")
    run = ("run", slides, "--out", tmp_path / "a.csv", "--log-file", tmp_path / "log")
    done = cli(*run, "--quiet")
    assert done.exit_code == 0
    assert done.output == "wbctool: slides.csv names slides that do not exist: gone\n"
    assert (tmp_path / "log").read_text().count("that do not exist: gone") == 1
    assert cli(*run, "--quiet", "--dry-run").output == done.output
    assert cli("status", tmp_path / "a.csv").stdout.splitlines()[-1] == f"notice: {done.output[9:-1]}"


def test_control_characters_in_names_do_not_reach_the_terminal(cli, slides, tmp_path):
    fakes.draw_field(slides / "a\x1b[2J\nb [red]" / "f.png", [])
    (slides / "s2" / "\x1b[31m.png").write_bytes(b"")
    done = cli("run", slides, "--out", tmp_path / "a.csv")
    assert "\x1b" not in done.output
    assert r"a\x1b[2J\nb [red]: ok" in done.stdout


def test_dry_run_prints_plan_and_writes_nothing(cli, slides, tmp_path):
    done = cli("run", slides, "--out", tmp_path / "out" / "a.csv", "--dry-run", "--log-file", tmp_path / "out" / "log")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == ["s2: to do, 2 fields", "s10: to do, 1 field", "2 slides: 2 to do"]
    assert not (tmp_path / "out").exists()


def test_run_takes_settings_from_file(cli, slides, tmp_path):
    (tmp_path / "lab.toml").write_text("quiet = true\nlow_count_below = 5\nlimited_count_below = 5\n")
    done = cli("run", slides, "--out", tmp_path / "a.csv", "--config", tmp_path / "lab.toml")
    assert done.output == ""
    assert (tmp_path / "a.csv").read_text().splitlines()[2].endswith(",10.00,nrbc")


def test_run_with_adult_has_reference_ranges(cli, slides, tmp_path):
    cli("run", slides, "--out", tmp_path / "a.csv", "--adult")
    assert ",45.00,79.00," in (tmp_path / "a" / "s10" / "differential.csv").read_text()


class TestExitCodes:
    def test_output_on_slides_csv_is_wrong_usage(self, cli, slides, tmp_path):
        (slides / "slides.csv").write_text("slide,age\ns2,40\n")
        for option in (["--out"], ["--out", tmp_path / "a.csv", "--log-file"]):
            done = cli("run", slides, *option, slides / "slides.csv")
            assert done.exit_code == 2
            assert done.stderr.startswith(f"wbctool: {option[-1]}: {slides}/slides.csv is the laboratory's own table")
        assert (slides / "slides.csv").read_text() == "slide,age\ns2,40\n"

    def test_output_folder_of_something_else_is_wrong_usage(self, cli, slides, tmp_path):
        (tmp_path / "proj").mkdir()
        (tmp_path / "proj" / "index.html").write_text("mine")
        for options in ([], ["--dry-run"]):
            done = cli("run", slides, "--out", tmp_path / "proj.csv", *options)
            assert done.exit_code == 2
            assert "which holds files of the same names that no run wrote; choose another name" in done.stderr
        assert [path.name for path in (tmp_path / "proj").iterdir()] == ["index.html"]

    def test_wrong_value_in_slides_csv_is_wrong_usage(self, cli, slides, tmp_path):
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
    def test_wrong_option_is_wrong_usage(self, cli, slides, args, message):
        done = cli("run", slides, *args)
        assert done.exit_code == 2
        assert message in done.stderr

    def test_failed_field_needs_attention(self, cli, slides, tmp_path):
        (slides / "s2" / "bad.png").write_bytes(b"")
        done = cli("run", slides, "--out", tmp_path / "a.csv")
        assert done.exit_code == 3
        assert "s2: partial, 3 fields (1 failed), 3 cells" in done.stdout

    def test_folder_without_image_ends_with_4(self, cli, tmp_path):
        assert cli("run", tmp_path, "--out", tmp_path / "a.csv").exit_code == 4
        done = cli("run", tmp_path / "gone", "--out", tmp_path / "a.csv")
        assert done.exit_code == 4
        assert done.stderr == f"wbctool: {tmp_path}/gone does not exist\n"

    def test_output_of_another_run_ends_with_5(self, cli, slides, tmp_path):
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

    def test_output_that_cannot_be_written_is_fatal(self, cli, slides, tmp_path):
        (tmp_path / "a").write_text("in the way")
        done = cli("run", slides, "--out", tmp_path / "a.csv")
        assert done.exit_code == 1
        assert done.stderr.startswith(f"wbctool: {tmp_path}/a cannot be written: ")

    def test_loop_of_links_is_fatal(self, cli, slides, tmp_path):
        (tmp_path / "loop").symlink_to("loop")
        done = cli("run", slides, "--out", tmp_path / "loop" / "a.csv")
        assert done.exit_code == 1
        assert done.stderr.startswith(f"wbctool: {tmp_path}/loop/a cannot be written: ")

    def test_name_that_is_too_long_is_fatal(self, cli, slides, tmp_path):
        for length in (252, 300):
            for folder in (tmp_path, slides):
                done = cli("run", slides, "--out", folder / f"{'n' * length}.csv")
                assert done.exit_code == 1
                assert done.stderr.endswith("cannot be written: File name too long\n")
                assert done.stdout == ""

    def test_missing_models_are_fatal(self, slides, tmp_path):
        args = ["run", str(slides), "--out", str(tmp_path / "a.csv"), "--models", str(tmp_path)]
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 1
        assert f"the model card {tmp_path}/detector.json is missing" in done.stderr

    def test_missing_second_reader_is_fatal_and_names_the_way_out(self, slides, tmp_path):
        models = write_tiny_models(tmp_path / "models")
        (models / "compact.json").unlink()
        args = ["run", str(slides), "--out", str(tmp_path / "a.csv"), "--models", str(models), "--device", "cpu"]
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 1
        assert f"the model card of the second reader, {models}/compact.json, is missing" in done.stderr
        assert "wbctool train --stage compact" in done.stderr
        assert "run with --readers vgg19" in done.stderr
        fakes.draw_field(slides / "s10" / "f1.png", [(102, 48, 140)])  # the others are no smear for the real stages
        CliRunner().invoke(app, [*args, "--readers", "vgg19"])
        assert "s10,ok,1,0," in (tmp_path / "a.csv").read_text()

    def test_log_that_cannot_be_written_is_fatal(self, cli, slides, tmp_path):
        done = cli("run", slides, "--out", tmp_path / "a.csv", "--log-file", tmp_path)
        assert done.exit_code == 1
        assert "the log" in done.stderr

    def test_ctrl_c_while_models_load_ends_with_130(self, cli, slides, tmp_path, monkeypatch):
        def load(settings):
            raise KeyboardInterrupt

        monkeypatch.setattr("wbctool.cli.run.load_stages", load)
        assert cli("run", slides, "--out", tmp_path / "a.csv").exit_code == 130

    def test_every_error_is_fatal_but_three(self):
        kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
        codes = {kind: get_exit_code(kind.__new__(kind)) for kind in kinds}
        others = {kind: code for kind, code in codes.items() if code != 1}
        assert others == {errors.SettingsInvalid: 2, errors.SlidesNotFound: 4, errors.OutputLocked: 5}
