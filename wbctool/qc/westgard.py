"""Control charts after Levey and Jennings 1950 with the rules of Westgard et al. 1981 (Clin Chem 27:493). Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import takewhile

from wbctool.qc.history import QUANTITIES
from wbctool.qc.types import ControlChart, ControlPoint, QcRecord, Rule

BASELINE = 20  # values that CLSI C24 asks for before limits are fixed


def build_control_charts(records: Sequence[QcRecord], baseline: int = BASELINE) -> tuple[ControlChart, ...]:
    """One chart for each slide and each quantity that it has a value of, slides in order of their first line."""
    slides = dict.fromkeys(line.slide for line in records)
    return tuple(
        replace(
            build_control_chart(slide, quantity, members, baseline),
            missing_since=_find_missing_since([line for line in records if line.slide == slide], quantity),
        )
        for slide in slides
        for quantity in QUANTITIES
        if (members := [line for line in records if line.slide == slide and line.values[quantity] is not None])
    )


def _find_missing_since(records: Sequence[QcRecord], quantity: str) -> datetime | None:
    """records: all of a slide. A class that other models do not know is no silence: then other cells are counted."""
    missing = list(takewhile(lambda line: line.values[quantity] is None and not line.counted, reversed(records)))
    return missing[-1].time if missing else None


def build_control_chart(slide: str, quantity: str, records: Sequence[QcRecord], baseline: int) -> ControlChart:
    """records: those of the slide that have the quantity, in order of time; at least one."""
    values = [value for line in records if (value := line.values[quantity]) is not None]
    baseline_values = values[:baseline]
    mean, sd = (
        (statistics.fmean(baseline_values), statistics.stdev(baseline_values))
        if len(baseline_values) > 1
        else (None, None)
    )
    z = [None if mean is None or sd is None else z_score(value, mean, sd) for value in values]
    violations = apply_westgard_rules([score for score in z[baseline:] if score is not None])
    rules = [*([()] * min(baseline, len(values))), *violations]
    models = [line.models for line in records]
    points = tuple(
        ControlPoint(
            line.time, value, score, index < baseline, rules[index], index > 0 and models[index - 1] != models[index]
        )
        for index, (line, value, score) in enumerate(zip(records, values, z, strict=True))
    )
    return ControlChart(slide, quantity, mean, sd, baseline, len(values) >= baseline, points)


def z_score(value: float, mean: float, sd: float) -> float:
    """The distance from the mean in SDs; infinite where the baseline never varied and this value does."""
    deviation = value - mean
    if sd > 0:
        return deviation / sd
    return math.copysign(math.inf, deviation) if abs(deviation) > 1e-9 else 0.0


def apply_westgard_rules(z: Sequence[float]) -> tuple[tuple[Rule, ...], ...]:
    """For each value, in order, the rules that it breaks together with those before it.

    R-4s, made for the controls of one run, is applied to two values in a row of the one slide.

    >>> [" ".join(rules) for rules in westgard([0.5, 2.1, 2.2, -2.3])]
    ['', '1-2s', '1-2s 2-2s', '1-2s R-4s']
    """
    return tuple(tuple(rule for rule in Rule if _is_violated(rule, z[: end + 1])) for end in range(len(z)))


def _is_violated(rule: Rule, z: Sequence[float]) -> bool:
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
    last = z[-number:]
    return len(last) == number and (min(last) > beyond or max(last) < -beyond)
