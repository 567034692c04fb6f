"""What is known of a slide that is a whole-slide scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class PassedOver(StrEnum):
    """Why a zone of a scan is passed over."""

    EMPTY = "empty glass"
    EDGE = "edge of the smear"
    CROWDED = "crowded"
    NO_RED_CELLS = "no red cells"


class ScaleSource(StrEnum):
    """Where the size of a scan's pixels is known from."""

    SLIDES_CSV = "slides.csv"
    METADATA = "the file's metadata"
    RED_CELLS = "the size of the red cells"


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """What a run did with a scan.

    Attributes:
        file: The name of the scan's file.
        files: Name and SHA-256 of each file that the scan consists of; the hash is None if it cannot be read.
        width: Width of level 0 in pixels; 0 if the scan could not be opened.
        height: Height of level 0 in pixels.
        um_per_px: The side of a pixel of level 0 in µm; None if it is not known.
        scale_source: Where that is known from.
        downsample: How many pixels of level 0 the side of a pixel has in which cells were looked at.
        zones: The number of zones that the scan was divided into.
        zones_looked_at: The number of zones whose cells were looked for.
        passed_over: The number of zones that were passed over, by reason.
    """

    file: str
    files: tuple[tuple[str, str | None], ...]
    width: int = 0
    height: int = 0
    um_per_px: float | None = None
    scale_source: ScaleSource | None = None
    downsample: float = 1.0
    zones: int = 0
    zones_looked_at: int = 0
    passed_over: Mapping[PassedOver, int] = field(default_factory=dict)

    @property
    def zones_not_needed(self) -> int:
        """The number of zones that were left when enough cells were counted."""
        return max(0, self.zones - self.zones_looked_at - sum(self.passed_over.values()))
