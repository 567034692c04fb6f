"""What a training copies from the shipped models."""

from pathlib import Path

import pytest
from wbctool_training.context import TrainingContext
from wbctool_training.copied_models import copy_bundled_models
from wbctool_training.options import TrainingOptions
from wbctool_training.recipe import Recipe
from wbctool_training.recipe_files import load_recipe

from wbctool.inference.model_card import default_models_dir

SHIPPED = default_models_dir()


def _context(recipe: Recipe, out: Path) -> TrainingContext:
    return TrainingContext(recipe, (), (), TrainingOptions(data=(), out=out))


@pytest.mark.parametrize(
    ("recipe_name", "stages", "borrowed"),
    [
        ("default", ["classifier"], ["detector", "generator"]),
        ("default", ["detector", "srgan", "classifier"], []),
        ("default", ["srgan", "classifier"], ["detector"]),
        ("paper", ["classifier"], ["detector"]),  # it has no super-resolved copies
        ("default", ["detector"], []),
        ("default", ["compact"], ["detector"]),
    ],
)
def test_copy_bundled_models_copies_what_stages_need(
    recipe_name: str, stages: list[str], borrowed: list[str], tmp_path: Path
) -> None:
    work = _context(load_recipe(recipe_name), tmp_path)
    copy_bundled_models(work, stages)
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == borrowed
    for name in borrowed:
        assert (tmp_path / f"{name}.onnx").read_bytes() == (SHIPPED / f"{name}.onnx").read_bytes()


def test_copy_bundled_models_copies_generator_for_super_resolved_cells_of_the_second_reader(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "default"\n[compact]\nsuper_resolved_share = 0.1\n')
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    copy_bundled_models(_context(recipe, tmp_path), ["compact"])
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == ["detector", "generator"]


def test_copy_bundled_models_keeps_existing_model(tmp_path: Path) -> None:
    (tmp_path / "detector.json").write_text("mine")
    copy_bundled_models(_context(load_recipe("paper"), tmp_path), ["srgan"])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
