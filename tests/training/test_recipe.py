"""Recipes are complete, and a wrong one is refused by name."""

from pathlib import Path

import pytest
from wbctool_training.recipe import RECIPES_DIR, load_recipe

from wbctool.errors import SettingsInvalid
from wbctool.labels import CellClass


def test_the_default_recipe_knows_all_eight_classes_in_order() -> None:
    assert load_recipe("default").classes == tuple(CellClass)


def test_the_paper_recipe_has_the_papers_hyperparameters() -> None:
    recipe = load_recipe("paper")
    classifier, srgan = recipe.classifier, recipe.srgan
    assert len(recipe.classes) == 4
    assert (classifier.batch, classifier.optimizer, classifier.features_lr, classifier.head_lr) == (
        4,
        "adam",
        1e-3,
        1e-3,
    )
    assert classifier.samples / classifier.epoch_samples == 50
    assert (classifier.early_stopping_min_delta, classifier.early_stopping_patience) == (0.1, 3)
    assert srgan.gan_samples / srgan.epoch_samples == 200
    assert srgan.adversarial_weight == 1e-3
    assert srgan.generated_per_class == 1000


def test_a_recipe_says_only_what_differs_from_the_one_it_extends(tmp_path: Path) -> None:
    default, tuned = load_recipe("default"), load_recipe("fine-tune")
    assert tuned.name == "fine-tune"
    assert tuned.classifier.features_lr < default.classifier.features_lr
    assert tuned.classifier.augment == default.classifier.augment
    assert tuned.classes == default.classes
    assert tuned.detector == default.detector.model_copy(update={"samples": 0})
    own = tmp_path / "own.toml"
    own.write_text('extends = "fine-tune"\n[classifier]\nsamples = 6400\n')
    assert load_recipe(str(own)).classifier == tuned.classifier.model_copy(update={"samples": 6400})
    own.write_text('extends = "nothing"\n')
    with pytest.raises(SettingsInvalid, match=r"own\.toml: extends nothing: the recipes are calibrate, default"):
        load_recipe(str(own))


@pytest.mark.parametrize(
    ("recipe", "stages"),
    [
        ("default", ["detector", "srgan", "classifier"]),
        ("paper", ["srgan", "classifier"]),
        ("fine-tune", ["classifier"]),
        ("calibrate", ["classifier"]),
    ],
)
def test_what_a_recipe_trains(recipe: str, stages: list[str]) -> None:
    assert [s for s in ("detector", "srgan", "classifier") if load_recipe(recipe).has_stage(s)] == stages


def test_an_unknown_entry_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((RECIPES_DIR / "default.toml").read_text().replace("canvas_px", "canvas_size"))
    with pytest.raises(SettingsInvalid, match=r"(?s)mine\.toml.*canvas_size"):
        load_recipe(str(path))


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(SettingsInvalid, match="calibrate, default, fine-tune, paper"):
        load_recipe("papers")


def test_a_generator_without_any_loss_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silent.toml"
    path.write_text('extends = "default"\n[srgan]\ncontent_weight = 0\nadversarial_weight = 0\npixel_weight = 0\n')
    with pytest.raises(SettingsInvalid, match="are all 0: nothing would be learnt"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("part", "entry", "said"),
    [
        ("classifier", "samples = 6000", "classifier: samples = 6000 is not a multiple of epoch_samples = 3200"),
        ("classifier", "samples = 500", "classifier: samples = 500 is not a multiple of epoch_samples = 3200"),
        ("srgan", "content_layer = [6, 1]", r"srgan: content_layer \(6, 1\) is not a convolution of VGG19"),
        ("srgan", "content_layer = [2, 3]", r"srgan: content_layer \(2, 3\) is not a convolution of VGG19"),
        ("srgan", "lr_px = 64", "srgan.lr_px: Input should be less than or equal to 32"),
        ("detector", "canvas_px = 0", "detector.canvas_px: Input should be greater than 0"),
        ("detector", "low_score_threshold = 0.9", "detector: low_score_threshold 0.9 exceeds score_threshold 0.45"),
    ],
)
def test_what_would_fail_late_or_be_ignored_is_refused_at_once(
    tmp_path: Path, part: str, entry: str, said: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "default"\n[{part}]\n{entry}\n')
    with pytest.raises(SettingsInvalid, match=f"mine.toml: {said}$"):
        load_recipe(str(path))
