"""What every stage of a training works with: recipe, data, folders, and what the cards say of them."""

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
from wbctool.datasets.labelled import GroupSplit, HasGroup, LabelledField, LabelledImage, Split
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import Card, DetectorCard
from wbctool.inference.model_folder import card_paths
from wbctool_training.data.cell_index import CellRef, cached_cells, detect_field_cells, detect_image_cells
from wbctool_training.fit import FitConfig
from wbctool_training.models.backbones import Backbone
from wbctool_training.recipe import Recipe

log = logging.getLogger(__name__)

Item = TypeVar("Item", bound=HasGroup)
_SHA256_PLACEHOLDER = "0" * 64  # the hash is known once the file is written


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """What every stage needs. out: models go here, checkpoints and curves to ``out/training``.

    init_from: the folders of the models that generator and classifier go on from; none to begin anew.
    """

    recipe: Recipe
    images: tuple[LabelledImage, ...]
    fields: tuple[LabelledField, ...]
    out: Path
    imagenet_weights: Path | None
    resume: bool
    max_hours: float | None
    group_split: GroupSplit
    backbone: Backbone
    init_from: tuple[Path, ...] = ()

    def fit_config(self, name: str, epochs: int, **kwargs: Any) -> FitConfig:
        """The training loop of a stage; it is resumed only with what it was begun with."""
        image_keys = [(i.dataset, i.group, i.path.name, i.label.value) for i in self.images]
        field_keys = [(f.dataset, f.group, f.path.name, *f.labels, f.boxes) for f in self.fields]
        resume_key = {
            "recipe": _digest(self.recipe.model_dump_json()),
            "splitting": str(self.group_split),
            "backbone": self.backbone.value,
            "start": _digest("".join(_read_cards(folder) for folder in self.init_from)),
            "data": _digest(repr(sorted(map(repr, [*image_keys, *field_keys])))),
        }
        return FitConfig(
            self.checkpoint_dir(name), epochs, self.resume, self.max_hours, resume_key=resume_key, **kwargs
        )

    def checkpoint_dir(self, name: str) -> Path:
        """Where a stage keeps its checkpoints."""
        return self.out / "training" / name

    def load_cells(self) -> tuple[CellRef, ...]:
        """Every cell of the data, found by the detector in ``out``; remembered, since finding them takes minutes."""
        detector = load_model(self.out, DetectorCard)
        self.warn_on_leakage(detector.card)

        def detect() -> Iterator[CellRef]:
            log.info("finding the cells of %d images and %d fields", len(self.images), len(self.fields))
            yield from detect_image_cells(self.images, detector)
            yield from detect_field_cells(self.fields, detector)

        data_key: list[tuple[object, ...]] = [
            (*_file_stat(image), image.group, image.dataset, image.label) for image in self.images
        ]
        data_key += [
            (*_file_stat(field), field.group, field.dataset, *field.labels, field.boxes) for field in self.fields
        ]
        return cached_cells(
            self.checkpoint_dir(f"cells-{detector.card.sha256[:12]}-{_digest(repr(data_key))}.csv"), detect()
        )

    def warn_on_leakage(self, card: Card) -> None:
        """Tells of a model that helps in this training and has seen what is held back here.

        It finds or enlarges cells and tells no classes apart: figures on these sources are a little optimistic.
        """
        if self.group_split.has_leakage(card.training):
            card_splitting = GroupSplit.from_card(card.training)
            log.warning("%s was trained on sources that are held back here (%s)", self.out / card.file, card_splitting)

    def train_test_split(self, items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """(to train on, held back)."""
        in_test = [self.group_split.assign(item) is Split.TEST for item in items]
        return (
            [item for item, held_back in zip(items, in_test, strict=True) if not held_back],
            [item for item, held_back in zip(items, in_test, strict=True) if held_back],
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
        """What the cards of all kinds say. train: what was trained on. kwargs: for the card's ``training``.

        parents: the models it went on from; what they were trained on it has seen too, whatever the data at hand.
        """
        dataset_counts = Counter(item.dataset for item in train)
        for card in parents:
            dataset_counts |= Counter(card.training["datasets"])
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
                "datasets": dict(sorted(dataset_counts.items())),
                "groups": max([len({item.group for item in train}), *(card.training["groups"] for card in parents)]),
                "group_split": {
                    "fold": self.group_split.fold,
                    "held_out_datasets": list(self.group_split.held_out_datasets),
                },
                "seed": self.recipe.seed,
                "torch": torch.__version__,
                "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
                **kwargs,
            },
            "metrics": {"parity_with_pytorch": float(f"{parity:.3g}")},
        }


def _read_cards(folder: Path) -> str:
    return "".join(path.read_text() for path in card_paths(folder))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def _file_stat(item: LabelledImage | LabelledField) -> tuple[str, int, int]:
    stat = item.path.stat()
    return str(item.path.resolve()), stat.st_size, stat.st_mtime_ns
