"""What an adaptation takes and returns: readers, the labels of a laboratory's cells, and adapted readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wbctool.adaptation.cells import Label
from wbctool.adaptation.last_layer import Basis, ReducedCells
from wbctool.inference.adaptation_info import AdaptationMethod
from wbctool.inference.classifier_head import LastLayer
from wbctool.inference.model_card import CellClassifierCard
from wbctool.inference.training_features import TrainingFeatures
from wbctool.labels import CellClass, UnknownKind


class TunedNetwork(Protocol):
    """A classifier of which more than the last layer was tuned."""

    @property
    def layer(self) -> LastLayer:
        """Its last layer."""

    @property
    def features(self) -> NDArray[np.float32]:
        """Its features, (N, D), of all of the laboratory's cells."""

    def export(self) -> bytes:
        """Return the content of its ONNX file."""


Tuner = Callable[[LastLayer, NDArray[np.int64], NDArray[np.float64]], TunedNetwork]
"""Tunes a classifier to some of the laboratory's cells. Takes the last layer to start from, the index of each cell's
output, -1 for a cell to learn nothing from, and what each cell counts."""


@dataclass(frozen=True)
class Reader:
    """A classifier with what its adaptation needs.

    Attributes:
        card: Its card.
        layer: Its last layer.
        features: (N, D) float32, of the laboratory's cells.
        training: Features of cells that it was trained on.
        tuner: Tunes the layers before the last one, too; None if they stay as they are.
    """

    card: CellClassifierCard
    layer: LastLayer
    features: NDArray[np.float32]
    training: TrainingFeatures
    tuner: Tuner | None = None

    @property
    def outputs(self) -> tuple[CellClass | UnknownKind, ...]:
        """What its logits stand for."""
        return *self.card.classes, *self.card.unknown_kinds

    @cached_property
    def basis(self) -> Basis:
        """The dimensions in which the laboratory's cells and those of the training differ most."""
        return Basis.fit(self.layer, np.concatenate([self.features, self.training.features]))

    @cached_property
    def cells(self) -> ReducedCells:
        """The laboratory's cells."""
        return self.basis.reduce(self.features)

    @cached_property
    def training_cells(self) -> ReducedCells:
        """The cells of the training."""
        return self.basis.reduce(self.training.features)


@dataclass(frozen=True, slots=True)
class AdaptedReader:
    """An adapted classifier.

    Attributes:
        card: The card with new temperature, thresholds and familiarity.
        layer: The new last layer.
        features: (N, D) float32, of the laboratory's cells.
        l2_penalty: The penalty that was chosen for the correction of the last layer.
        tuned: The classifier, if more than its last layer was tuned; None otherwise.
    """

    card: CellClassifierCard
    layer: LastLayer
    features: NDArray[np.float32]
    l2_penalty: float
    tuned: TunedNetwork | None = None

    @property
    def method(self) -> AdaptationMethod:
        """How it was adapted."""
        return AdaptationMethod.DEFAULT if self.tuned is None else AdaptationMethod.DEEP


@dataclass(frozen=True, slots=True)
class CellLabels:
    """The labels of the laboratory's cells.

    Attributes:
        labels: What a reader calls each cell; an empty string if no class fits.
        groups: The slide or original of each cell.
        weights: (N,) float64, what each cell counts in a fit.
        named: (N,) bool, whether a reader named each cell; the labels of the others are the tool's own, and measure
            nothing.
        drawn: (N,) bool, whether each cell was drawn at random, so that it may stand for the laboratory's cells.
    """

    labels: tuple[Label, ...]
    groups: tuple[str, ...]
    weights: NDArray[np.float64]
    named: NDArray[np.bool_]
    drawn: NDArray[np.bool_]

    def select(self, cells: NDArray[np.bool_]) -> list[Label]:
        """Return the labels of some cells, chosen by (N,) bool."""
        return [label for label, is_chosen in zip(self.labels, cells, strict=True) if is_chosen]

    def indices(self, outputs: Sequence[Label]) -> NDArray[np.int64]:
        """Return the output of each cell, -1 if there is none."""
        by_label = {label: index for index, label in enumerate(outputs)}
        return np.array([by_label.get(label, -1) for label in self.labels], np.int64)
