"""The classifier: cells in, classifier.onnx out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.calibrate import calibrate
from training.checkpoints import StopEarly
from training.data.cells import CellSample
from training.data.crops import PlainCrops, TrainingCrops
from training.data.laboratories import even_weights
from training.data.stains import Stains
from training.data.super_resolved import as_served, small_copies
from training.export import ClassifierGraph, check_parity, publish, round_weights_fp16, to_onnx
from training.generate import generated_cells
from training.loop import loader
from training.models.backbones import Backbone
from training.stages.parts import PARITY_CELLS, prepared_cells, restore
from training.start import mean_weights
from training.tasks.classifier import ClassifierTask, Normalised
from training.weights import imagenet_features
from training.workplace import Workplace
from wbctool.cards import ClassifierCard, GeneratorCard, plain_card
from wbctool.errors import LabelledDataInvalid, SettingsInvalid
from wbctool.lab.labelled import Split
from wbctool.lab.sampling import spread
from wbctool.lab.verdict import MIN_CELLS, MIN_SOURCES
from wbctool.models import load_model
from wbctool.stages.upscale import PREPARED_PX
from wbctool.wording import number_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClassifierCells:
    """train: to train on, of which the first ``originals`` are native crops and the rest super-resolved or generated.

    validation, held_back: prepared as a run prepares them, if the recipe has super-resolved ones at all. stains: what
    the training cells are also shown in.
    """

    train: tuple[CellSample, ...]
    originals: int
    validation: tuple[CellSample, ...]
    held_back: tuple[CellSample, ...]
    stains: Stains | None


def train_classifier(work: Workplace) -> None:
    """Cells -> classifier.onnx. Checkpoint, temperature and thresholds come from the validation split alone."""
    recipe = work.recipe
    cells, start = gather_cells(work), _start(work)
    _check_enough_to_calibrate(work, cells.validation)
    network = fit_classifier(work, "classifier", cells, work.backbone, start)
    round_weights_fp16(network)
    graph = ClassifierGraph(network.to(memory_format=torch.contiguous_format))
    example = prepared_cells(spread(cells.train, PARITY_CELLS), recipe.crop_margin)
    model = to_onnx(graph, example, dynamic_side=False)
    content = model.SerializeToString()
    worst = check_parity(graph, content, [example[:1], example], tolerance=1e-3)
    parents = [plain_card(folder, ClassifierCard) for folder in work.start_from]
    fitted = calibrate(*logits_of(graph, cells.validation, work), even_weights(cells.validation))
    card = ClassifierCard(
        **work.card_facts(
            "classifier",
            network,
            cells.train[: cells.originals] if recipe.classifier.samples else (),
            worst,
            parents,
            calibrated_on=dict(Counter(cell.origin for cell in cells.validation)),
            backbone=work.backbone.value,
            white_balance=recipe.classifier.white_balance,
            super_resolved_copies=len(cells.train) - cells.originals,
            started_from=" + ".join(card.sha256 for card in parents) or "ImageNet",
        ),
        classes=recipe.classes,
        input_px=PREPARED_PX,
        crop_margin=recipe.crop_margin,
        temperature=fitted.temperature,
        confidence_threshold=fitted.confidence_threshold,
        energy_threshold=fitted.energy_threshold,
    )
    publish(content, card, work.out)


def _check_enough_to_calibrate(work: Workplace, cells: Sequence[CellSample]) -> None:
    """Raises LabelledDataInvalid where there is nothing but a calibration to do, and too little for it; else warns."""
    sources, known = len({cell.source for cell in cells}), {cell.label for cell in cells}
    lacking = [label.value for label in work.recipe.classes if label not in known]
    told = f"{number_of(len(cells), 'cell')} of {number_of(sources, 'source')}" + (
        f", none of {', '.join(lacking)}" if lacking else ""
    )
    if len(cells) >= MIN_CELLS and sources >= MIN_SOURCES and not lacking:
        return
    if not work.recipe.classifier.samples and (len(cells) < MIN_CELLS or sources < MIN_SOURCES):
        raise LabelledDataInvalid(
            f"{told} to calibrate on, in the {Split.VALIDATION} part; {MIN_CELLS} of {MIN_SOURCES} are needed"
        )
    log.warning("temperature and thresholds come from %s: verify them before use", told)


def _start(work: Workplace) -> nn.Sequential | dict[str, Tensor]:
    if work.start_from:
        return mean_weights(work.start_from, work.recipe, work.splitting, work.backbone)
    if work.recipe.classifier.samples:
        return imagenet_features(work.imagenet_weights, work.backbone)
    raise SettingsInvalid(f"recipe {work.recipe.name} trains no classifier: --start-from must say which to use")


def gather_cells(work: Workplace, prepare_held_back: bool = False) -> ClassifierCells:
    """The recipe's cells by split. prepare_held_back: else there are none, as a training has no use for them."""
    recipe, part = work.recipe, work.recipe.classifier
    found = work.cells()
    by_split = {
        split: [c for c in found if c.label in recipe.classes and work.splitting.of(c) is split] for split in Split
    }
    train, validation = list(by_split[Split.TRAIN]), by_split[Split.VALIDATION]
    for split in (Split.TRAIN, Split.VALIDATION):
        if not by_split[split]:
            raise LabelledDataInvalid(
                f"no cells in the {split} part: cells are split by source, and the classifier needs more sources"
            )
    held_back = by_split[Split.HELD_BACK] if prepare_held_back else []
    if prepare_held_back and not held_back:
        raise LabelledDataInvalid("no cells in the held-back part to test on: cells are split by source")
    originals = len(train)
    if recipe.srgan.per_class:
        train += generated_cells(work.folder("generated"), recipe.crop_margin)
    if part.super_resolved_share:
        generator = load_model(work.out, GeneratorCard)
        work.warn_if_it_saw(generator.card)
        enhanced = work.folder(f"super-resolved-{generator.card.sha256[:12]}")
        if part.samples:
            train += small_copies(
                train, generator, recipe.crop_margin, part.super_resolved_share, enhanced, recipe.seed
            )
        validation = as_served(validation, generator, recipe.crop_margin, enhanced)
        held_back = as_served(held_back, generator, recipe.crop_margin, enhanced)
    stains = None
    if part.borrowed_stain_share:
        lenders = [c for c in found if work.splitting.of(c) is Split.TRAIN]
        stains = Stains.of_cells(lenders, recipe.crop_margin, recipe.seed)
    log.info("classifier: %d cells to train on, %d to validate", len(train), len(validation))
    return ClassifierCells(tuple(train), originals, tuple(validation), tuple(held_back), stains)


def fit_classifier(
    work: Workplace,
    stage: str,
    cells: ClassifierCells,
    backbone: Backbone,
    start: nn.Sequential | dict[str, Tensor] | None,
) -> Normalised:
    """The averaged network of the epoch with the least validation loss, every laboratory and original weighed evenly.

    stage: the folder of its checkpoints. start: the backbone's ImageNet convolutions, or a trained classifier's weights
    (training.start); None: random.
    """
    recipe, part = work.recipe, work.recipe.classifier
    L.seed_everything(recipe.seed, workers=True)
    task = ClassifierTask(part, len(recipe.classes), start, backbone)
    if not part.samples:
        return cast(Normalised, task.average.module)
    stopping = StopEarly("val_loss", min_delta=part.early_stopping_min_delta, patience=part.early_stopping_patience)
    crops = TrainingCrops(
        cells.train,
        recipe.classes,
        recipe.crop_margin,
        part.augment,
        recipe.seed,
        cells.stains,
        part.borrowed_stain_share,
        part.restained_share,
    )
    checkpoint = work.loop(stage, part.samples // part.epoch_samples, monitor="val_loss", callbacks=(stopping,)).fit(
        task,
        loader(crops, part.batch, epoch_samples=part.epoch_samples),
        loader(PlainCrops(cells.validation, recipe.classes, recipe.crop_margin), 32),
    )
    restore(task, checkpoint)
    return cast(Normalised, task.average.module)


def logits_of(
    graph: nn.Module, cells: Sequence[CellSample], work: Workplace
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """graph: of ClassifierGraph. Returns logits (N, classes) and the true classes' indices (N,)."""
    parts, wanted = [], []
    for rgb, index, _ in loader(PlainCrops(cells, work.recipe.classes, work.recipe.crop_margin), 32):
        with torch.inference_mode():
            parts.append(graph(rgb.permute(0, 2, 3, 1))[0].float().numpy())
        wanted.append(index.numpy())
    return np.concatenate(parts), np.concatenate(wanted)
