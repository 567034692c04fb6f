"""What an int8 or fp16 copy of a model was made from, and what it changes: a part of its card."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from wbctool.inference.adaptation_info import Sha256


class QuantizationInfo(BaseModel):
    """What an int8 or fp16 copy was made from, and what the copy changes, as `wbctool models optimize` measured it.

    Attributes:
        source_sha256: The SHA-256 of the fp32 model's file.
        calibrated_on: The cells that the copy was calibrated on, in words; empty for fp16, which needs none.
        measured_on: The cells that the copy was measured on, in words. No cell is in both sets.
        cells: The number of cells that the copy was measured on.
        images: The number of measured images: the cells with their flipped copies.
        changed_labels: The number of images with another most probable class.
        changed_outcomes: The number of images with another outcome (counted, review, not WBC).
        accuracy_fp32, accuracy_quantized: The accuracies per image, in [0, 1]; None if they do not apply.
        psnr_db: The PSNR against the fp32 generator's images, in dB; None for a classifier.
        fp32_layers: The layers that stay fp32.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source_sha256: Sha256
    calibrated_on: str
    measured_on: str
    cells: int = Field(ge=1)
    images: int = Field(ge=1)
    changed_labels: int = Field(ge=0)
    changed_outcomes: int = Field(ge=0)
    accuracy_fp32: float | None = None
    accuracy_quantized: float | None = None
    psnr_db: float | None = None
    fp32_layers: tuple[str, ...] = ()
