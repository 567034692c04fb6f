"""The colors of a laboratory's fields: a part of model cards."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from wbctool.types.slides import CieLab


class ColorRange(BaseModel):
    """The colors of one data set's fields in CIELAB: the central 98 % of their medians, per channel.

    Attributes:
        dataset, fields: The name of the data set and the number of its fields.
        background_low, background_high: The 1st and 99th percentile of the background between the cells.
        cells_low, cells_high: The 1st and 99th percentile of the nucleated cells.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dataset: str
    fields: int = Field(ge=1)
    background_low: CieLab
    background_high: CieLab
    cells_low: CieLab
    cells_high: CieLab
