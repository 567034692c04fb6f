"""What all commands share: start-up time, help, version, and arguments that no command gets to see."""

import os
import subprocess
import sys

import fakes
import pytest

from wbctool.cli import main


def test_help_is_quick_and_imports_nothing_heavy():
    heavy = (
        "numpy",
        "pandas",
        "scipy",
        "cv2",
        "PIL",
        "jinja2",
        "pydantic",
        "onnxruntime",
        "torch",
        "wbctool_training",
        "rich",
    )
    code = f"import sys, wbctool.cli; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "wbctool", "--help"], check=True, capture_output=True)
        after = os.times()  # processor time: wall time would measure what else the machine does
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.4


def test_run_imports_scipy_and_rich_late():
    names = "wbctool.cli.progress, wbctool.pipeline.run, wbctool.api, wbctool.pipeline.bound_stages"
    code = f"import sys, {names}; print([m for m in ('scipy', 'rich', 'pandas', 'tifffile') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_version_is_printed(cli):
    assert cli("--version").output == "wbctool 0.1.0\n"


@pytest.mark.parametrize("arguments", [["run", "", "--out", "c.csv"], ["run", "slides", "--out", "c.csv", "--models="]])
def test_empty_argument_is_wrong_usage(tmp_path, monkeypatch, capsys, arguments):
    fakes.draw_field(tmp_path / "holiday" / "beach.png", ["neutrophil"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["wbctool", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]


def test_models_verify_without_models_fails(cli, tmp_path):
    done = cli("models", "verify", "--models", tmp_path)
    assert done.exit_code == 1
    assert "no model card" in done.stderr


def test_short_help_option_works_for_each_command(cli):
    for command in ([], ["run"], ["models"], ["models", "list"]):
        assert cli(*command, "-h").output == cli(*command, "--help").output
