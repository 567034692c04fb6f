"""How a classifier was adapted to a laboratory, and with which cells: a part of its card."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class AdaptationMethod(StrEnum):
    """How a classifier was adapted."""

    DEFAULT = "default"
    """Its last layer alone."""
    DEEP = "deep"
    """Its last block and its dense layers too."""


class AdaptationInfo(BaseModel):
    """What a classifier was adapted with, and what that was worth on cells of slides that it did not learn from.

    Attributes:
        laboratory: The name of the laboratory or of its models, for reports.
        method: How it was adapted.
        parent_sha256: The SHA-256 of the model that was adapted.
        readers: Who labeled the cells.
        cells_by_label: The number of cells of each label.
        cells_by_group: The number of cells of each slide or original; empty in cards of earlier versions.
        groups: The number of slides or originals that they come from.
        cell_sha256: The hash of the pixels of each cell.
        accuracy_before, accuracy_after: The share of labels that are right, in [0, 1].
        silent_errors_before, silent_errors_after: Wrong cells that no reader is asked about, as a share of all.
        coverage_before, coverage_after: The share of all cells that are counted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    laboratory: str = Field(min_length=1)
    method: AdaptationMethod = Field(
        default=AdaptationMethod.DEFAULT,
        validation_alias=AliasChoices("method", "way"),  # the key of the first cards
    )
    parent_sha256: Sha256
    readers: tuple[str, ...]
    cells_by_label: dict[str, int]
    cells_by_group: dict[str, int] = Field(default_factory=dict)
    groups: int = Field(ge=1)
    cell_sha256: tuple[Sha256, ...]
    accuracy_before: float = Field(ge=0, le=1)
    accuracy_after: float = Field(ge=0, le=1)
    silent_errors_before: float = Field(ge=0, le=1)
    silent_errors_after: float = Field(ge=0, le=1)
    coverage_before: float = Field(ge=0, le=1)
    coverage_after: float = Field(ge=0, le=1)
