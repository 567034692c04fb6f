"""The records of control slides over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Rule(StrEnum):
    """The control rules of Westgard et al. 1981 (Clin Chem 27:493); 1-2s warns, the others reject."""

    ONE_2S = "1-2s"
    ONE_3S = "1-3s"
    TWO_2S = "2-2s"
    R_4S = "R-4s"
    FOUR_1S = "4-1s"
    TEN_X = "10-x"

    @property
    def is_rejection(self) -> bool:
        """Whether a value that breaks the rule is out of control."""
        return self is not Rule.ONE_2S


@dataclass(frozen=True, slots=True)
class QcRecord:
    """One row of a QC history.

    Attributes:
        time: When the slide was processed.
        slide: The slide's id.
        models: Files and hashes of the models.
        counted: Number of counted cells; 0 if the slide failed.
        values: Value of each quantity; None if the slide had none.
    """

    time: datetime
    slide: str
    models: str
    counted: int
    values: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class ControlPoint:
    """One value of a control chart.

    Attributes:
        time: When the slide was processed.
        value: The value.
        z: Distance from the mean in standard deviations; None if there are no limits yet.
        in_baseline: Whether the value belongs to the baseline.
        rules: The rules that the value breaks together with those before it; none are judged within the baseline.
        models_changed: Whether other models were used than for the value before.
    """

    time: datetime
    value: float
    z: float | None
    in_baseline: bool
    rules: tuple[Rule, ...]
    models_changed: bool


@dataclass(frozen=True, slots=True)
class ControlChart:
    """One quantity of one control slide over time.

    Attributes:
        slide: The slide's id.
        quantity: What is measured.
        mean: Mean of the baseline so far; None with fewer than two values.
        sd: Standard deviation of the baseline so far; None with fewer than two values.
        baseline: Number of values of a complete baseline.
        is_baseline_complete: Whether there are that many values.
        points: The values in order of time, at least one.
        missing_since: When the slide was first processed without a counted cell, and so without a value, after the last
            of ``points``; None if the latest time has a value.
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
    def is_judged(self) -> bool:
        """Whether the latest value was judged by the rules, or is missing; a baseline is not judged."""
        return self.missing_since is not None or not self.points[-1].in_baseline

    @property
    def is_out_of_control(self) -> bool:
        """Whether the latest value breaks a rule that rejects, or is missing."""
        return self.missing_since is not None or any(rule.is_rejection for rule in self.points[-1].rules)
