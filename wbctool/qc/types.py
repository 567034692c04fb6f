"""The records of quality control over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Rule(StrEnum):
    """The control rules of Westgard, Barry, Hunt and Groth 1981 (Clin Chem 27:493). 1-2s warns, the others reject."""

    ONE_2S = "1-2s"
    ONE_3S = "1-3s"
    TWO_2S = "2-2s"
    R_4S = "R-4s"
    FOUR_1S = "4-1s"
    TEN_X = "10-x"

    @property
    def is_rejection(self) -> bool:
        """Whether a value that breaks it is out of control."""
        return self is not Rule.ONE_2S


@dataclass(frozen=True, slots=True)
class QcRecord:
    """One line of a history. values: by quantity; None where the slide had none. models: their files and hashes.

    counted: the cells of its differential; 0 where the slide failed too.
    """

    time: datetime
    slide: str
    models: str
    counted: int
    values: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class ControlPoint:
    """One value. z: its distance from the mean in SDs, None where there are no limits yet.

    rules: those that it breaks with the values before it; none are judged within the baseline.
    models_changed: whether it was made with other models than the value before.
    """

    time: datetime
    value: float
    z: float | None
    in_baseline: bool
    rules: tuple[Rule, ...]
    models_changed: bool


@dataclass(frozen=True, slots=True)
class ControlChart:
    """One quantity of one slide over time. mean, sd: of the baseline so far; None of fewer than two values.

    baseline: how many values make it; is_baseline_complete: whether there are so many. missing_since: when the slide was first done
    without a cell that counts, and so without this value, since the last of ``points``; None where it has a value.
    """

    slide: str
    quantity: str
    mean: float | None
    sd: float | None
    baseline: int
    is_baseline_complete: bool
    points: tuple[ControlPoint, ...]
    missing_since: datetime | None = None

    @property
    def is_out_of_control(self) -> bool:
        """Whether the latest value breaks a rule that rejects, or there is none any more."""
        return self.missing_since is not None or any(rule.is_rejection for rule in self.points[-1].rules)
