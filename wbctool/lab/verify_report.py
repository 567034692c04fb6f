"""verification.json and verification.html: what a verification found, with its figures."""

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
from wbctool.lab.agreement import LEAST_CELLS, Difference, Share
from wbctool.lab.figures import draw_matrix
from wbctool.lab.verdict import Criterion
from wbctool.lab.verify import CellVerification, SlideVerification
from wbctool.lab.verify_figures import draw_bland_altman, draw_calibration
from wbctool.layout import (
    BLAND_ALTMAN,
    CALIBRATION,
    CONFUSION,
    VERIFICATION,
    VERIFICATION_PAGE,
    VERIFICATION_SCHEMA,
    name_shown,
)
from wbctool.report.page import environment
from wbctool.slide_results import ModelUsed
from wbctool.wording import number_of


def verification_files(
    data: str, result: CellVerification | SlideVerification, models: Sequence[ModelUsed], super_resolve: str
) -> dict[str, bytes]:
    """The content of each file by its name. data: the name of what was verified by. The same input, the same bytes."""
    about = {
        "schema": VERIFICATION_SCHEMA,
        "data": name_shown(data),
        "kind": "cells" if isinstance(result, CellVerification) else "slides",
        "tool_version": wbctool.__version__,
        "super_resolve": super_resolve,
        "models": [asdict(model) for model in models],
    }
    content = {**about, **asdict(result)}
    content["verdict"]["line"] = result.verdict.line
    for entry, criterion in zip(content["verdict"]["criteria"], result.verdict.criteria, strict=True):
        entry |= {"met": criterion.met, "failed": criterion.failed}
    figures = _figures(data, result)
    page = (
        _environment()
        .get_template("verification.html.j2")
        .render(about=about, result=result, figures=figures, least_cells=LEAST_CELLS)
    )
    texts = {VERIFICATION: json.dumps(content, indent=1) + "\n", VERIFICATION_PAGE: page}
    return {**{name: text.encode() for name, text in texts.items()}, **{f"{n}.png": png for n, png in figures.items()}}


def _figures(data: str, result: CellVerification | SlideVerification) -> dict[str, bytes]:
    if isinstance(result, SlideVerification):
        return {BLAND_ALTMAN: draw_bland_altman(result.bland_altman)} if result.bland_altman else {}
    figures = {CONFUSION: _confusion(f"{name_shown(data)}: {number_of(result.cells, 'cell')}", result)}
    if result.calibration:
        figures[CALIBRATION] = draw_calibration(result.calibration)
    return figures


def _confusion(title: str, result: CellVerification) -> bytes:
    buffer = BytesIO()
    draw_matrix(np.array(result.confusion), result.classes, title, buffer)
    return buffer.getvalue()


def _asked(criterion: Criterion) -> str:
    return f"{'at least' if criterion.at_least else 'at most'} {criterion.limit:g} %"


def _measured(criterion: Criterion) -> str:
    found = criterion.share
    return f"{_parts(found)}, {found.percent:.1f} %"


def _parts(found: Share | Difference) -> str:
    return f"{found.n} of {found.total}" if isinstance(found, Share) else number_of(found.slides, "slide")


def _outcome(criterion: Criterion) -> str:
    return "met" if criterion.met else "failed" if criterion.failed else "not shown"


@cache
def _environment() -> Environment:
    ours = environment("wbctool.lab")
    ours.filters.update(
        asked=_asked,
        measured=_measured,
        outcome=_outcome,
        number_of=number_of,
        png=lambda content: "data:image/png;base64," + base64.b64encode(content).decode("ascii"),
    )
    return ours
