"""Recipes: what a training does, as TOML, validated once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wbctool.errors import SettingsInvalid
from wbctool.labels import CellClass
from wbctool_training.models.vgg import VGG19_BLOCKS

RECIPES_DIR = Path(__file__).parent / "recipes"


class _RecipeSection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _check_whole_epochs(self) -> Self:
        values = self.model_dump()
        for name, number in values.items():
            if name in {"samples", "pretrain_samples", "gan_samples"} and number % values["epoch_samples"]:
                raise ValueError(f"{name} = {number} is not a multiple of epoch_samples = {values['epoch_samples']}")
        return self


class DetectorRecipe(_RecipeSection):
    """samples: canvases drawn in all; 0: no training, the detector of ``--init-from`` is taken over.

    canvas_px: side of a canvas, a multiple of 32. *_threshold: for the card.
    """

    samples: int = Field(ge=0)
    epoch_samples: int = Field(gt=0)
    batch: int = Field(gt=0)
    canvas_px: int = Field(gt=0, multiple_of=32)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    ema_decay: float = Field(gt=0, lt=1)
    score_threshold: float = Field(gt=0, lt=1)
    low_score_threshold: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _check_thresholds(self) -> Self:
        if self.low_score_threshold > self.score_threshold:
            raise ValueError(
                f"low_score_threshold {self.low_score_threshold} exceeds score_threshold {self.score_threshold}"
            )
        return self


class SrganRecipe(_RecipeSection):
    """pretrain_samples: pixel loss alone. gan_samples: content + adversarial. Both 0: no training, as the detector's.

    lr_px: side of the warm-up's LR patches.
    ideal_degradation: LR is the Gaussian-filtered, down-sampled HR and nothing else (the paper's); else blur, noise and JPEG too.
    init_as_interpolation: the generator begins as a smooth enlargement, not at random. min_hr_px: cells whose native
    crop measures less are left out, so that HR is not itself an enlargement. content_layer: (block, convolution) of
    VGG19's feature map. A loss of weight 0 is not computed. per_class: one generator a class beside the shared one, as
    the paper trained, and ``generated_per_class`` images from each for the classifier.
    """

    pretrain_samples: int = Field(ge=0)
    gan_samples: int = Field(ge=0)
    epoch_samples: int = Field(gt=0)
    batch: int = Field(gt=0)
    gan_batch: int = Field(gt=0)
    lr_px: int = Field(ge=8, le=32)
    pretrain_lr: float = Field(gt=0)
    gan_lr: float = Field(gt=0)
    ema_decay: float = Field(ge=0, lt=1)
    ideal_degradation: bool
    init_as_interpolation: bool
    min_hr_px: int = Field(gt=0)
    content_layer: tuple[int, int]
    content_weight: float = Field(ge=0)
    adversarial_weight: float = Field(ge=0)
    pixel_weight: float = Field(ge=0)
    per_class: bool
    generated_per_class: int = Field(ge=0)

    @model_validator(mode="after")
    def _check_has_loss(self) -> Self:
        if self.gan_samples and not (self.content_weight or self.adversarial_weight or self.pixel_weight):
            raise ValueError("content_weight, adversarial_weight and pixel_weight are all 0: nothing would be learnt")
        block, convolution = self.content_layer
        if not (1 <= block <= len(VGG19_BLOCKS) and 1 <= convolution <= VGG19_BLOCKS[block - 1][0]):
            raise ValueError(f"content_layer ({block}, {convolution}) is not a convolution of VGG19")
        return self


class ClassifierRecipe(_RecipeSection):
    """frozen_blocks: VGG blocks that are not trained. samples: images drawn in all, unless it stops early; 0:
    no training, the classifier of ``--init-from`` gets its temperature and thresholds anew.

    white_balance: whether the network sees crops with their glass made white (wbctool_training.models.white_balance).
    stain_transfer_prob: of the draws, so many are shown in the colours of a crop of any origin (wbctool_training.data.stain_transfer).
    stain_jitter_prob: so many are shown in a dye of no laboratory (wbctool_training.data.augment.restain).
    super_resolved_share: of the training cells, so many are there a second time, reduced and brought back by the
    generator in the output folder; the validation cells are then prepared as a run prepares them.
    """

    samples: int = Field(ge=0)
    epoch_samples: int = Field(gt=0)
    batch: int = Field(gt=0)
    optimizer: Literal["adam", "adamw"]
    features_lr: float = Field(gt=0)
    head_lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    schedule: Literal["cosine", "plateau"]
    frozen_blocks: int = Field(ge=0, le=5)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout: float = Field(ge=0, lt=1)
    ema_decay: float = Field(ge=0, lt=1)
    augment: Literal["paper", "strong"]
    white_balance: bool
    stain_transfer_prob: float = Field(ge=0, le=1)
    stain_jitter_prob: float = Field(ge=0, le=1)
    super_resolved_share: float = Field(ge=0, le=1)
    early_stopping_min_delta: float = Field(ge=0)
    early_stopping_patience: int = Field(gt=0)


class Recipe(_RecipeSection):
    """One training, whole. classes: what the classifier tells apart, in the order of its outputs.

    requires_init: whether it only makes sense for trained models (``--init-from``).
    """

    name: str
    requires_init: bool = False
    classes: tuple[CellClass, ...]
    seed: int
    crop_margin: float = Field(ge=1)
    detector: DetectorRecipe
    srgan: SrganRecipe
    classifier: ClassifierRecipe

    def has_stage(self, stage: str) -> bool:
        """Whether a stage (detector, srgan, classifier) has anything to do; the classifier's at least calibrates."""
        if stage == "detector":
            return self.detector.samples > 0
        return stage != "srgan" or self.srgan.pretrain_samples + self.srgan.gan_samples > 0


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe by name (of training/recipes) or by path. Raises SettingsInvalid, naming file and entry.

    ``extends = "NAME"`` takes what the file does not say from another recipe of training/recipes.
    """
    path = Path(name_or_path)
    if not path.suffix:
        path = RECIPES_DIR / f"{name_or_path}.toml"
    try:
        return Recipe.model_validate(_read_toml(path))
    except FileNotFoundError as error:
        raise SettingsInvalid(f"no recipe {name_or_path}: neither a file nor one of {_list_recipes()}") from error
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, p['loc']))}: {p['msg'].removeprefix('Value error, ')}" for p in error.errors())
        raise SettingsInvalid(f"{path}: {'; '.join(problems)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path}: {error}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    if "extends" not in values:
        return values
    base = RECIPES_DIR / f"{values.pop('extends')}.toml"
    if not base.is_file():
        raise SettingsInvalid(f"{path}: extends {base.stem}: the recipes are {_list_recipes()}")
    merged = _read_toml(base)
    for key, value in values.items():
        merged[key] = {**merged[key], **value} if isinstance(value, dict) and key in merged else value
    return merged


def _list_recipes() -> str:
    return ", ".join(sorted(p.stem for p in RECIPES_DIR.glob("*.toml")))
