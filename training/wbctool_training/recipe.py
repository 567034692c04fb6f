"""Recipes: the hyperparameters of a training, validated once."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from wbctool.enums import TrainStage
from wbctool.inference.model_card import check_unique
from wbctool.labels import CellClass, UnknownKind
from wbctool_training.models.backbones import VGG19_BLOCKS


class _RecipeSection(BaseModel):
    """Base of all parts of a recipe: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _check_whole_epochs(self) -> Self:
        """Raise ValueError if a number of samples is not a whole number of epochs."""
        values = self.model_dump()
        for name, number in values.items():
            if name in {"samples", "pretrain_samples", "gan_samples"} and number % values["epoch_samples"]:
                raise ValueError(f"{name} = {number} is not a multiple of epoch_samples = {values['epoch_samples']}")
        return self


class DetectorRecipe(_RecipeSection):
    """Hyperparameters of the detector.

    Attributes:
        samples: Canvases in the whole training; 0 keeps the detector of ``--init-from``.
        epoch_samples: Canvases per epoch.
        batch: Canvases per step.
        canvas_px: Side of a canvas, a multiple of 32.
        lr: Highest learning rate.
        weight_decay: The weight decay of AdamW.
        ema_decay: The decay of the weights' exponential moving average.
        score_threshold: The score from which a detection is kept, for the card.
        low_score_threshold: The score from which nucleus segmentation may confirm a detection, for the card.
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
        """Raise ValueError if the low threshold is the higher one."""
        if self.low_score_threshold > self.score_threshold:
            raise ValueError(
                f"low_score_threshold {self.low_score_threshold} exceeds score_threshold {self.score_threshold}"
            )
        return self


class SrganRecipe(_RecipeSection):
    """Hyperparameters of the generator.

    Attributes:
        pretrain_samples: Pairs in the pretraining with pixel loss.
        gan_samples: Pairs in the adversarial training. If both are 0, the generator of ``--init-from`` is kept.
        epoch_samples: Pairs per epoch.
        batch: Pairs per step of the pretraining.
        gan_batch: Pairs per step of the adversarial training.
        lr_px: Side of the pretraining's low-resolution patches.
        pretrain_lr: Highest learning rate of the pretraining.
        gan_lr: Learning rate of the adversarial training.
        ema_decay: The decay of the weights' exponential moving average.
        ideal_degradation: Low resolution is made by a Gaussian and downsampling only, as in the paper; otherwise also
            by random blur, noise and JPEG compression.
        init_as_interpolation: Start as a smooth interpolation instead of random weights.
        min_hr_px: Cells with a smaller native crop are left out, so that no target is an enlargement itself.
        content_layer: (block, convolution) of VGG19's feature map in the content loss.
        content_weight: The weight of the content loss; a loss of weight 0 is not computed.
        adversarial_weight: The weight of the adversarial loss.
        pixel_weight: The weight of the pixel loss in the adversarial training.
        per_class: Also train one generator per class, as in the paper.
        generated_per_class: Images that each of these makes for the classifier.
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
    def _check_consistent(self) -> Self:
        """Raise ValueError if no loss has a weight, VGG19 lacks the content layer, or nothing makes the images."""
        if self.gan_samples and not (self.content_weight or self.adversarial_weight or self.pixel_weight):
            raise ValueError("content_weight, adversarial_weight and pixel_weight are all 0: nothing would be learned")
        block, convolution = self.content_layer
        if not (1 <= block <= len(VGG19_BLOCKS) and 1 <= convolution <= VGG19_BLOCKS[block - 1][0]):
            raise ValueError(f"content_layer ({block}, {convolution}) is not a convolution of VGG19")
        if self.per_class and not self.gan_samples:
            raise ValueError("per_class needs gan_samples: each class's generator is trained by them")
        if self.generated_per_class and not self.per_class:
            raise ValueError("generated_per_class needs per_class = true")
        return self


class ClassifierRecipe(_RecipeSection):
    """Hyperparameters of the classifier.

    Attributes:
        samples: Images in the whole training, unless it stops early; 0 keeps the classifier of ``--init-from``.
        epoch_samples: Images per epoch.
        batch: Images per step.
        optimizer: adam or adamw.
        features_lr: Highest learning rate of the convolutions.
        head_lr: Highest learning rate of the dense layers.
        weight_decay: The weight decay of the optimizer.
        schedule: One cycle of a cosine, or a rate that falls when the validation loss stops falling.
        frozen_blocks: The backbone's first blocks that are not trained.
        label_smoothing: The label smoothing of the cross-entropy.
        dropout: Probability before the first two dense layers.
        ema_decay: The decay of the weights' exponential moving average.
        augment: paper or strong; see TrainDataset.
        white_balance: Whether the network sees white-balanced crops (WhiteBalance).
        stain_transfer_prob: Probability that a crop is shown in another crop's colors (transfer_stain).
        stain_jitter_prob: Probability that a crop is shown in a random stain (random_stain).
        super_resolved_share: Share of the training cells that are added a second time, reduced and super-resolved by
            the generator in the output folder. Validation cells are then prepared as a run prepares them.
        early_stopping_min_delta: Smallest fall of the validation loss that counts as progress.
        early_stopping_patience: Epochs without progress before the training stops.
        unknown_kinds: Kinds of cells that no class fits and that get outputs of their own, so that they are not
            counted under a class (outlier exposure, Hendrycks et al. 2019, arXiv 1812.04606).
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
    unknown_kinds: Annotated[tuple[UnknownKind, ...], AfterValidator(check_unique)] = ()


class FamiliarityRecipe(_RecipeSection):
    """How unfamiliar slides are told, and what is counted on them; chosen on laboratories left out of training.

    Attributes:
        min_cells: The number of cells that the decision needs.
        false_alarm_share: The share of slides, with so many cells of a laboratory of the training, that are called
            unfamiliar.
        min_confidence: The smallest probability of a counted cell's label on an unfamiliar slide, by the mean of both
            readers.
        min_confidence_alone: The same if the reader reads alone.
    """

    min_cells: int = Field(default=20, ge=1)
    false_alarm_share: float = Field(default=0.02, gt=0, lt=1)
    min_confidence: float = Field(default=0.94, ge=0, le=1)
    min_confidence_alone: float = Field(default=0.99, ge=0, le=1)


class NetworkSizes(_RecipeSection):
    """Sizes of the networks.

    Attributes:
        detector_width: Channels of the detector's first resolution.
        generator_blocks: The generator's residual blocks.
        generator_width: Channels of these.
        discriminator_width: Channels of the discriminator's first layer.
        discriminator_hidden: Units of its dense layer.

    References:
        Generator and discriminator: Ferdousi et al. 2024, doi 10.1016/j.teler.2024.100163, Tables 1 and 2.
    """

    detector_width: int = Field(32, gt=0, multiple_of=2)
    generator_blocks: int = Field(16, gt=0)
    generator_width: int = Field(64, ge=3)
    discriminator_width: int = Field(64, gt=0)
    discriminator_hidden: int = Field(1024, gt=0)


class Recipe(_RecipeSection):
    """Hyperparameters of a whole training.

    Attributes:
        name: Recorded in the models' cards.
        requires_init: Whether it needs trained models to start from (``--init-from``).
        classes: The classes of the classifier, in the order of its outputs.
        seed: The seed of all random numbers.
        crop_margin: Side of a cell's crop, relative to its box.
        detector: The section of the detector.
        srgan: The section of the generator.
        classifier: The section of the first reader.
        compact: The section of the second reader; None trains none.
        familiarity: The section of the rule for unfamiliar slides.
        networks: Sizes of the networks.
    """

    name: str
    requires_init: bool = False
    classes: Annotated[tuple[CellClass, ...], Field(min_length=1), AfterValidator(check_unique)]
    seed: int = Field(ge=0, lt=2**32)
    crop_margin: float = Field(ge=1)
    detector: DetectorRecipe
    srgan: SrganRecipe
    classifier: ClassifierRecipe
    compact: ClassifierRecipe | None = None
    familiarity: FamiliarityRecipe = FamiliarityRecipe()
    networks: NetworkSizes = NetworkSizes()

    def outputs_of(self, reader: ClassifierRecipe) -> tuple[CellClass | UnknownKind, ...]:
        """Return what a reader's outputs stand for: the classes, then its unknown kinds."""
        return *self.classes, *reader.unknown_kinds

    def has_stage(self, stage: TrainStage) -> bool:
        """Return whether a stage, not all of them, has work."""
        if stage is TrainStage.SRGAN:
            return self.srgan.pretrain_samples + self.srgan.gan_samples > 0
        section = {
            TrainStage.DETECTOR: self.detector,
            TrainStage.CLASSIFIER: self.classifier,
            TrainStage.COMPACT: self.compact,
        }[stage]
        return section is not None and section.samples > 0
