"""The stages of `wbctool train`, each from labelled data to a model in the output folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.calibrate import calibrate
from training.data.cells import CellSample, cut_cell
from training.data.crops import PlainCrops, TrainingCrops
from training.data.fields import DetectorCanvases
from training.data.sr_pairs import SrPairs
from training.data.stains import Stains
from training.data.super_resolved import as_served, small_copies
from training.export import (
    ClassifierGraph,
    DetectorGraph,
    GeneratorGraph,
    check_parity,
    publish,
    round_weights_fp16,
    to_onnx,
)
from training.generate import generate_cells, generated_cells
from training.loop import loader
from training.models.detector import STRIDE, CellDetector
from training.models.srgan import SCALE, Generator
from training.recipe import Recipe
from training.tasks.classifier import ClassifierTask, Normalised
from training.tasks.detector import DetectorTask
from training.tasks.srgan import SrganTask, SrresnetTask
from training.weights import imagenet_features
from training.workplace import Workplace
from wbctool.cards import ClassifierCard, DetectorCard, GeneratorCard
from wbctool.lab.labelled import LabelledField, Split
from wbctool.onnx_model import load_model
from wbctool.records import Target
from wbctool.stages.images import read_field
from wbctool.stages.upscale import PREPARED_PX, resize_square

log = logging.getLogger(__name__)

_VALIDATION_SEED = 1
_PARITY_CELLS = 8


def train_detector(work: Workplace) -> None:
    """Fields with boxes -> detector.onnx. The schedule ends where it should: nothing is chosen by validation."""
    part = work.recipe.detector
    kept, held_back = work.by_split(work.fields)
    log.info("detector: %d fields to train on, %d held back", len(kept), len(held_back))
    L.seed_everything(work.recipe.seed, workers=True)
    epochs = max(1, part.samples // part.epoch_samples)
    task = DetectorTask(part, steps=epochs * -(-part.epoch_samples // part.batch))
    checkpoint = work.loop("detector", epochs).fit(
        task,
        loader(DetectorCanvases(kept, part.canvas_px, work.recipe.seed), part.batch, epoch_samples=part.epoch_samples),
        loader(DetectorCanvases(held_back, part.canvas_px, _VALIDATION_SEED), part.batch),
    )
    _restore(task, checkpoint)
    network = cast(CellDetector, task.average.module)
    round_weights_fp16(network)
    example = _detector_example(work.fields, part.canvas_px)
    graph = DetectorGraph(network)
    model = to_onnx(graph, example, dynamic_side=True)
    # BatchNorm folds into the convolutions on export, and rounds differently there: a thousandth of the range.
    worst = check_parity(graph, model.SerializeToString(), [example[:1], example], tolerance=0.02)
    card = DetectorCard(
        **work.card_facts("detector", network, kept, worst),
        targets=tuple(Target),
        stride=STRIDE,
        long_side_px=part.canvas_px,
        multiple_px=32,
        red_cell_px=40,
        red_cell_min_px=24,
        score_threshold=part.score_threshold,
        max_overlap=0.5,
    )
    publish(model, card, work.out)


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


def train_classifier(work: Workplace) -> None:
    """Cells -> classifier.onnx. Checkpoint, temperature and thresholds come from the validation split alone."""
    recipe, part = work.recipe, work.recipe.classifier
    found = work.cells()
    cells = [c for c in found if c.label in recipe.classes]
    originals = [c for c in cells if work.splitting.of(c) is Split.TRAIN]
    train = list(originals)
    validation = [c for c in cells if work.splitting.of(c) is Split.VALIDATION]
    if recipe.srgan.per_class:
        train += generated_cells(work.folder("generated"), recipe.crop_margin)
    if part.super_resolved_share:
        generator = load_model(work.out, GeneratorCard)
        enhanced = work.folder(f"super-resolved-{generator.card.sha256[:12]}")
        train += small_copies(train, generator, recipe.crop_margin, part.super_resolved_share, enhanced, recipe.seed)
        validation = as_served(validation, generator, recipe.crop_margin, enhanced)
    stains = None
    if part.borrowed_stain_share:
        to_train_on = [c for c in found if work.splitting.of(c) is Split.TRAIN]
        stains = Stains.of_cells(to_train_on, recipe.crop_margin, recipe.seed)
    log.info("classifier: %d cells to train on, %d to validate", len(train), len(validation))
    L.seed_everything(recipe.seed, workers=True)
    epochs = max(1, part.samples // part.epoch_samples)
    steps = epochs * -(-part.epoch_samples // part.batch)
    task = ClassifierTask(
        part, len(recipe.classes), imagenet_features(work.imagenet_weights, work.backbone), steps, work.backbone
    )
    stopping = L.pytorch.callbacks.EarlyStopping(
        "val_loss", min_delta=part.early_stopping_min_delta, patience=part.early_stopping_patience
    )
    plain = PlainCrops(validation, recipe.classes, recipe.crop_margin)
    checkpoint = work.loop("classifier", epochs, monitor="val_loss", callbacks=(stopping,)).fit(
        task,
        loader(
            TrainingCrops(
                train, recipe.classes, recipe.crop_margin, part.augment, recipe.seed, stains, part.borrowed_stain_share
            ),
            part.batch,
            epoch_samples=part.epoch_samples,
        ),
        loader(plain, 32),
    )
    _restore(task, checkpoint)
    network = cast(Normalised, task.average.module)
    round_weights_fp16(network)
    graph = ClassifierGraph(network.to(memory_format=torch.contiguous_format))
    example = _prepared(train[:: max(1, len(train) // _PARITY_CELLS)][:_PARITY_CELLS], recipe.crop_margin)
    model = to_onnx(graph, example, dynamic_side=False)
    content = model.SerializeToString()
    worst = check_parity(graph, content, [example[:1], example], tolerance=1e-3)
    fitted = calibrate(*_logits(graph, validation, work.recipe))
    card = ClassifierCard(
        **work.card_facts(
            "classifier",
            network,
            originals,
            worst,
            backbone=work.backbone.value,
            super_resolved_copies=len(train) - len(originals),
        ),
        classes=recipe.classes,
        input_px=PREPARED_PX,
        crop_margin=recipe.crop_margin,
        temperature=fitted.temperature,
        confidence_threshold=fitted.confidence_threshold,
        energy_threshold=fitted.energy_threshold,
    )
    publish(content, card, work.out)


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
        _restore(task, checkpoint)
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
    _restore(task, checkpoint)
    return cast(Generator, task.average.module)


def _sr_validation(held_back: list[CellSample], margin: float) -> Any:
    """A curve to look at; nothing is chosen by it."""
    if not held_back:
        return None
    return loader(SrPairs(held_back, margin, PREPARED_PX // SCALE, _VALIDATION_SEED, varied=False, length=48), 16)


def _publish_generator(work: Workplace, network: Generator, kept: list[CellSample], name: str) -> None:
    round_weights_fp16(network)
    graph = GeneratorGraph(network)
    example = np.stack([resize_square(rgb, 32) for rgb in _prepared(kept[:_PARITY_CELLS], work.recipe.crop_margin)])
    model = to_onnx(graph, example, dynamic_side=True)
    worst = check_parity(graph, model.SerializeToString(), [example[:1], example], tolerance=4 / 255)
    card = GeneratorCard(**work.card_facts(name, network, kept, worst), scale=SCALE, min_px=32, max_px=64)
    publish(model, card, work.out)


def _restore(task: L.LightningModule, checkpoint: Path) -> None:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    task.load_state_dict(state, strict=True)
    task.cpu().eval()


def _detector_example(fields: Sequence[LabelledField], canvas_px: int) -> NDArray[np.uint8]:
    rgb = [read_field(f.path).rgb for f in fields[:: max(1, len(fields) // 3)][:3]]
    return np.stack([resize_square(image, canvas_px) for image in rgb])


def _prepared(cells: Sequence[CellSample], margin: float) -> NDArray[np.uint8]:
    return np.stack([resize_square(cut_cell(cell, margin), PREPARED_PX) for cell in cells])


def _logits(graph: nn.Module, cells: list[CellSample], recipe: Recipe) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    parts, wanted = [], []
    for rgb, index in loader(PlainCrops(cells, recipe.classes, recipe.crop_margin), 32):
        with torch.inference_mode():
            parts.append(graph(rgb.permute(0, 2, 3, 1))[0].float().numpy())
        wanted.append(index.numpy())
    return np.concatenate(parts), np.concatenate(wanted)
