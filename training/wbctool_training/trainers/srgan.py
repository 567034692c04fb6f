"""The generator: cells in, generator.onnx out."""

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
from wbctool_training.data.cell_index import CellRef
from wbctool_training.data.sr_pairs import SuperResolutionPairs
from wbctool_training.export import GeneratorGraph, check_parity, round_weights_fp16, to_onnx, write_model
from wbctool_training.fit import make_loader
from wbctool_training.init_from import load_generator
from wbctool_training.models.srgan import SCALE, Generator
from wbctool_training.modules.srgan import SrganModule, SrresnetModule
from wbctool_training.synthetic import generate_cells
from wbctool_training.trainers.common import N_PARITY_CELLS, load_weights, preprocess_cells
from wbctool_training.weights import load_imagenet_features

log = logging.getLogger(__name__)

_VALIDATION_SEED = 1
_N_BATCHNORM_CELLS = 32  # cells from which a generator that is trained further gets its BatchNorms' statistics


@dataclass(frozen=True, slots=True)
class GeneratorSplit:
    """Cells sharp enough for HR. train: to train on. test: for the curves alone."""

    train: list[CellRef]
    test: list[CellRef]

    @classmethod
    def from_context(cls, context: TrainingContext) -> GeneratorSplit:
        """Those of the data whose native crop measures the recipe's ``min_hr_px`` or more."""
        min_px = context.recipe.srgan.min_hr_px / context.recipe.crop_margin
        train, test = context.train_test_split([c for c in context.load_cells() if c.box.longer_side_px >= min_px])
        if not train:
            raise LabelledDataInvalid(f"no cells to train the generator on: none measures {min_px:.0f} pixels or more")
        log.info("generator: %d cells to train on, %d held back", len(train), len(test))
        return cls(train, test)


def train_srgan(context: TrainingContext) -> None:
    """Cells -> generator.onnx: the warm-up on pixels, then the GAN. generator-pixel.onnx keeps the warm-up's end."""
    config = context.recipe.srgan
    cells = GeneratorSplit.from_context(context)
    if config.per_class:
        train_labels = {c.label for c in cells.train if context.group_split.assign(c) is Split.TRAIN}
        if missing := [label.value for label in context.recipe.classes if label not in train_labels]:
            raise LabelledDataInvalid(f"no cells to train the generator of these classes on: {', '.join(missing)}")
    generator = pretrain(context, cells)
    if config.pretrain_samples:
        export_generator(context, generator, cells, "generator-pixel" if config.gan_samples else "generator")
    if config.gan_samples:
        generator = train_gan(context, generator, cells, "srgan")
        export_generator(context, generator, cells, "generator")
    if config.per_class:
        for label in context.recipe.classes:
            class_cells = GeneratorSplit(
                [c for c in cells.train if c.label is label and context.group_split.assign(c) is Split.TRAIN],
                [c for c in cells.test if c.label is label],
            )
            class_generator = train_gan(context, generator, class_cells, f"srgan-{label}")
            generate_cells(
                class_generator,
                label,
                class_cells.train,
                context.recipe.crop_margin,
                config.generated_per_class,
                context.checkpoint_dir("generated"),
                context.recipe.seed,
            )


def pretrain(context: TrainingContext, cells: GeneratorSplit) -> Generator:
    """Where the GAN begins: the recipe's warm-up on pixels, from its start or the generator of ``--init-from``."""
    config, margin = context.recipe.srgan, context.recipe.crop_margin
    L.seed_everything(context.recipe.seed, workers=True)
    module = SrresnetModule(config, _make_initial_generator(context, cells))
    if config.pretrain_samples:
        pairs = SuperResolutionPairs(
            cells.train, margin, config.lr_px, context.recipe.seed, augment=not config.ideal_degradation
        )
        checkpoint = context.fit_config("srresnet", config.pretrain_samples // config.epoch_samples).fit(
            module,
            make_loader(pairs, config.batch, epoch_samples=config.epoch_samples),
            _make_validation_loader(cells, margin),
        )
        load_weights(module, checkpoint)
    return cast(Generator, module.average.module)


def train_gan(context: TrainingContext, initial_generator: Generator, cells: GeneratorSplit, name: str) -> Generator:
    """A copy of ``initial_generator``, trained on whole cells with the recipe's losses. name: the folder of its checkpoints."""
    config, margin = context.recipe.srgan, context.recipe.crop_margin
    L.seed_everything(context.recipe.seed, workers=True)
    network = Generator()
    network.load_state_dict(initial_generator.state_dict())
    module = SrganModule(
        config, network, load_imagenet_features(context.imagenet_weights) if config.content_weight else None
    )
    pairs = SuperResolutionPairs(
        cells.train, margin, CLASSIFIER_INPUT_PX // SCALE, context.recipe.seed, augment=not config.ideal_degradation
    )
    checkpoint = context.fit_config(name, config.gan_samples // config.epoch_samples).fit(
        module,
        make_loader(pairs, config.gan_batch, epoch_samples=config.epoch_samples),
        _make_validation_loader(cells, margin),
    )
    load_weights(module, checkpoint)
    return cast(Generator, module.average.module)


def export_generator(context: TrainingContext, network: Generator, cells: GeneratorSplit, name: str) -> None:
    """``name``.onnx and its card, into the output folder."""
    round_weights_fp16(network)
    graph = GeneratorGraph(network)
    crops = preprocess_cells(cells.train[:N_PARITY_CELLS], context.recipe.crop_margin)
    example = np.stack([resize_square(rgb, CLASSIFIER_INPUT_PX // SCALE) for rgb in crops])
    model = to_onnx(graph, example, dynamic_side=True)
    parity = check_parity(graph, model.SerializeToString(), [example[:1], example], tolerance=4 / 255)
    parents = [load_fp32_card(folder, GeneratorCard) for folder in context.init_from]
    card = GeneratorCard(
        **context.card_fields(name, network, cells.train, parity, parents), scale=SCALE, min_px=32, max_px=64
    )
    write_model(model, card, context.out)


def _make_initial_generator(context: TrainingContext, cells: GeneratorSplit) -> Generator:
    config, margin = context.recipe.srgan, context.recipe.crop_margin
    if context.init_from:
        pairs = SuperResolutionPairs(
            cells.train, margin, config.lr_px, context.recipe.seed, augment=not config.ideal_degradation
        )
        lr = torch.stack([pairs[index][0] for index in range(_N_BATCHNORM_CELLS)])
        return load_generator(context.init_from[0], context.group_split, lr.float() / 255)
    generator = Generator()
    if config.init_as_interpolation:
        generator.init_as_interpolation()
    return generator


def _make_validation_loader(cells: GeneratorSplit, margin: float) -> Any:
    """A curve to look at; nothing is chosen by it."""
    if not cells.test:
        return None
    return make_loader(
        SuperResolutionPairs(
            cells.test, margin, CLASSIFIER_INPUT_PX // SCALE, _VALIDATION_SEED, augment=False, length=48
        ),
        16,
    )
