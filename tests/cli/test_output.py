"""Standard output that is full, closed, or no longer read."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from wbctool.cli import main
from wbctool.cli.output import check_writable
from wbctool.errors import OutputNotWritable

needs_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
STDOUT_FULL = "wbctool: standard output cannot be written: No space left on device\n"


def call_main(monkeypatch, stdout, *args):
    """Run the program in this process with another standard output, and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["wbctool", *map(str, args)])
    monkeypatch.setattr(sys, "stdout", stdout)
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@needs_full_device
@pytest.mark.parametrize("args", [["run", "--help"], ["--version"], ["models", "list"], ["models", "verify"]])
def test_command_that_prints_ends_with_1_on_full_device(args, monkeypatch, capsys):
    with Path("/dev/full").open("w") as full:
        code = call_main(monkeypatch, full, *args)
    assert (code, capsys.readouterr().err) == (1, STDOUT_FULL)


@needs_full_device
@pytest.mark.parametrize("stdout", ["full", "closed"])
@pytest.mark.parametrize(
    ("command", "code"), [(["status", "--json"], 1), (["export", "geojson"], 0), (["review", "verify"], 1)]
)
def test_only_command_that_writes_files_survives_broken_stdout(
    cli, slides, tmp_path, monkeypatch, capsys, command, code, stdout
):
    """A monitor that reads an empty file must not take it for a good sign."""
    cli("run", slides, "--out", tmp_path / "a.csv")
    with Path("/dev/full").open("w") as full:
        ended = call_main(monkeypatch, full if stdout == "full" else None, *command, tmp_path / "a.csv")
    error = capsys.readouterr().err
    assert (ended, error.count("\n")) == (code, code), error


@needs_full_device
def test_process_that_prints_help_to_full_device_ends_with_1():
    """In a process of its own, because the interpreter flushes standard output once more at its end."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "wbctool", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, STDOUT_FULL)


def test_reader_that_has_gone_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "wbctool", "models", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, b"")


def run_with_fakes(*args):
    """Return the command line of `wbctool run` with fake stages, in a process of its own."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import fakes; from wbctool.cli import main, run;"
        "run.load_stages = fakes.fake_stages; sys.argv[1:] = sys.argv[2:]; main()"
    )
    return [sys.executable, "-c", code, str(Path(__file__).parents[1]), "run", *map(str, args)]


def test_run_goes_on_after_pipe_is_closed(slides, tmp_path):
    command = run_with_fakes(slides, "--out", tmp_path / "a.csv")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, b"")
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3


@needs_full_device
@pytest.mark.parametrize(("options", "code"), [((), 0), (("--dry-run",), 1)])
def test_full_device_stops_dry_run_alone(slides, tmp_path, options, code):
    command = run_with_fakes(slides, "--out", tmp_path / "a.csv", *options)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, STDOUT_FULL if code else "")
    assert (tmp_path / "a.csv").exists() is not bool(code)


@pytest.mark.parametrize("is_full", [False, True])
def test_check_writable_leaves_no_new_folder(tmp_path, monkeypatch, is_full):
    def fail(**_):
        raise OSError(28, "No space left on device")

    if is_full:
        monkeypatch.setattr(tempfile, "TemporaryFile", fail)
        with pytest.raises(OutputNotWritable, match="No space left"):
            check_writable(tmp_path / "a" / "b")
    else:
        check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
