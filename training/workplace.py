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

from training.data.cells import CellSample, cells_of_fields, cells_of_images, remember_cells
from training.loop import Loop
from training.models.backbones import Backbone
from training.recipe import Recipe
from wbctool import __version__
from wbctool.cards import Card, DetectorCard, card_paths
from wbctool.lab.labelled import Labelled, LabelledField, LabelledImage, Split, Splitting
from wbctool.models import load_model

log = logging.getLogger(__name__)

Item = TypeVar("Item", bound=Labelled)
_UNSET = "0" * 64  # the hash is known once the file is written


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every stage needs. out: models go here, checkpoints and curves to ``out/training``.

    start_from: the folders of the models that generator and classifier go on from; none to begin anew.
    """

    recipe: Recipe
    images: tuple[LabelledImage, ...]
    fields: tuple[LabelledField, ...]
    out: Path
    imagenet_weights: Path | None
    resume: bool
    max_hours: float | None
    splitting: Splitting
    backbone: Backbone
    start_from: tuple[Path, ...] = ()

    def loop(self, stage: str, epochs: int, **more: Any) -> Loop:
        """The training loop of a stage; it is resumed only with what it was begun with."""
        of_images = [(i.origin, i.source, i.path.name, i.label.value) for i in self.images]
        of_fields = [(f.origin, f.source, f.path.name, *f.labels, f.boxes) for f in self.fields]
        basis = {
            "recipe": _digest(self.recipe.model_dump_json()),
            "splitting": str(self.splitting),
            "backbone": self.backbone.value,
            "start": _digest("".join(_cards_of(folder) for folder in self.start_from)),
            "data": _digest(repr(sorted(map(repr, [*of_images, *of_fields])))),
        }
        return Loop(self.folder(stage), epochs, self.resume, self.max_hours, basis=basis, **more)

    def folder(self, stage: str) -> Path:
        """Where a stage keeps its checkpoints."""
        return self.out / "training" / stage

    def cells(self) -> tuple[CellSample, ...]:
        """Every cell of the data, found by the detector in ``out``; remembered, since finding them takes minutes."""
        detector = load_model(self.out, DetectorCard)
        self.warn_if_it_saw(detector.card)

        def find() -> Iterator[CellSample]:
            log.info("finding the cells of %d images and %d fields", len(self.images), len(self.fields))
            yield from cells_of_images(self.images, detector)
            yield from cells_of_fields(self.fields, detector)

        told: list[tuple[object, ...]] = [
            (*_file_of(image), image.source, image.origin, image.label) for image in self.images
        ]
        told += [(*_file_of(field), field.source, field.origin, *field.labels, field.boxes) for field in self.fields]
        return remember_cells(self.folder(f"cells-{detector.card.sha256[:12]}-{_digest(repr(told))}.csv"), find())

    def warn_if_it_saw(self, card: Card) -> None:
        """Tells of a model that helps in this training and has seen what is held back here.

        It finds or enlarges cells and tells no classes apart: figures on these sources are a little optimistic.
        """
        if self.splitting.was_seen_by(card.training):
            theirs = Splitting.of_card(card.training)
            log.warning("%s was trained on sources that are held back here (%s)", self.out / card.file, theirs)

    def by_split(self, items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """(to train on, held back)."""
        places = [self.splitting.of(item) is Split.HELD_BACK for item in items]
        return (
            [item for item, held_back in zip(items, places, strict=True) if not held_back],
            [item for item, held_back in zip(items, places, strict=True) if held_back],
        )

    def card_facts(
        self,
        name: str,
        network: nn.Module,
        kept: Sequence[Labelled],
        parity: float,
        start: Sequence[Card] = (),
        **more: Any,
    ) -> dict[str, Any]:
        """What the cards of all kinds say. kept: what was trained on. more: for the card's ``training``.

        start: the models it went on from; what they were trained on it has seen too, whatever the data at hand.
        """
        seen = Counter(item.origin for item in kept)
        for card in start:
            seen |= Counter(card.training["origins"])
        cuda = torch.cuda.is_available()
        return {
            "name": name,
            "version": __version__,
            "file": f"{name}.onnx",
            "sha256": _UNSET,
            "parameters": sum(p.numel() for p in network.parameters()),
            "tool_version": __version__,
            "recipe": self.recipe.name,
            "training": {
                "origins": dict(sorted(seen.items())),
                "sources": max([len({item.source for item in kept}), *(card.training["sources"] for card in start)]),
                "splitting": {"fold": self.splitting.fold, "left_out": list(self.splitting.left_out)},
                "seed": self.recipe.seed,
                "torch": torch.__version__,
                "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
                **more,
            },
            "metrics": {"parity_with_pytorch": float(f"{parity:.3g}")},
        }


def _cards_of(folder: Path) -> str:
    return "".join(path.read_text() for path in card_paths(folder))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def _file_of(item: LabelledImage | LabelledField) -> tuple[str, int, int]:
    seen = item.path.stat()
    return str(item.path.resolve()), seen.st_size, seen.st_mtime_ns
