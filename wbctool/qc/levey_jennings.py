"""Levey-Jennings charts as one self-contained HTML page, and as CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from wbctool.qc.types import ControlChart, ControlPoint
from wbctool.qc.westgard import ROUNDING
from wbctool.report.csv_tables import csv_text, encode_csv_name
from wbctool.report.render import render_page
from wbctool.store.ownership import FileKind, has_columns
from wbctool.text import display_name, pluralize

WIDTH, HEIGHT = 760, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 46, 14, 24
_LETTER_WIDTH = 5.5  # px, of a label
_MAX_SHOWN_SD = 4.0  # values farther out are drawn at the edge; their tooltip has the number
_COLUMNS = ("slide", "quantity", "time", "value", "mean", "sd", "z", "in_baseline", "rules")


@dataclass(frozen=True, slots=True)
class _Mark:
    """One value in a drawing.

    Attributes:
        x: Where it is, in pixels from the left.
        y: Where it is, in pixels from the top.
        point: The value.
        tooltip: What is shown when the pointer is on it.
        value_text: The value as text.
        label: The rules that it breaks, if there is room for them; else empty.
    """

    x: float
    y: float
    point: ControlPoint
    tooltip: str
    value_text: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class _Drawing:
    """The parts of a drawn chart.

    Attributes:
        chart: The chart.
        grid_lines: The y in pixels of each grid line, its name, and whether it is the mean.
        marks: Its values.
        path: The SVG path through them.
        state: What the chart says, in words.
    """

    chart: ControlChart
    grid_lines: tuple[tuple[float, str, bool], ...]
    marks: tuple[_Mark, ...]
    path: str
    state: str


CHARTS_FILE = FileKind("a table of `wbctool qc`", has_columns(_COLUMNS))


def render_charts(charts: Sequence[ControlChart]) -> str:
    """Render control charts as an HTML page, grouped by slide; the same charts give the same bytes."""
    drawings = [_draw(chart) for chart in charts]
    slides = _group_by_slide(drawings)
    return render_page(
        "levey_jennings.html.j2",
        "levey_jennings.css",
        scripts=(),
        package="wbctool.qc",
        slides=slides,
        out_of_control=_group_by_slide(drawing for drawing in drawings if drawing.chart.is_out_of_control),
        not_judged=_group_by_slide(drawing for drawing in drawings if not drawing.chart.is_judged),
        is_near_right_edge=is_near_right_edge,
        width=WIDTH,
        height=HEIGHT,
        left=_LEFT,
        right=WIDTH - _RIGHT,
        base=HEIGHT,
    )


def charts_csv(charts: Sequence[ControlChart]) -> str:
    """Return control charts as CSV, one row a value."""
    rows = (
        (
            *(encode_csv_name(chart.slide), chart.quantity, point.time.isoformat(), f"{point.value:g}"),
            *(
                _format_number(chart.mean),
                _format_number(chart.sd),
                _format_number(point.z),
                str(point.in_baseline).lower(),
            ),
            ";".join(point.rules),
        )
        for chart in charts
        for point in chart.points
    )
    return csv_text(_COLUMNS, rows)


def describe_charts(charts: Sequence[ControlChart]) -> list[str]:
    """Return a line for each chart, or a single one for a slide all of whose limits are provisional."""
    lines = []
    for slide in dict.fromkeys(chart.slide for chart in charts):
        members = [chart for chart in charts if chart.slide == slide]
        if any(chart.is_judged or chart.is_baseline_complete for chart in members):
            for chart in members:
                values = pluralize(len(chart.points), "value")
                lines.append(f"{display_name(slide)}, {chart.quantity}: {values}, {chart_state(chart)}")
        else:
            longest = max(members, key=lambda chart: len(chart.points))
            lines.append(f"{display_name(slide)}: {chart_state(longest)}")
    return lines


def chart_state(chart: ControlChart) -> str:
    """Describe the state of a chart at its latest value in one line."""
    last = chart.points[-1]
    if chart.missing_since is not None:
        return f"out of control: no value since {chart.missing_since:%Y-%m-%d %H:%M} UTC, when no cell was counted"
    if not chart.is_baseline_complete:
        return f"{len(chart.points)} of {chart.baseline} baseline values: limits are provisional, no rules are judged"
    if last.in_baseline:
        return "the baseline is complete; rules are judged from the next value on"
    if not last.rules:
        return "in control"
    rules = ", ".join(last.rules)
    return f"out of control: {rules}" if chart.is_out_of_control else f"warning: {rules}"


def _group_by_slide(drawings: Iterable[_Drawing]) -> dict[str, list[_Drawing]]:
    """Group charts by their slide, in order."""
    groups: dict[str, list[_Drawing]] = {}
    for drawing in drawings:
        groups.setdefault(drawing.chart.slide, []).append(drawing)
    return groups


def _draw(chart: ControlChart) -> _Drawing:
    """Lay out one chart."""
    values = [point.value for point in chart.points]
    mean = values[0] if chart.mean is None else chart.mean
    sd = chart.sd if chart.sd is not None and chart.sd > ROUNDING else 0.0
    largest_deviation = max(abs(value - mean) for value in values)
    unit = sd or (largest_deviation / 2 if largest_deviation > ROUNDING else 1.0)
    half = (HEIGHT - _TOP - _BOTTOM) / 2

    def to_y(sds: float) -> float:
        """Return the y of a distance from the mean in standard deviations."""
        return round(_TOP + half - half * max(-_MAX_SHOWN_SD, min(_MAX_SHOWN_SD, sds)) / _MAX_SHOWN_SD, 1)

    step = (WIDTH - _LEFT - _RIGHT) / max(len(values) - 1, 1)
    marks = tuple(
        _Mark(round(_LEFT + index * step, 1), to_y((p.value - mean) / unit), p, _tooltip(p), f"{p.value:.4g}")
        for index, p in enumerate(chart.points)
    )
    names = [(sds, f"{sds:+d} SD" if sds else "mean") for sds in range(-3, 4)] if chart.mean is not None else []
    grid_lines = tuple((to_y(sds), f"{name} {mean + sds * sd:.4g}", not sds) for sds, name in names if sd or not sds)
    marks = _add_labels(marks)
    path = "M" + " L".join(f"{mark.x} {mark.y}" for mark in marks)
    return _Drawing(chart, grid_lines, marks, path, chart_state(chart))


def _add_labels(marks: Sequence[_Mark]) -> tuple[_Mark, ...]:
    """Label the marks with the rules they break: the latest, and earlier ones if there is room."""
    labeled, free_until = list[_Mark](), math.inf
    for mark in reversed(marks):
        label = " ".join(mark.point.rules)
        width = _LETTER_WIDTH * len(label)
        right = mark.x if is_near_right_edge(mark.x) else mark.x + width / 2
        fits = bool(label) and right <= free_until
        if fits:
            free_until = right - width - _LETTER_WIDTH
        labeled.append(replace(mark, label=label if fits else ""))
    return tuple(reversed(labeled))


def is_near_right_edge(x: float) -> bool:
    """Return whether a mark at ``x`` pixels must have its label on its left."""
    return x > WIDTH - _RIGHT - 60


def _tooltip(point: ControlPoint) -> str:
    """Return time, value, distance and rules of a value."""
    z = "" if point.z is None or math.isinf(point.z) else f", z {point.z:+.2f}"
    rules = f", {' '.join(point.rules)}" if point.rules else ""
    baseline = ", baseline" if point.in_baseline else ""
    return f"{point.time:%Y-%m-%d %H:%M} UTC: {point.value:g}{z}{rules}{baseline}"


def _format_number(value: float | None) -> str:
    """Return four decimals; empty for None."""
    return "" if value is None else f"{value:.4f}"
