"""The generator: cells in, generator.onnx out."""

from __future__ import annotations

import logging
from typing import Any, cast

import lightning as L
import numpy as np

from training.data.cells import CellSample
from training.data.sr_pairs import SrPairs
from training.export import GeneratorGraph, check_parity, publish, round_weights_fp16, to_onnx
from training.generate import generate_cells
from training.loop import loader
from training.models.srgan import SCALE, Generator
from training.stages.parts import PARITY_CELLS, prepared_cells, restore
from training.tasks.srgan import SrganTask, SrresnetTask
from training.weights import imagenet_features
from training.workplace import Workplace
from wbctool.cards import GeneratorCard
from wbctool.lab.labelled import Split
from wbctool.stages.upscale import PREPARED_PX, resize_square

log = logging.getLogger(__name__)

_VALIDATION_SEED = 1


def train_srgan(work: Workplace) -> None:
    """Cells -> generator.onnx: the warm-up on pixels, then the GAN. generator-pixel.onnx keeps the warm-up's end."""
    part, margin = work.recipe.srgan, work.recipe.crop_margin
    cells = [c for c in work.cells() if c.box.side_px * margin >= part.min_hr_px]
    kept, held_back = work.by_split(cells)
    log.info("generator: %d cells to train on, %d held back", len(kept), len(held_back))
    generator = _warm_up(work, kept, held_back)
    if part.warmup_samples:
        _publish_generator(work, generator, kept, "generator-pixel" if part.gan_samples else "generator")
    if part.gan_samples:
        generator = _play_gan(work, generator, kept, held_back, "srgan")
        _publish_generator(work, generator, kept, "generator")
    if part.per_class:
        for label in work.recipe.classes:
            own = [c for c in kept if c.label is label and work.splitting.of(c) is Split.TRAIN]
            own_generator = _play_gan(
                work, generator, own, [c for c in held_back if c.label is label], f"srgan-{label}"
            )
            generate_cells(
                own_generator, label, own, margin, part.generated_per_class, work.folder("generated"), work.recipe.seed
            )


def _warm_up(work: Workplace, kept: list[CellSample], held_back: list[CellSample]) -> Generator:
    part, margin = work.recipe.srgan, work.recipe.crop_margin
    L.seed_everything(work.recipe.seed, workers=True)
    epochs = max(1, part.warmup_samples // part.epoch_samples)
    task = SrresnetTask(part, steps=epochs * -(-part.epoch_samples // part.batch))
    if part.warmup_samples:
        pairs = SrPairs(kept, margin, part.lr_px, work.recipe.seed, varied=not part.clean)
        checkpoint = work.loop("srresnet", epochs).fit(
            task, loader(pairs, part.batch, epoch_samples=part.epoch_samples), _sr_validation(held_back, margin)
        )
        restore(task, checkpoint)
    return cast(Generator, task.average.module)


def _play_gan(
    work: Workplace, start: Generator, kept: list[CellSample], held_back: list[CellSample], stage: str
) -> Generator:
    part, margin = work.recipe.srgan, work.recipe.crop_margin
    L.seed_everything(work.recipe.seed, workers=True)
    network = Generator()
    network.load_state_dict(start.state_dict())
    task = SrganTask(part, network, imagenet_features(work.imagenet_weights))
    pairs = SrPairs(kept, margin, PREPARED_PX // SCALE, work.recipe.seed, varied=not part.clean)
    epochs = max(1, part.gan_samples // part.epoch_samples)
    checkpoint = work.loop(stage, epochs).fit(
        task, loader(pairs, part.gan_batch, epoch_samples=part.epoch_samples), _sr_validation(held_back, margin)
    )
    restore(task, checkpoint)
    return cast(Generator, task.average.module)


def _sr_validation(held_back: list[CellSample], margin: float) -> Any:
    """A curve to look at; nothing is chosen by it."""
    if not held_back:
        return None
    return loader(SrPairs(held_back, margin, PREPARED_PX // SCALE, _VALIDATION_SEED, varied=False, length=48), 16)


def _publish_generator(work: Workplace, network: Generator, kept: list[CellSample], name: str) -> None:
    round_weights_fp16(network)
    graph = GeneratorGraph(network)
    example = np.stack([resize_square(rgb, 32) for rgb in prepared_cells(kept[:PARITY_CELLS], work.recipe.crop_margin)])
    model = to_onnx(graph, example, dynamic_side=True)
    worst = check_parity(graph, model.SerializeToString(), [example[:1], example], tolerance=4 / 255)
    card = GeneratorCard(**work.card_facts(name, network, kept, worst), scale=SCALE, min_px=32, max_px=64)
    publish(model, card, work.out)
