import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wbctool.cli import app, doctor

LIBRARIES = (
    *("onnxruntime", "numpy", "cv2", "PIL", "simplejpeg", "scipy", "jinja2", "markupsafe", "filelock"),
    *("google.protobuf", "prometheus_client", "pandas", "rich", "tifffile", "imagecodecs"),
)


@pytest.fixture(scope="module")
def without_models(tmp_path_factory):
    return {check.name: check for check in doctor.run_checks(tmp_path_factory.mktemp("empty"))}


def test_missing_models_fail_with_advice(without_models):
    models = without_models["models"]
    assert not models.ok
    assert models.needed
    assert "no model card" in models.detail
    assert "--models" in models.advice


def test_installed_packages_and_memory_are_found(without_models):
    assert without_models["python"].ok
    assert without_models["numpy"].ok
    assert "CPUExecutionProvider" in without_models["onnxruntime"].detail
    assert float(without_models["memory"].detail.removesuffix(" GiB")) > 0.1


def test_cuda_without_models_is_not_tried(without_models):
    cuda = without_models["cuda"]
    assert not cuda.ok
    assert not cuda.needed
    assert cuda.detail.startswith("not tried: ")


def test_missing_package_has_command_to_install_it():
    check = doctor.check_package("no-such-package-here")
    assert (check.ok, check.advice) == (False, "pip install no-such-package-here")


@pytest.mark.parametrize("missing", [("onnxruntime",), ("numpy",), LIBRARIES])
def test_doctor_without_libraries_reports_them(missing):
    code = "import sys; sys.argv[1:] = ['doctor']; from wbctool.cli import main; main()"
    done = without(missing, code)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "FAIL cpu: not tried: import" in done.stdout
    assert "no   cuda: not tried: import" in done.stdout
    assert f"import of {missing[0]} halted" in done.stdout
    assert "temporary folder: " in done.stdout


def test_checks_without_pydantic_report_it():
    """typer may need pydantic itself to call the command."""
    done = without(
        ["pydantic"], "from wbctool.cli import doctor; print(doctor.format_checks_text(doctor.run_checks()))"
    )
    assert done.returncode == 0, done.stderr
    assert "FAIL models: not tried: import of pydantic halted" in done.stdout


def without(missing, code):
    """Run code in a process in which these modules cannot be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({tuple(missing)!r})); {code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_doctor_checks_given_folder_of_models(tmp_path):
    done = CliRunner().invoke(app, ["doctor", "--models", str(tmp_path)])
    assert done.exit_code == 1
    assert f"FAIL models: no model card in {tmp_path}" in done.output


def test_extra_is_installed_if_all_its_packages_are(without_models):
    assert doctor.check_extra("x", ["numpy", "typer"]).ok
    missing = doctor.check_extra("x", ["numpy", "no-such-package-here"])
    assert (missing.ok, missing.needed, missing.advice) == (False, False, "pip install 'wbctool[x]'")
    assert missing.detail == "no-such-package-here not installed"


def test_doctor_lists_each_extra_but_the_developers(without_models):
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = {name.removeprefix("extra ") for name in without_models if name.startswith("extra ")}
    assert listed == set(project["optional-dependencies"]) - {"dev", "docs"}


def test_full_temporary_folder_fails(monkeypatch):
    def deny():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", deny)
    assert not doctor.check_temp_dir().ok


def test_json_and_text_have_same_checks(without_models):
    checks = tuple(without_models.values())
    parsed = json.loads(doctor.format_checks_json(checks))
    assert parsed["ok"] is False
    assert [c["name"] for c in parsed["checks"]] == [c.name for c in checks]
    text = doctor.format_checks_text(checks)
    assert f"FAIL models: {without_models['models'].detail}" in text
    assert "no   cuda: not tried" in text
    assert "ok   python: " in text


def test_doctor_checks_each_dependency_of_package():
    root = Path(__file__).parents[2]
    required = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {re.match(r"[\w-]+", requirement).group() for requirement in required}
    runtimes = {name for name in names if name.startswith("onnxruntime")}  # one of them is enough
    assert set(doctor.PACKAGES) == names - runtimes
    assert set(doctor.RUNTIMES) == runtimes
