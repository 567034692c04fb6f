"""Control charts (Levey and Jennings 1950, Am J Clin Pathol 20:1059) with the rules of Westgard et al. 1981.

pandas is not used here: its rolling windows take infinite values, as a baseline that never varied gives, for missing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import takewhile

from wbctool.qc.history import QUANTITIES
from wbctool.qc.types import ControlChart, ControlPoint, QcRecord, Rule

BASELINE = 20  # values before limits are fixed (CLSI C24)
ROUNDING = 1e-9  # differences up to this come from rounding: values that never varied may differ so from their mean


def build_control_charts(records: Sequence[QcRecord], baseline: int = BASELINE) -> tuple[ControlChart, ...]:
    """Build the control charts of a history.

    Args:
        records: The rows of the history, in order of time.
        baseline: Number of values that fix mean and standard deviation.

    Returns:
        One chart for each slide and each quantity that the slide has a value of, slides in order of their first row.
    """
    slides = dict.fromkeys(record.slide for record in records)
    return tuple(
        replace(
            build_control_chart(slide, quantity, members, baseline),
            missing_since=_find_missing_since([record for record in records if record.slide == slide], quantity),
        )
        for slide in slides
        for quantity in QUANTITIES
        if (members := [r for r in records if r.slide == slide and r.values[quantity] is not None])
    )


def _find_missing_since(records: Sequence[QcRecord], quantity: str) -> datetime | None:
    """Return since when a slide has no counted cell; a class that the models lack is not missing."""
    missing = list(takewhile(lambda record: record.values[quantity] is None and not record.counted, reversed(records)))
    return missing[-1].time if missing else None


def build_control_chart(slide: str, quantity: str, records: Sequence[QcRecord], baseline: int) -> ControlChart:
    """Build the control chart of one quantity of one slide.

    Args:
        slide: The slide's id.
        quantity: The quantity.
        records: The slide's rows that have the quantity, in order of time, at least one.
        baseline: Number of values that fix mean and standard deviation.

    References:
        Levey and Jennings 1950, Am J Clin Pathol 20:1059; CLSI C24, on the baseline.
    """
    values = [value for record in records if (value := record.values[quantity]) is not None]
    baseline_values = values[:baseline]
    mean, sd = (
        (statistics.fmean(baseline_values), statistics.stdev(baseline_values))
        if len(baseline_values) > 1
        else (None, None)
    )
    z = [None if mean is None or sd is None else z_score(value, mean, sd) for value in values]
    violations = apply_westgard_rules([score for score in z[baseline:] if score is not None])
    rules = [*([()] * min(baseline, len(values))), *violations]
    models = [record.models for record in records]
    points = tuple(
        ControlPoint(
            record.time, value, score, index < baseline, rules[index], index > 0 and models[index - 1] != models[index]
        )
        for index, (record, value, score) in enumerate(zip(records, values, z, strict=True))
    )
    return ControlChart(slide, quantity, mean, sd, baseline, len(values) >= baseline, points)


def z_score(value: float, mean: float, sd: float) -> float:
    """Return the distance from the mean in standard deviations; infinite outside a baseline that never varied."""
    deviation = value - mean
    if sd > ROUNDING:
        return deviation / sd
    return math.copysign(math.inf, deviation) if abs(deviation) > ROUNDING else 0.0


def apply_westgard_rules(z: Sequence[float]) -> tuple[tuple[Rule, ...], ...]:
    """Apply the control rules to the values of one slide.

    R-4s was made for several controls of one run; here it is applied to two consecutive values of one slide.

    Args:
        z: Distances from the mean in standard deviations, in order of time.

    Returns:
        For each value, the rules that it breaks together with the values before it.

    References:
        Westgard, Barry, Hunt and Groth 1981, Clin Chem 27:493.

    >>> [" ".join(rules) for rules in apply_westgard_rules([0.5, 2.1, 2.2, -2.3])]
    ['', '1-2s', '1-2s 2-2s', '1-2s R-4s']
    """
    return tuple(tuple(rule for rule in Rule if _is_violated(rule, z[: end + 1])) for end in range(len(z)))


def _is_violated(rule: Rule, z: Sequence[float]) -> bool:
    """Return whether the last value breaks a rule."""
    match rule:
        case Rule.ONE_2S:
            return abs(z[-1]) > 2
        case Rule.ONE_3S:
            return abs(z[-1]) > 3
        case Rule.TWO_2S:
            return _is_beyond_on_one_side(z, 2, beyond=2)
        case Rule.R_4S:
            return len(z) > 1 and min(z[-2:]) < -2 and max(z[-2:]) > 2
        case Rule.FOUR_1S:
            return _is_beyond_on_one_side(z, 4, beyond=1)
        case Rule.TEN_X:
            return _is_beyond_on_one_side(z, 10, beyond=0)


def _is_beyond_on_one_side(z: Sequence[float], number: int, beyond: float) -> bool:
    """Return whether the last ``number`` values all lie more than ``beyond`` on one side of the mean."""
    last = z[-number:]
    return len(last) == number and (min(last) > beyond or max(last) < -beyond)
