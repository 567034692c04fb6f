"""The cells of a classifier's training by split."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from wbctool.datasets.labelled import Split
from wbctool.errors import LabelledDataInvalid
from wbctool_training.context import TrainingContext
from wbctool_training.data.cell_index import CellRef
from wbctool_training.data.sr_augmentation import as_inference, super_resolved_subset
from wbctool_training.data.stain_transfer import StainBank
from wbctool_training.recipe import ClassifierRecipe
from wbctool_training.synthetic import read_generated_cells

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClassifierSplit:
    """The classifier's cells by split.

    Attributes:
        train: Training cells: native crops, then super-resolved or synthetic ones.
        n_native: Number of native crops in ``train``.
        validation: Validation cells, prepared as a run prepares them if the recipe has super-resolved cells.
        test: Test cells, prepared likewise; empty in a training.
        stain_bank: Stains in which training cells are also shown, or None.
    """

    train: tuple[CellRef, ...]
    n_native: int
    validation: tuple[CellRef, ...]
    test: tuple[CellRef, ...]
    stain_bank: StainBank | None

    @property
    def native_train(self) -> tuple[CellRef, ...]:
        """The native crops of the training cells."""
        return self.train[: self.n_native]

    @property
    def n_copies(self) -> int:
        """Number of the super-resolved or synthetic ones."""
        return len(self.train) - self.n_native


def gather_cells(context: TrainingContext, config: ClassifierRecipe, include_test: bool = False) -> ClassifierSplit:
    """Return the cells that a reader learns to tell by split.

    Args:
        context: The context of the training.
        config: The reader's section of the recipe.
        include_test: Whether to include the test cells, which a training does not use.

    Raises:
        LabelledDataInvalid: A split that is needed has no cells, or a class has no training cells and there is no
            ``init_from``, or the recipe's generated images are missing.
    """
    recipe = context.recipe
    outputs = recipe.outputs_of(config)
    cells = context.load_cells()
    by_split = {
        split: [c for c in cells if c.label in outputs and context.options.group_split.assign(c) is split]
        for split in Split
    }
    train, validation = list(by_split[Split.TRAIN]), by_split[Split.VALIDATION]
    for split in (Split.TRAIN, Split.VALIDATION):
        if not any(cell.label in recipe.classes for cell in by_split[split]):
            raise LabelledDataInvalid(
                f"no cells in the {split} split: cells are split by group, and the classifier needs more groups"
            )
    present = {cell.label for cell in train}
    if not context.options.init_from and (missing := [label.value for label in recipe.classes if label not in present]):
        raise LabelledDataInvalid(
            f"no training cells of {', '.join(missing)}: leave these out of the recipe's `classes`"
        )
    test = by_split[Split.TEST] if include_test else []
    if include_test and not test:
        raise LabelledDataInvalid("no cells in the test split: cells are split by group, and more groups are needed")
    n_native = len(train)
    if n_generated := recipe.srgan.generated_per_class:
        folder = context.work_path("generated")
        train += read_generated_cells(
            folder, recipe.classes, recipe.crop_margin, context.options.group_split, n_generated
        )
    if config.super_resolved_share:
        generator, cache_dir = context.load_generator()
        train += super_resolved_subset(
            train[:n_native], generator, recipe.crop_margin, config.super_resolved_share, cache_dir, recipe.seed
        )
        validation = as_inference(validation, generator, recipe.crop_margin, cache_dir)
        test = as_inference(test, generator, recipe.crop_margin, cache_dir)
    stain_bank = None
    if config.stain_transfer_prob:
        stain_cells = [c for c in cells if context.options.group_split.assign(c) is Split.TRAIN]
        stain_bank = StainBank.from_cells(stain_cells, recipe.crop_margin, recipe.seed)
    log.info("classifier: %d cells to train on, %d to validate", len(train), len(validation))
    return ClassifierSplit(tuple(train), n_native, tuple(validation), tuple(test), stain_bank)
