"""Whether models may be written into a folder: beside a card with their hash they are ours."""

import json
import shutil

import pytest

from wbctool.errors import SettingsInvalid
from wbctool.inference.model_card import default_models_dir
from wbctool.store.model_ownership import check_models_overwrite


@pytest.fixture
def folder(tmp_path):
    for kind in ("json", "onnx"):
        shutil.copy(default_models_dir() / f"detector.{kind}", tmp_path)
    return tmp_path


def test_check_models_overwrite_accepts_our_models_and_a_new_folder(folder):
    check_models_overwrite(folder)
    check_models_overwrite(folder / "new")


@pytest.mark.parametrize("name", ["detector.json", "detector.onnx", "generator.onnx", "classifier.json"])
def test_check_models_overwrite_refuses_file_of_another_program(folder, name):
    (folder / name).write_text(json.dumps({"kind": "of mine"}))
    with pytest.raises(SettingsInvalid, match="detector" if name == "detector.json" else name):
        check_models_overwrite(folder)


def test_check_models_overwrite_refuses_model_whose_card_is_gone(folder):
    (folder / "detector.json").unlink()
    with pytest.raises(SettingsInvalid, match=r"detector\.onnx"):
        check_models_overwrite(folder)
