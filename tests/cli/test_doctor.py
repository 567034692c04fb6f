import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from wbctool.cli import app, doctor

LIBRARIES = (
    *("onnxruntime", "numpy", "cv2", "PIL", "simplejpeg", "scipy", "jinja2", "markupsafe", "filelock"),
    *("google.protobuf", "prometheus_client", "pandas", "rich"),
)


@pytest.fixture
def without_models(tmp_path):
    return {check.name: check for check in doctor.run_checks(tmp_path)}


def test_missing_models_are_told_with_advice(without_models):
    models = without_models["models"]
    assert not models.ok
    assert models.needed
    assert "no model card" in models.detail
    assert "--models" in models.advice


def test_what_is_here_is_found(without_models):
    assert without_models["python"].ok
    assert without_models["numpy"].ok
    assert "CPUExecutionProvider" in without_models["onnxruntime"].detail
    assert float(without_models["memory"].detail.removesuffix(" GiB")) > 0.1


def test_cuda_is_never_taken_on_trust(without_models):
    cuda = without_models["cuda"]
    assert not cuda.ok
    assert not cuda.needed
    assert cuda.detail.startswith("not tried: ")


def test_a_missing_package():
    check = doctor._check_package("no-such-package-here")
    assert (check.ok, check.advice) == (False, "pip install no-such-package-here")


@pytest.mark.parametrize("missing", [("onnxruntime",), ("numpy",), LIBRARIES])
def test_without_its_libraries_the_doctor_still_speaks(missing):
    """Saying what is missing is what it is there for."""
    code = "import sys; sys.argv[1:] = ['doctor']; from wbctool.cli import main; main()"
    done = without(missing, code)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "FAIL cpu: not tried: import" in done.stdout
    assert "no   cuda: not tried: import" in done.stdout
    assert f"import of {missing[0]} halted" in done.stdout
    assert "temporary folder: " in done.stdout


def test_without_pydantic_too_which_typer_may_need_itself():
    done = without(
        ["pydantic"], "from wbctool.cli import doctor; print(doctor.format_checks_text(doctor.run_checks()))"
    )
    assert done.returncode == 0, done.stderr
    assert "FAIL models: not tried: import of pydantic halted" in done.stdout


def without(missing, code):
    """Run code where these cannot be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({tuple(missing)!r})); {code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_doctor_looks_at_the_folder_that_its_advice_names(tmp_path):
    done = CliRunner().invoke(app, ["doctor", "--models", str(tmp_path)])
    assert done.exit_code == 1
    assert f"FAIL models: no model card in {tmp_path}" in done.output


def test_no_place_for_temporary_files(monkeypatch):
    def deny():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", deny)
    assert not doctor._check_temp_dir().ok


def test_json_and_text_say_the_same(without_models):
    checks = tuple(without_models.values())
    parsed = json.loads(doctor.format_checks_json(checks))
    assert parsed["ok"] is False
    assert [c["name"] for c in parsed["checks"]] == [c.name for c in checks]
    text = doctor.format_checks_text(checks)
    assert f"FAIL models: {without_models['models'].detail}" in text
    assert "no   cuda: not tried" in text
    assert "ok   python: " in text
