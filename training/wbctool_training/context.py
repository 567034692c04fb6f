"""The recipe, data and folders of a training, and the card fields that follow from them."""

from __future__ import annotations

import hashlib
import logging
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from wbctool import __version__
from wbctool.datasets.labelled import HasGroup, HasPath, LabelledField, LabelledImage, Split, UnknownImage
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import Card, DetectorCard, GeneratorCard
from wbctool.inference.model_folder import card_paths
from wbctool.inference.session import OnnxModel
from wbctool_training.data.cell_index import CELL_COLUMNS, CellRef, cached_cells, detect_field_cells, detect_image_cells
from wbctool_training.fit import FitConfig
from wbctool_training.init_from import describe_leakage
from wbctool_training.options import TrainingOptions
from wbctool_training.recipe import NetworkSizes, Recipe

log = logging.getLogger(__name__)

Item = TypeVar("Item", bound=HasGroup)
_SHA256_PLACEHOLDER = "0" * 64  # the hash is only known when the file is written


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """What every stage needs.

    Attributes:
        recipe: Hyperparameters.
        images: Labeled single-cell images.
        fields: Fields with boxes.
        options: What the training was asked for, with whole laboratories held out.
        unknown_images: Single-cell images of kinds that no class fits.
    """

    recipe: Recipe
    images: tuple[LabelledImage, ...]
    fields: tuple[LabelledField, ...]
    options: TrainingOptions
    unknown_images: tuple[UnknownImage, ...] = ()

    def fit_config(self, name: str, epochs: int, **kwargs: Any) -> FitConfig:
        """Return the settings of a stage's training, whose resume key covers recipe, data, split and start.

        Args:
            name: The name of the stage's folder.
            epochs: Epochs to train.
            kwargs: Further fields of FitConfig.
        """
        image_keys = [(i.dataset, i.group, i.path.name, i.label.value) for i in self.images]
        unknown_keys = [(i.dataset, i.group, i.path.name, i.kind) for i in self.unknown_images]
        field_keys = [(f.dataset, f.group, f.path.name, *f.labels, *f.unknown_kinds, f.boxes) for f in self.fields]
        # Default sizes are no part of the key, so that a training from before recipes had sizes can be resumed.
        default_sizes = {"networks"} if self.recipe.networks == NetworkSizes() else None
        resume_key = {
            "recipe": _digest(self.recipe.model_dump_json(exclude=default_sizes)),
            "split": str(self.options.group_split),
            "backbone": self.options.backbone.value,
            "init_from": _digest("".join(_read_cards(folder) for folder in self.options.init_from)),
            "data": _digest(repr(sorted(map(repr, [*image_keys, *unknown_keys, *field_keys])))),
        }
        return FitConfig(
            self.work_path(name),
            epochs,
            self.options.resume,
            self.options.max_hours,
            resume_key=resume_key,
            **kwargs,
        )

    def work_path(self, name: str) -> Path:
        """Return the path of what a training keeps: a stage's checkpoints, the cells, synthetic images."""
        return self.options.out / "training" / name

    def load_cells(self) -> tuple[CellRef, ...]:
        """Return every cell of the data, as the detector in ``out`` finds them; cached in a CSV file in ``out``.

        Raises:
            ModelNotFound: ``out`` has no detector.
            ModelMismatch: The detector's file and card differ.
        """
        detector = load_model(self.options.out, DetectorCard)
        self.warn_on_leakage(detector.card)

        def detect() -> Iterator[CellRef]:
            log.info("finding the cells of %d images and %d fields", len(self.images), len(self.fields))
            yield from detect_image_cells([*self.images, *self.unknown_images], detector)
            yield from detect_field_cells(self.fields, detector)

        data_key: list[tuple[object, ...]] = [
            (*_file_stat(image), image.group, image.dataset, image.label, image.subtype) for image in self.images
        ]
        data_key += [(*_file_stat(image), image.group, image.dataset, image.kind) for image in self.unknown_images]
        data_key += [
            (*_file_stat(field), field.group, field.dataset, field.common_kind, field.boxes) for field in self.fields
        ]
        key = _digest(repr([CELL_COLUMNS, *data_key]))
        return cached_cells(self.work_path(f"cells-{detector.card.sha256[:12]}-{key}.csv"), detect())

    def load_generator(self) -> tuple[OnnxModel[GeneratorCard], Path]:
        """Load the generator in ``out``.

        Returns:
            The generator, and the folder of the cells that it super-resolved.

        Raises:
            ModelNotFound: ``out`` has no generator.
            ModelMismatch: The generator's file and card differ.
        """
        generator = load_model(self.options.out, GeneratorCard)
        self.warn_on_leakage(generator.card)
        return generator, self.work_path(f"super-resolved-{generator.card.sha256[:12]}")

    def warn_on_leakage(self, card: Card) -> None:
        """Warn if a detector or generator that this training uses was trained on groups of its test split.

        Such a model does not learn classes, so results on the test split are only slightly too good.

        Args:
            card: The card of the model in ``out``.
        """
        if leakage := describe_leakage(card, self.options.out, self.options.group_split):
            log.warning("%s", leakage)

    def split_off_test(self, items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """Divide items into those of the training and validation splits together, and those of the test split."""
        in_test = [self.options.group_split.assign(item) is Split.TEST for item in items]
        return (
            [item for item, is_test in zip(items, in_test, strict=True) if not is_test],
            [item for item, is_test in zip(items, in_test, strict=True) if is_test],
        )

    def card_fields(
        self,
        name: str,
        network: nn.Module,
        train: Sequence[HasGroup],
        parity: float,
        parents: Sequence[Card] = (),
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the fields that the cards of all kinds have.

        Args:
            name: The model's name; its file is ``name.onnx``.
            network: Its parameters are counted.
            train: What it was trained on.
            parity: Largest difference between PyTorch and ONNX Runtime.
            parents: Cards of the models it was started from; their training data count as seen too.
            kwargs: Further entries of the card's ``training``.
        """
        cuda = torch.cuda.is_available()
        return {
            "name": name,
            "version": __version__,
            "file": f"{name}.onnx",
            "sha256": _SHA256_PLACEHOLDER,
            "parameters": sum(p.numel() for p in network.parameters()),
            "tool_version": __version__,
            "recipe": self.recipe.name,
            "training": {
                **merge_training_data(train, parents),
                "group_split": {
                    "fold": self.options.group_split.fold,
                    "held_out_datasets": list(self.options.group_split.held_out_datasets),
                },
                "seed": self.recipe.seed,
                "torch": torch.__version__,
                "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
                **kwargs,
            },
            "metrics": {"parity_with_pytorch": float(f"{parity:.3g}")},
        }


def merge_training_data(train: Sequence[HasGroup], parents: Sequence[Card]) -> dict[str, Any]:
    """Return what a card's ``training`` says of the data.

    Args:
        train: What the model was trained on.
        parents: Cards of the models it was started from; their training data count as seen too.

    Returns:
        The entries ``datasets`` and ``groups``.
    """
    dataset_counts = Counter(item.dataset for item in train)
    for card in parents:
        dataset_counts |= Counter(card.training.datasets or {})
    return {
        "datasets": dict(sorted(dataset_counts.items())),
        "groups": max([len({item.group for item in train}), *(card.training.groups or 0 for card in parents)]),
    }


def _read_cards(folder: Path) -> str:
    """Return the text of a folder's model cards."""
    return "".join(path.read_text() for path in card_paths(folder))


def _digest(text: str) -> str:
    """Return a short hash of a text."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def _file_stat(item: HasPath) -> tuple[str, int, int]:
    """Return an image's path, size in bytes and modification time."""
    stat = item.path.stat()
    return str(item.path.resolve()), stat.st_size, stat.st_mtime_ns
