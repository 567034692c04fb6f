"""What the documentation tells a laboratory to install, tried with the programs that read it; the generated pages."""

import csv
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from wbctool.settings import RunSettings, load_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hooks():
    """The hook of mkdocs that generates the reference pages."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", OPERATIONS, re.DOTALL | re.MULTILINE)
    return found


def test_readme_names_systems_of_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    systems = [name for name in project["classifiers"] if name.startswith("Operating System")]
    assert systems == ["Operating System :: MacOS", "Operating System :: POSIX :: Linux"]
    assert "on Linux or macOS; Windows is not supported" in README


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_accepts_units_of_page(tmp_path: Path) -> None:
    service = block("systemd-service").replace("/usr/local/bin/wbctool", shutil.which("true") or "")
    (tmp_path / "wbctool.service").write_text(service)
    (tmp_path / "wbctool.timer").write_text(block("systemd-timer"))
    (tmp_path / "wbctool-failed.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    units = [str(tmp_path / name) for name in ("wbctool.service", "wbctool.timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_accepts_rules_of_page(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(block("prometheus-rules"))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 rules found" in done.stdout


def test_alerts_of_page_name_metrics_that_are_written(tmp_path: Path) -> None:
    from wbctool.pipeline.prometheus import write_metrics

    write_metrics(tmp_path / "m.prom", None, 0)
    written = set(re.findall(r"^wbctool_\w+", (tmp_path / "m.prom").read_text(), re.MULTILINE))
    assert set(re.findall(r"wbctool_\w+", block("prometheus-rules"))) <= written


@pytest.mark.parametrize("language", ["crontab", "systemd-service"])
def test_commands_of_page_have_options_that_exist(language: str) -> None:
    from typer.testing import CliRunner

    from wbctool.cli import app

    help_text = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    (command,) = re.findall(r"wbctool run .*", block(language))
    assert all(option in help_text for option in re.findall(r"--[a-z-]+", command))


def test_settings_reference_has_each_setting_once_with_description_and_default(hooks):
    rows = [row.split(" | ") for row in (hooks.run_settings() + "\n" + hooks.limits()).splitlines() if "`" in row]
    names = [row[0].strip("|` ") for row in rows]
    described = RunSettings.model_fields.keys() - {"slides", "out"}
    assert len(names) == len(set(names))
    assert described <= {*names, "limits"}
    assert all(row[-1].strip("| ") not in {"", "None"} for row in rows)
    assert "| `max_megapixels` | `300` | > 0 | A larger image is a failed field. |" in hooks.run_settings()
    assert "| neutrophil 45 to 79, lymphocyte 16 to 47, monocyte 0 to 9, eosinophil 0 to 6, basophil 0 to 2 |" in (
        hooks.limits()
    )


def test_settings_example_is_accepted(tmp_path):
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "settings.toml").write_text(example, encoding="utf-8")
    settings = load_settings({"slides": tmp_path, "out": tmp_path / "x.csv"}, tmp_path / "settings.toml")
    assert (settings.settle_s, settings.qc_slides) == (60, ("qc/*",))


def test_command_reference_has_each_command_with_its_options(hooks):
    page = hooks.cli()
    for command in ("run", "status", "qc", "train", "evaluate", "verify", "doctor", "models list", "export fhir"):
        assert f"# `wbctool {command}`" in page
    assert "* `--settle SECONDS`: " in page


def test_layers_are_those_that_are_checked(hooks):
    page = hooks.layers()
    assert page.splitlines()[2] == "| 1 | `cli` |"
    assert page.splitlines()[6] == "| 5 | `store`, `datasets` |"


@pytest.mark.slow
def test_site_builds_strictly_and_fetches_nothing(tmp_path):
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install 'wbctool[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, check=True)
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html"))
    assert "* generated:" not in pages
    assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//[^\"]*", pages)
    assert not re.findall(r"<link[^>]+rel=\"?(?:stylesheet|preconnect|icon)[^>]+href=\"?(?:https?:)?//[^ >]*", pages)


def test_readme_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)", README)
    assert [target for target in targets if "//" not in target and not (ROOT / target).exists()] == []
    assert len(README.splitlines()) <= 130


def test_example_fields_are_labeled_and_on_the_side_of_the_split_that_is_named():
    from wbctool.datasets.labelled import GroupSplit, LabelledField, infer_group

    slide = ROOT / "examples" / "slides" / "example-adult"
    with (ROOT / "examples" / "fields.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == sorted(path.name for path in slide.iterdir())
    for row in rows:
        path = slide / row["image"]
        field = LabelledField(path, infer_group(path), "bccd_fields", (), ())
        assert row["split"] == GroupSplit().assign(field)
