"""When a slide is familiar, and what is counted on another one: a part of a classifier's card."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from wbctool.inference.color_range import ColorRange

_CERTAINTY = 1.0


def _encode_array(array: NDArray[np.float32]) -> str:
    """Encode an array as base64 of half-precision numbers, which is precise enough and short."""
    return base64.b64encode(array.astype("<f2").tobytes()).decode("ascii")


class FeatureSpace(BaseModel):
    """A linear map of a classifier's features under which the covariance within the classes is the identity.

    Attributes:
        features: D, the number of features.
        dimensions: k, the number of dimensions that are kept, those in which cells of one class vary most.
        whitening: (D, k) half-precision numbers in base64.
        centers: (classes, k) half-precision numbers in base64: the mapped means of the classes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: int = Field(gt=0)
    dimensions: int = Field(gt=0)
    whitening: str
    centers: str

    @classmethod
    def from_arrays(cls, whitening: NDArray[np.float32], centers: NDArray[np.float32]) -> FeatureSpace:
        """Encode a map (D, k) and the mapped means of the classes (classes, k)."""
        features, dimensions = whitening.shape
        encoded = (_encode_array(whitening), _encode_array(centers))
        return cls(features=features, dimensions=dimensions, whitening=encoded[0], centers=encoded[1])

    @cached_property
    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The map (D, k) and the mapped means (classes, k), both float32."""
        whitening, centers = (
            np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32).reshape(-1, self.dimensions)
            for text in (self.whitening, self.centers)
        )
        return whitening, centers

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        """Raise ValueError if the arrays do not fit."""
        if len(self.arrays[0]) != self.features or not all(np.isfinite(array).all() for array in self.arrays):
            raise ValueError("the map does not fit the features")
        return self


class OwnLaboratory(BaseModel):
    """What tells the slides of a laboratory that a classifier was adapted to from those of a third one.

    Attributes:
        cells_by_center: How many cells each of the laboratory's centers is the mean of; these are the last centers of
            the feature space.
        max_offset: The largest offset of the laboratory's slides (wbctool.stages.familiarity.measure_offset).
        max_training_distance: The largest mean squared distance to the centers of the training, at which a slide is
            familiar whatever its offset.
        max_distance: The largest mean squared distance to its own centers; None if it was not fitted, in cards of
            earlier versions.
        colors: The colors of the fields of its cells; None if they show no background.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    cells_by_center: tuple[int, ...] = Field(min_length=1)
    max_offset: float = Field(ge=0)
    max_training_distance: float = Field(ge=0)
    max_distance: float | None = Field(default=None, ge=0)
    colors: ColorRange | None = None

    @model_serializer(mode="wrap")
    def _omit_missing_distance(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what a card of an earlier version lacks, so that the fingerprints of its results stay."""
        return {key: value for key, value in handler(self).items() if key != "max_distance" or value is not None}


class FamiliarityRule(BaseModel):
    """When a slide is familiar, and which cells of another one are counted (wbctool.stages.familiarity).

    Attributes:
        space: The space in which distances are measured.
        max_mean_distance: The largest mean of the squared Mahalanobis distances of a familiar slide's cells.
        min_cells: The number of cells that the decision needs.
        min_confidence: The smallest probability of a counted cell's label on another slide, by both readers' mean.
        min_confidence_alone: The same if this reader reads alone, with nobody to contradict it; None if nobody has
            chosen it, and then certainty is demanded.
        own_laboratory: The laboratory that the classifier was adapted to; None if it was adapted to none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    space: FeatureSpace
    max_mean_distance: float = Field(ge=0)
    min_cells: int = Field(ge=1)
    min_confidence: float = Field(ge=0, le=1)
    min_confidence_alone: float | None = Field(default=None, ge=0, le=1)
    own_laboratory: OwnLaboratory | None = None

    def for_one_reader(self) -> FamiliarityRule:
        """Return the rule for a run with this reader alone."""
        alone = self.min_confidence_alone
        return self.model_copy(update={"min_confidence": _CERTAINTY if alone is None else alone})

    @model_validator(mode="after")
    def _check_centers(self) -> Self:
        """Raise ValueError if the laboratory has as many centers as the space, or more."""
        if self.own_laboratory and len(self.own_laboratory.cells_by_center) >= len(self.space.arrays[1]):
            raise ValueError("the feature space has no centers of the training")
        return self

    @model_serializer(mode="wrap")
    def _omit_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what a card lacks, so that the fingerprints of earlier results stay as they were."""
        return {key: value for key, value in handler(self).items() if value is not None}


def select_rule(rules: Sequence[FamiliarityRule | None]) -> FamiliarityRule | None:
    """Return the rule by which a run judges slides.

    Args:
        rules: That of each reader's card, the first reader first.

    Returns:
        That of the first reader that has one; if it reads alone, with what a reader alone must reach. None without any.
    """
    if len(rules) == 1:
        return rules[0] and rules[0].for_one_reader()
    return next((rule for rule in rules if rule is not None), None)
