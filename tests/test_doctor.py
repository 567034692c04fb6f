import json

import pytest

from wbctool import doctor


@pytest.fixture
def without_models(tmp_path):
    return {check.name: check for check in doctor.examine(tmp_path)}


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
    check = doctor._package("no-such-package-here")
    assert (check.ok, check.advice) == (False, "pip install no-such-package-here")


def test_no_place_for_temporary_files(monkeypatch):
    def deny():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", deny)
    assert not doctor._temporary_folder().ok


def test_json_and_text_say_the_same(without_models):
    checks = tuple(without_models.values())
    parsed = json.loads(doctor.report_json(checks))
    assert parsed["ok"] is False
    assert [c["name"] for c in parsed["checks"]] == [c.name for c in checks]
    text = doctor.as_text(checks)
    assert f"FAIL models: {without_models['models'].detail}" in text
    assert "no   cuda: not tried" in text
    assert "ok   python: " in text
