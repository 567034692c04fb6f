"""Timing of the stages of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class StageTimer:
    """Adds up the seconds spent in each stage.

    Attributes:
        seconds: The seconds per stage.
        stage: The stage that was entered last.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    stage: str = ""

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the body of a ``with`` statement as one stage."""
        self.stage, start = stage, time.perf_counter()
        try:
            yield
        finally:
            add_seconds(self.seconds, {stage: time.perf_counter() - start})


def add_seconds(total: dict[str, float], increments: Mapping[str, float]) -> None:
    """Add the seconds of each stage to ``total``."""
    for stage, seconds in increments.items():
        total[stage] = total.get(stage, 0.0) + seconds
