"""The files of a verification: verification.json, verification.html and the figures."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from io import BytesIO

import numpy as np
from jinja2 import Environment

import wbctool
from wbctool.evaluation.figures import draw_confusion_matrix
from wbctool.evaluation.proportion import Proportion
from wbctool.paths import (
    BLAND_ALTMAN,
    CALIBRATION,
    CONFUSION,
    VERIFICATION_HTML,
    VERIFICATION_JSON,
    VERIFICATION_SCHEMA,
)
from wbctool.report.render import template_environment
from wbctool.text import display_name, pluralize
from wbctool.types.results import ModelRef
from wbctool.verification.agreement import MeanDifference
from wbctool.verification.cells import CellVerification
from wbctool.verification.criteria import Criterion
from wbctool.verification.figures import draw_bland_altman, draw_calibration
from wbctool.verification.slides import SlideVerification
from wbctool.verification.temperature_refit import MIN_CALIBRATION_CELLS


def render_verification(
    data: str, result: CellVerification | SlideVerification, models: Sequence[ModelRef], super_resolve: str
) -> dict[str, bytes]:
    """Render the files of a verification; the same input gives the same bytes.

    Args:
        data: Name of the folder of labeled data.
        result: What was measured.
        models: The models that were verified.
        super_resolve: The mode of super-resolution.

    Returns:
        Content by file name.
    """
    header = {
        "schema": VERIFICATION_SCHEMA,
        "data": display_name(data),
        "kind": "cells" if isinstance(result, CellVerification) else "slides",
        "tool_version": wbctool.__version__,
        "super_resolve": super_resolve,
        "models": [asdict(model) for model in models],
    }
    content = {**header, **asdict(result)}
    content["verdict"]["summary"] = result.verdict.summary
    for entry, criterion in zip(content["verdict"]["criteria"], result.verdict.criteria, strict=True):
        entry |= {"met": criterion.is_met, "failed": criterion.is_failed}
    figures = _draw_figures(data, result)
    page = (
        _create_environment()
        .get_template("verification.html.j2")
        .render(header=header, result=result, figures=figures, min_cells=MIN_CALIBRATION_CELLS)
    )
    texts = {VERIFICATION_JSON: json.dumps(content, indent=1) + "\n", VERIFICATION_HTML: page}
    return {**{name: text.encode() for name, text in texts.items()}, **{f"{n}.png": png for n, png in figures.items()}}


def _draw_figures(data: str, result: CellVerification | SlideVerification) -> dict[str, bytes]:
    """Return the figures, as PNG files, by their names without ending."""
    if isinstance(result, SlideVerification):
        return {BLAND_ALTMAN: draw_bland_altman(result.bland_altman)} if result.bland_altman else {}
    figures = {CONFUSION: _draw_confusion(f"{display_name(data)}: {pluralize(result.cells, 'cell')}", result)}
    if result.calibration:
        figures[CALIBRATION] = draw_calibration(result.calibration)
    return figures


def _draw_confusion(title: str, result: CellVerification) -> bytes:
    """Return the confusion matrix as a PNG file."""
    buffer = BytesIO()
    draw_confusion_matrix(np.array(result.confusion), result.classes, title, buffer)
    return buffer.getvalue()


def _format_requirement(criterion: Criterion) -> str:
    """Return what a criterion requires."""
    return f"{'at least' if criterion.is_lower_bound else 'at most'} {criterion.limit:g} {criterion.unit}"


def _format_measurement(criterion: Criterion) -> str:
    """Return what was measured, with the sample size."""
    estimate = criterion.estimate
    return f"{_format_sample_size(estimate)}, {estimate.percent:.1f} {criterion.unit}"


def _format_interval(criterion: Criterion) -> str:
    """Return the 95 % interval of what was measured."""
    return f"{criterion.estimate.low:.1f} to {criterion.estimate.high:.1f} {criterion.unit}"


def _format_sample_size(estimate: Proportion | MeanDifference) -> str:
    """Return the sample size of an estimate."""
    return (
        f"{estimate.n} of {estimate.total}" if isinstance(estimate, Proportion) else pluralize(estimate.slides, "slide")
    )


def _format_outcome(criterion: Criterion) -> str:
    """Return whether a criterion is met, failed or neither."""
    return "met" if criterion.is_met else "failed" if criterion.is_failed else "not shown"


@cache
def _create_environment() -> Environment:
    """Return the template environment with the filters of the page."""
    jinja_env = template_environment("wbctool.verification")
    jinja_env.filters.update(
        requirement=_format_requirement,
        measurement=_format_measurement,
        interval=_format_interval,
        outcome=_format_outcome,
        pluralize=pluralize,
        png=lambda content: "data:image/png;base64," + base64.b64encode(content).decode("ascii"),
    )
    return jinja_env
