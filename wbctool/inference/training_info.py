"""How a model was trained, and on what: a part of its card."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer


class SplitInfo(BaseModel):
    """Which groups a model was not trained on: :class:`wbctool.datasets.labelled.GroupSplit` has the same entries."""

    model_config = ConfigDict(extra="allow", frozen=True)

    fold: int = Field(default=0, ge=0)
    held_out_datasets: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _write_known(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the entries that were given, as :class:`TrainingInfo` does."""
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class TrainingInfo(BaseModel):
    """How a model was trained, and on what. Entries that this version does not know are kept.

    Attributes:
        datasets: The number of images or cells by data set; None if the card does not say.
        groups: The number of groups; None if the card does not say.
        group_split: The test split.
        seed: The recipe's seed.
        torch: The version of PyTorch.
        device: The processor or GPU.
        calibrated_on: The number of cells by data set that temperature and thresholds were fitted to.
        backbone: The network, by its name in wbctool_training.models.backbones.
        white_balance: Whether the graph balances the colors of its input.
        super_resolved_copies: The number of super-resolved cells among those trained on.
        started_from: The SHA-256 of the models that training started from, or ``ImageNet``.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    datasets: dict[str, int] | None = None
    groups: int | None = None
    group_split: SplitInfo = SplitInfo()
    seed: int | None = None
    torch: str | None = None
    device: str | None = None
    calibrated_on: dict[str, int] = Field(default_factory=dict)
    backbone: str = "vgg19"
    white_balance: bool = False
    super_resolved_copies: int | None = None
    started_from: str | None = None

    @model_serializer(mode="wrap")
    def _write_known(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the entries that were given, since a slide's fingerprint holds them as the card does."""
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}
