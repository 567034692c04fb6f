"""Trains and exports the generator."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, cast

import lightning as L
import numpy as np
import torch

from wbctool.datasets.labelled import Split
from wbctool.errors import LabelledDataInvalid
from wbctool.imaging.resize import resize_square
from wbctool.inference.model_card import GeneratorCard, load_fp32_card
from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX
from wbctool_training.context import TrainingContext
from wbctool_training.data.cell_index import CellRef, preprocess_cells
from wbctool_training.data.loader import make_loader
from wbctool_training.data.sr_pairs import SuperResolutionPairs
from wbctool_training.export import (
    N_PARITY_CELLS,
    GeneratorGraph,
    check_parity,
    round_weights_fp16,
    to_onnx,
    write_model,
)
from wbctool_training.fit import load_weights
from wbctool_training.init_from import load_generator
from wbctool_training.lightning_modules.srgan import SrganModule, SrresnetModule
from wbctool_training.models.srgan import SCALE, Discriminator, Generator
from wbctool_training.synthetic import generate_cells, write_record
from wbctool_training.weights import load_imagenet_features

log = logging.getLogger(__name__)

_VALIDATION_SEED = 1
_N_BATCHNORM_CELLS = 32  # cells that give the BatchNorm statistics of a generator to be trained further
# A run super-resolves crops of at most _MAX_PX; those of less than _MIN_PX are resampled to that first.
_MIN_PX, _MAX_PX = 32, 64


@dataclass(frozen=True, slots=True)
class GeneratorSplit:
    """The generator's cells by split.

    Attributes:
        train: Cells to train on.
        test: Test cells, for the curves only.
    """

    train: list[CellRef]
    test: list[CellRef]

    @classmethod
    def from_context(cls, context: TrainingContext) -> GeneratorSplit:
        """Select the cells whose native crop has at least the recipe's ``min_hr_px``.

        Args:
            context: The context of the training; ``out`` holds the detector.

        Raises:
            LabelledDataInvalid: There is no such cell to train on.
        """
        min_px = context.recipe.srgan.min_hr_px / context.recipe.crop_margin
        train, test = context.split_off_test([c for c in context.load_cells() if c.box.longer_side_px >= min_px])
        if not train:
            raise LabelledDataInvalid(f"no cells to train the generator on: none measures {min_px:.0f} pixels or more")
        log.info("generator: %d cells to train on, %d in the test split", len(train), len(test))
        return cls(train, test)


def train_srgan(context: TrainingContext) -> None:
    """Train the generator with pixel loss, then adversarially, and write generator.onnx.

    generator-pixel.onnx is the pretrained generator. If the recipe asks for it, one more generator per class makes
    synthetic images for the classifier.

    Args:
        context: The context of the training; ``out`` holds the detector.

    Raises:
        LabelledDataInvalid: There are no cells to train on, or none of a class that needs its own generator.
        ModelNotFound: A model or file of weights does not exist.
        ModelMismatch: The start is not usable, or an exported model differs from its network.
    """
    config = context.recipe.srgan
    cells = GeneratorSplit.from_context(context)
    if config.per_class:
        train_labels = {c.label for c in cells.train if context.options.group_split.assign(c) is Split.TRAIN}
        if missing := [label.value for label in context.recipe.classes if label not in train_labels]:
            raise LabelledDataInvalid(f"no cells to train the generator of these classes on: {', '.join(missing)}")
    generator = pretrain(context, cells)
    if config.pretrain_samples:
        export_generator(context, generator, cells, "generator-pixel" if config.gan_samples else "generator")
    if config.gan_samples:
        generator = train_gan(context, generator, cells, "srgan")
        export_generator(context, generator, cells, "generator")
    if config.per_class:
        folder = context.work_path("generated")
        for label in context.recipe.classes:
            class_cells = GeneratorSplit(
                [c for c in cells.train if c.label is label and context.options.group_split.assign(c) is Split.TRAIN],
                [c for c in cells.test if c.label is label],
            )
            class_generator = train_gan(context, generator, class_cells, f"srgan-{label}")
            generate_cells(
                class_generator,
                label,
                class_cells.train,
                context.recipe.crop_margin,
                config.generated_per_class,
                folder,
                context.recipe.seed,
            )
        write_record(folder, context.options.group_split, config.generated_per_class)


def pretrain(context: TrainingContext, cells: GeneratorSplit) -> Generator:
    """Pretrain a generator with pixel loss, from the recipe's start or the generator of ``init_from``.

    Args:
        context: The context of the training.
        cells: The cells by split.

    Returns:
        The average of its weights; if the recipe does not pretrain, the start itself.
    """
    config = context.recipe.srgan
    L.seed_everything(context.recipe.seed, workers=True)
    module = SrresnetModule(config, _make_initial_generator(context, cells))
    if config.pretrain_samples:
        _fit(context, module, cells, "srresnet", config.lr_px, config.batch, config.pretrain_samples)
    return cast(Generator, module.average.module)


def train_gan(context: TrainingContext, initial_generator: Generator, cells: GeneratorSplit, name: str) -> Generator:
    """Train a copy of a generator on whole cells with the recipe's losses.

    Args:
        context: The context of the training.
        initial_generator: Where it starts; unchanged.
        cells: The cells by split.
        name: The name of the checkpoints' folder.

    Returns:
        The average of its weights.
    """
    config, sizes = context.recipe.srgan, context.recipe.networks
    L.seed_everything(context.recipe.seed, workers=True)
    network = Generator(sizes.generator_blocks, sizes.generator_width)
    network.load_state_dict(initial_generator.state_dict())
    features = load_imagenet_features(context.options.imagenet_weights) if config.content_weight else None
    discriminator = Discriminator(sizes.discriminator_width, sizes.discriminator_hidden)
    module = SrganModule(config, network, discriminator, features)
    _fit(context, module, cells, name, CLASSIFIER_INPUT_PX // SCALE, config.gan_batch, config.gan_samples)
    return cast(Generator, module.average.module)


def export_generator(context: TrainingContext, network: Generator, cells: GeneratorSplit, name: str) -> None:
    """Write ``name``.onnx and its card to the output folder.

    Args:
        context: The context of the training.
        network: The trained generator; its weights are rounded to fp16.
        cells: The cells by split.
        name: The name of the model.

    Raises:
        ModelMismatch: The exported model differs from the network.
    """
    round_weights_fp16(network)
    graph = GeneratorGraph(network)
    crops = preprocess_cells(cells.train[:N_PARITY_CELLS], context.recipe.crop_margin)
    example = np.stack([resize_square(rgb, CLASSIFIER_INPUT_PX // SCALE) for rgb in crops])
    model = to_onnx(graph, example, dynamic_side=True)
    parity = check_parity(graph, model.SerializeToString(), [example[:1], example], tolerance=4 / 255)
    parents = [load_fp32_card(folder, GeneratorCard) for folder in context.options.init_from]
    card = GeneratorCard(
        **context.card_fields(name, network, cells.train, parity, parents), scale=SCALE, min_px=_MIN_PX, max_px=_MAX_PX
    )
    write_model(model, card, context.options.out)


def _fit(
    context: TrainingContext,
    module: SrresnetModule | SrganModule,
    cells: GeneratorSplit,
    name: str,
    lr_px: int,
    batch: int,
    samples: int,
) -> None:
    """Train a module on pairs of cells and reduced cells, and load the weights of its last checkpoint."""
    config = context.recipe.srgan
    pairs = _make_training_pairs(context, cells, lr_px)
    checkpoint = context.fit_config(name, samples // config.epoch_samples).fit(
        module,
        make_loader(pairs, batch, workers=context.options.workers, epoch_samples=config.epoch_samples),
        _make_validation_loader(context, cells),
    )
    load_weights(module, checkpoint)


def _make_initial_generator(context: TrainingContext, cells: GeneratorSplit) -> Generator:
    """Return the generator of ``init_from``, or a new one."""
    config, sizes = context.recipe.srgan, context.recipe.networks
    if context.options.init_from:
        pairs = _make_training_pairs(context, cells, config.lr_px)
        lr = torch.stack([pairs[index][0] for index in range(_N_BATCHNORM_CELLS)])
        return load_generator(context.options.init_from[0], context.options.group_split, lr.float() / 255, sizes)
    generator = Generator(sizes.generator_blocks, sizes.generator_width)
    if config.init_as_interpolation:
        generator.init_as_interpolation()
    return generator


def _make_training_pairs(context: TrainingContext, cells: GeneratorSplit, lr_px: int) -> SuperResolutionPairs:
    """Return pairs of the cells to train on and the same reduced to lr_px."""
    augment = not context.recipe.srgan.ideal_degradation
    return SuperResolutionPairs(cells.train, context.recipe.crop_margin, lr_px, context.recipe.seed, augment=augment)


def _make_validation_loader(context: TrainingContext, cells: GeneratorSplit) -> Any:
    """Return the loader for the validation curve, or None without test cells; no checkpoint is chosen by it."""
    if not cells.test:
        return None
    pairs = SuperResolutionPairs(
        cells.test,
        context.recipe.crop_margin,
        CLASSIFIER_INPUT_PX // SCALE,
        _VALIDATION_SEED,
        augment=False,
        length=48,
    )
    return make_loader(pairs, 16, workers=context.options.workers)
