"""The generator: cells in, generator.onnx out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, cast

import lightning as L
import numpy as np
import torch

from training.data.cells import CellSample
from training.data.sr_pairs import SrPairs
from training.export import GeneratorGraph, check_parity, publish, round_weights_fp16, to_onnx
from training.generate import generate_cells
from training.loop import loader
from training.models.srgan import SCALE, Generator
from training.stages.parts import PARITY_CELLS, prepared_cells, restore
from training.start import trained_generator
from training.tasks.srgan import SrganTask, SrresnetTask
from training.weights import imagenet_features
from training.workplace import Workplace
from wbctool.cards import GeneratorCard, plain_card
from wbctool.errors import LabelledDataInvalid
from wbctool.lab.labelled import Split
from wbctool.stages.upscale import PREPARED_PX, resize_square

log = logging.getLogger(__name__)

_VALIDATION_SEED = 1
_KNOWN_BY = 32  # cells from which a generator that is trained further gets its BatchNorms' statistics


@dataclass(frozen=True, slots=True)
class GeneratorCells:
    """Cells sharp enough for HR. kept: to train on. held_back: for the curves alone."""

    kept: list[CellSample]
    held_back: list[CellSample]

    @classmethod
    def of(cls, work: Workplace) -> GeneratorCells:
        """Those of the data whose native crop measures the recipe's ``min_hr_px`` or more."""
        least_px = work.recipe.srgan.min_hr_px / work.recipe.crop_margin
        kept, held_back = work.by_split([c for c in work.cells() if c.box.side_px >= least_px])
        if not kept:
            raise LabelledDataInvalid(
                f"no cells to train the generator on: none measures {least_px:.0f} pixels or more"
            )
        log.info("generator: %d cells to train on, %d held back", len(kept), len(held_back))
        return cls(kept, held_back)


def train_srgan(work: Workplace) -> None:
    """Cells -> generator.onnx: the warm-up on pixels, then the GAN. generator-pixel.onnx keeps the warm-up's end."""
    part = work.recipe.srgan
    cells = GeneratorCells.of(work)
    if part.per_class:
        seen = {c.label for c in cells.kept if work.splitting.of(c) is Split.TRAIN}
        if missing := [label.value for label in work.recipe.classes if label not in seen]:
            raise LabelledDataInvalid(f"no cells to train the generator of these classes on: {', '.join(missing)}")
    generator = warm_up(work, cells)
    if part.warmup_samples:
        publish_generator(work, generator, cells, "generator-pixel" if part.gan_samples else "generator")
    if part.gan_samples:
        generator = play_gan(work, generator, cells, "srgan")
        publish_generator(work, generator, cells, "generator")
    if part.per_class:
        for label in work.recipe.classes:
            own = GeneratorCells(
                [c for c in cells.kept if c.label is label and work.splitting.of(c) is Split.TRAIN],
                [c for c in cells.held_back if c.label is label],
            )
            own_generator = play_gan(work, generator, own, f"srgan-{label}")
            generate_cells(
                own_generator,
                label,
                own.kept,
                work.recipe.crop_margin,
                part.generated_per_class,
                work.folder("generated"),
                work.recipe.seed,
            )


def warm_up(work: Workplace, cells: GeneratorCells) -> Generator:
    """Where the GAN begins: the recipe's warm-up on pixels, from its start or the generator of ``--start-from``."""
    part, margin = work.recipe.srgan, work.recipe.crop_margin
    L.seed_everything(work.recipe.seed, workers=True)
    task = SrresnetTask(part, _start(work, cells))
    if part.warmup_samples:
        pairs = SrPairs(cells.kept, margin, part.lr_px, work.recipe.seed, varied=not part.clean)
        checkpoint = work.loop("srresnet", part.warmup_samples // part.epoch_samples).fit(
            task, loader(pairs, part.batch, epoch_samples=part.epoch_samples), _validation(cells, margin)
        )
        restore(task, checkpoint)
    return cast(Generator, task.average.module)


def play_gan(work: Workplace, start: Generator, cells: GeneratorCells, stage: str) -> Generator:
    """A copy of ``start``, trained on whole cells with the recipe's losses. stage: the folder of its checkpoints."""
    part, margin = work.recipe.srgan, work.recipe.crop_margin
    L.seed_everything(work.recipe.seed, workers=True)
    network = Generator()
    network.load_state_dict(start.state_dict())
    task = SrganTask(part, network, imagenet_features(work.imagenet_weights) if part.content_weight else None)
    pairs = SrPairs(cells.kept, margin, PREPARED_PX // SCALE, work.recipe.seed, varied=not part.clean)
    checkpoint = work.loop(stage, part.gan_samples // part.epoch_samples).fit(
        task, loader(pairs, part.gan_batch, epoch_samples=part.epoch_samples), _validation(cells, margin)
    )
    restore(task, checkpoint)
    return cast(Generator, task.average.module)


def publish_generator(work: Workplace, network: Generator, cells: GeneratorCells, name: str) -> None:
    """``name``.onnx and its card, into the output folder."""
    round_weights_fp16(network)
    graph = GeneratorGraph(network)
    native = prepared_cells(cells.kept[:PARITY_CELLS], work.recipe.crop_margin)
    example = np.stack([resize_square(rgb, PREPARED_PX // SCALE) for rgb in native])
    model = to_onnx(graph, example, dynamic_side=True)
    worst = check_parity(graph, model.SerializeToString(), [example[:1], example], tolerance=4 / 255)
    parents = [plain_card(folder, GeneratorCard) for folder in work.start_from]
    card = GeneratorCard(
        **work.card_facts(name, network, cells.kept, worst, parents), scale=SCALE, min_px=32, max_px=64
    )
    publish(model, card, work.out)


def _start(work: Workplace, cells: GeneratorCells) -> Generator:
    part, margin = work.recipe.srgan, work.recipe.crop_margin
    if work.start_from:
        pairs = SrPairs(cells.kept, margin, part.lr_px, work.recipe.seed, varied=not part.clean)
        lr = torch.stack([pairs[index][0] for index in range(_KNOWN_BY)])
        return trained_generator(work.start_from[0], work.splitting, lr.float() / 255)
    generator = Generator()
    if part.start_as_interpolation:
        generator.start_as_interpolation()
    return generator


def _validation(cells: GeneratorCells, margin: float) -> Any:
    """A curve to look at; nothing is chosen by it."""
    if not cells.held_back:
        return None
    return loader(SrPairs(cells.held_back, margin, PREPARED_PX // SCALE, _VALIDATION_SEED, varied=False, length=48), 16)
