"""Rules on series worked by hand, and limits of a baseline."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from wbctool.qc.history import QUANTITIES
from wbctool.qc.types import QcRecord, Rule
from wbctool.qc.westgard import apply_westgard_rules, build_control_chart, build_control_charts

START = datetime(2026, 1, 1, tzinfo=UTC)


def names(z):
    return [" ".join(rules) for rules in apply_westgard_rules(z)]


@pytest.mark.parametrize(
    ("z", "last"),
    [
        ([2.0], ""),
        ([2.01], "1-2s"),
        ([-3.01], "1-2s 1-3s"),
        ([2.1, 2.1], "1-2s 2-2s"),
        ([2.1, 1.9, 2.1], "1-2s"),
        ([2.1, -2.1], "1-2s R-4s"),
        ([2.1, 0, -2.1], "1-2s"),
        ([3.9, -0.5], ""),  # more than 4 SD apart, but not beyond 2 SD on both sides
        ([1.1, 1.1, 1.1, 1.1], "4-1s"),
        ([1.1, 1.1, 1.1, -1.1], ""),
        ([-1.1] * 3 + [-2.5], "1-2s 4-1s"),
        ([0.1] * 9, ""),
        ([0.1] * 10, "10-x"),
        ([0.1] * 9 + [0.0], ""),
        ([-0.1] * 5 + [0.1] * 5, ""),
    ],
)
def test_westgard_rules_only_the_expected_is_broken(z, last):
    assert names(z)[-1] == last


def test_westgard_rule_is_at_the_value_that_breaks_it():
    assert names([0.1] * 11) == [""] * 9 + ["10-x"] * 2


def test_rule_1_2s_alone_does_not_reject():
    assert [rule for rule in Rule if not rule.is_rejection] == [Rule.ONE_2S]


def lines(values, models="m1", slide="qc"):
    empty = dict.fromkeys(QUANTITIES)
    return [
        QcRecord(
            START + timedelta(days=i),
            slide,
            models if isinstance(models, str) else models[i],
            0 if v is None else 100,
            empty | {"blur_um": v},
        )
        for i, v in enumerate(values)
    ]


def test_control_chart_has_mean_and_sd_of_baseline():
    # 8, 10, 12: mean 10, SD 2; then 15 is 2.5 SD off and 17 3.5
    chart = build_control_chart("qc", "blur_um", lines([8, 10, 12, 15, 17]), baseline=3)
    assert (chart.mean, chart.sd, chart.is_baseline_complete) == (10, 2, True)
    assert [p.z for p in chart.points] == [-1, 0, 1, 2.5, 3.5]
    assert [" ".join(p.rules) for p in chart.points] == ["", "", "", "1-2s", "1-2s 1-3s 2-2s"]
    assert chart.is_out_of_control


def test_control_chart_judges_no_value_of_the_baseline():
    chart = build_control_chart("qc", "blur_um", lines([8, 10, 12, 99]), baseline=4)
    assert all(p.in_baseline and not p.rules for p in chart.points)
    assert not build_control_chart("qc", "blur_um", lines([8, 10]), baseline=4).is_baseline_complete
    assert build_control_chart("qc", "blur_um", lines([8]), baseline=4).points[0].z is None


def test_control_chart_constant_baseline_rejects_any_other_value():
    chart = build_control_chart("qc", "blur_um", lines([0.3, 0.3, 0.3, 0.3, 0.2]), baseline=3)
    assert [p.z for p in chart.points] == [0, 0, 0, 0, -math.inf]
    assert chart.is_out_of_control


def test_control_charts_only_of_quantities_with_values():
    charts = build_control_charts([*lines([1, None, 2]), *lines([5], slide="other")], baseline=2)
    assert [(c.slide, c.quantity, [p.value for p in c.points]) for c in charts] == [
        ("qc", "blur_um", [1, 2]),
        ("other", "blur_um", [5]),
    ]


def test_control_chart_marks_a_change_of_models():
    chart = build_control_chart("qc", "blur_um", lines([1, 2, 3], models=["a", "a", "b"]), baseline=2)
    assert [p.models_changed for p in chart.points] == [False, False, True]


def test_control_chart_missing_latest_value_is_out_of_control_unless_cells_were_counted():
    (chart,) = build_control_charts(lines([1.0, 1.1, None, 1.0, None, None]), baseline=2)
    assert chart.missing_since == START + timedelta(days=4)
    assert chart.is_out_of_control
    unknown_class = [replace(line, counted=100) for line in lines([1.0, 1.1, None])]
    (chart,) = build_control_charts(unknown_class, baseline=2)
    assert not chart.is_out_of_control
