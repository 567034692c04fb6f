"""What the time of a run goes into."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class StageTimer:
    """Seconds spent in each stage, and the stage that was last entered."""

    seconds: dict[str, float] = field(default_factory=dict)
    stage: str = ""

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a stage."""
        self.stage, start = stage, time.perf_counter()
        try:
            yield
        finally:
            add_seconds(self.seconds, {stage: time.perf_counter() - start})


def add_seconds(total: dict[str, float], increments: Mapping[str, float]) -> None:
    """Adds the seconds of each stage to those of ``total``."""
    for stage, seconds in increments.items():
        total[stage] = total.get(stage, 0.0) + seconds
