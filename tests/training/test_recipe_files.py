"""The recipes are complete, and an invalid one is refused by name."""

from pathlib import Path

import pytest
from wbctool_training.recipe_files import RECIPES_DIR, load_recipe
from wbctool_training.train import STAGES

from wbctool.errors import SettingsInvalid
from wbctool.labels import CellClass, UnknownKind


def test_default_recipe_has_all_eight_classes_in_order() -> None:
    assert load_recipe("default").classes == tuple(CellClass)


def test_paper_recipe_has_hyperparameters_of_the_paper() -> None:
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


def test_load_recipe_extends_another_recipe(tmp_path: Path) -> None:
    default, tuned = load_recipe("default"), load_recipe("fine-tune")
    assert tuned.name == "fine-tune"
    assert tuned.classifier.features_lr < default.classifier.features_lr
    assert tuned.classifier.augment == default.classifier.augment
    assert tuned.classes == default.classes
    assert tuned.detector == default.detector.model_copy(update={"samples": 0})
    own = tmp_path / "own.toml"
    own.write_text('extends = "fine-tune"\n[classifier]\nsamples = 6400\n')
    assert load_recipe(str(own)).name == "own"
    assert load_recipe(str(own)).classifier == tuned.classifier.model_copy(update={"samples": 6400})
    own.write_text('extends = "nothing"\n')
    with pytest.raises(SettingsInvalid, match=r"own\.toml: extends nothing: the recipes are default, fine-tune"):
        load_recipe(str(own))


def test_load_recipe_generators_per_class_without_training_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('extends = "default"\n[srgan]\nper_class = true\ngan_samples = 0\n')
    with pytest.raises(SettingsInvalid, match="per_class needs gan_samples"):
        load_recipe(str(own))


@pytest.mark.parametrize(
    ("recipe", "stages"),
    [
        ("default", ["detector", "srgan", "classifier", "compact"]),
        ("paper", ["srgan", "classifier"]),
        ("fine-tune", ["classifier"]),
    ],
)
def test_has_stage_by_recipe(recipe: str, stages: list[str]) -> None:
    assert [s for s in STAGES if load_recipe(recipe).has_stage(s)] == stages


def test_load_recipe_unknown_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((RECIPES_DIR / "default.toml").read_text().replace("canvas_px", "canvas_size"))
    with pytest.raises(SettingsInvalid, match=r"(?s)mine\.toml.*canvas_size"):
        load_recipe(str(path))


def test_load_recipe_unknown_name_lists_recipes() -> None:
    with pytest.raises(SettingsInvalid, match="one of default, fine-tune, last-block, paper"):
        load_recipe("papers")


def test_load_recipe_generator_without_loss_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silent.toml"
    path.write_text('extends = "default"\n[srgan]\ncontent_weight = 0\nadversarial_weight = 0\npixel_weight = 0\n')
    with pytest.raises(SettingsInvalid, match="are all 0: nothing would be learned"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("section", "entry", "message"),
    [
        ("classifier", "samples = 6000", "classifier: samples = 6000 is not a multiple of epoch_samples = 3200"),
        ("classifier", "samples = 500", "classifier: samples = 500 is not a multiple of epoch_samples = 3200"),
        ("srgan", "content_layer = [6, 1]", r"srgan: content_layer \(6, 1\) is not a convolution of VGG19"),
        ("srgan", "content_layer = [2, 3]", r"srgan: content_layer \(2, 3\) is not a convolution of VGG19"),
        ("srgan", "generated_per_class = 9", "srgan: generated_per_class needs per_class = true"),
        ("srgan", "lr_px = 64", "srgan.lr_px: Input should be less than or equal to 32"),
        ("detector", "canvas_px = 0", "detector.canvas_px: Input should be greater than 0"),
        ("detector", "low_score_threshold = 0.9", "detector: low_score_threshold 0.9 exceeds score_threshold 0.45"),
        ("compact", "samples = 500", "compact: samples = 500 is not a multiple of epoch_samples = 2400"),
        ("compact", 'unknown_kinds = ["neutrophil"]', r"compact\.unknown_kinds\.0: Input should be 'blast'.*"),
        ("familiarity", "min_confidence = 1.5", "familiarity.min_confidence: Input should be less than or equal to 1"),
        ("familiarity", "false_alarm_share = 0", "familiarity.false_alarm_share: Input should be greater than 0"),
        ("familiarity", "min_cells = 0", "familiarity.min_cells: Input should be greater than or equal to 1"),
    ],
)
def test_load_recipe_inconsistent_value_is_refused(tmp_path: Path, section: str, entry: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "default"\n[{section}]\n{entry}\n')
    with pytest.raises(SettingsInvalid, match=f"mine.toml: {message}$"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("classes = []", "classes: Tuple should have at least 1 item after validation, not 0"),
        ('classes = ["neutrophil", "basophil", "neutrophil"]', "classes: neutrophil occurs twice"),
        ('[compact]\nunknown_kinds = ["blast", "blast"]', "compact.unknown_kinds: blast occurs twice"),
        ("seed = -1", "seed: Input should be greater than or equal to 0"),
        ("[name]", "name: Input should be a valid string"),
        ("detector = 3", "detector: Input should be a valid dictionary or instance of DetectorRecipe"),
    ],
)
def test_load_recipe_entry_that_fits_no_training_is_refused(tmp_path: Path, entry: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "default"\n{entry}\n')
    with pytest.raises(SettingsInvalid, match=f"mine.toml: {message}$"):
        load_recipe(str(path))


def test_load_recipe_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").mkdir()
    with pytest.raises(SettingsInvalid, match=r"x\.toml cannot be read: Is a directory"):
        load_recipe(str(tmp_path / "x.toml"))


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [
        ("", "needs_start", "requires_init"),
        ("detector", "faint_threshold", "low_score_threshold"),
        ("srgan", "warmup_samples", "pretrain_samples"),
        ("srgan", "warmup_lr", "pretrain_lr"),
        ("srgan", "clean", "ideal_degradation"),
        ("srgan", "start_as_interpolation", "init_as_interpolation"),
        ("classifier", "optimiser", "optimizer"),
        ("classifier", "borrowed_stain_share", "stain_transfer_prob"),
        ("classifier", "restained_share", "stain_jitter_prob"),
    ],
)
def test_load_recipe_renamed_key_is_refused_with_its_new_name(tmp_path: Path, section: str, old: str, new: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "default"\n' + (f"[{section}]\n" if section else "") + f"{old} = 1\n")
    name = f"{section}.{old}" if section else old
    with pytest.raises(SettingsInvalid, match=f"mine.toml: {name} is now called {new}$"):
        load_recipe(str(path))


def test_outputs_are_the_classes_and_then_the_unknown_kinds() -> None:
    recipe = load_recipe("default")
    assert recipe.outputs_of(recipe.classifier) == recipe.classes
    assert recipe.compact is not None
    outputs = recipe.outputs_of(recipe.compact)
    assert outputs[: len(CellClass)] == tuple(CellClass)
    assert outputs[len(CellClass)] is UnknownKind.BLAST


def test_load_recipe_familiarity_section_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "default"\n[familiarity]\nmin_cells = 50\n')
    changed, default = load_recipe(str(path)).familiarity, load_recipe("default").familiarity
    assert changed == default.model_copy(update={"min_cells": 50})
