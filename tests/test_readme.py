"""What README tells a laboratory to install, tried with the programs that will read it."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return found


def test_the_systems_that_it_runs_on_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    systems = [name for name in project["classifiers"] if name.startswith("Operating System")]
    assert systems == ["Operating System :: MacOS", "Operating System :: POSIX :: Linux"]
    assert "on Linux or macOS; Windows is not supported" in README


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    service = block("systemd-service").replace("/usr/local/bin/wbctool", shutil.which("true") or "")
    (tmp_path / "wbctool.service").write_text(service)
    (tmp_path / "wbctool.timer").write_text(block("systemd-timer"))
    (tmp_path / "wbctool-failed.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    units = [str(tmp_path / name) for name in ("wbctool.service", "wbctool.timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_accepts_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(block("prometheus-rules"))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 rules found" in done.stdout


def test_the_alerts_name_metrics_that_are_written(tmp_path: Path) -> None:
    from wbctool.pipeline.prometheus import write_metrics

    write_metrics(tmp_path / "m.prom", None, 0)
    written = set(re.findall(r"^wbctool_\w+", (tmp_path / "m.prom").read_text(), re.MULTILINE))
    assert set(re.findall(r"wbctool_\w+", block("prometheus-rules"))) <= written


@pytest.mark.parametrize("language", ["crontab", "systemd-service"])
def test_the_commands_have_options_that_exist(language: str) -> None:
    from typer.testing import CliRunner

    from wbctool.cli import app

    help_text = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    (command,) = re.findall(r"wbctool run .*", block(language))
    assert all(option in help_text for option in re.findall(r"--[a-z-]+", command))
