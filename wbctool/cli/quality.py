"""`wbctool qc` and `wbctool models colours`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from wbctool.batch.publish import publish
from wbctool.cards import DetectorCard, default_models_dir, kind_name
from wbctool.cli.saying import mention
from wbctool.errors import StatusUnknown
from wbctool.lab.colours import measure_colours
from wbctool.lab.westgard import control_charts
from wbctool.layout import QC_CHART, QC_VALUES, OutputLayout, name_shown
from wbctool.models import load_model
from wbctool.qc_records import QcLine
from wbctool.report.levey_jennings import chart_state, charts_csv, render_charts
from wbctool.report.qc_history import parse_history
from wbctool.wording import number_of

log = logging.getLogger(__name__)

OUT_OF_CONTROL = 3


def qc_command(out: Path, slides: Sequence[str], folder: Path | None, baseline: int) -> int:
    """`wbctool qc`; returns the exit code: OUT_OF_CONTROL where a rule rejects a chart's latest value, or none came."""
    layout = OutputLayout.of(out)
    lines = _read(layout)
    known = {line.slide for line in lines}
    for slide in slides:
        if slide not in known:
            raise StatusUnknown(f"{layout.qc_history} has no slide {slide}; it has {', '.join(sorted(known))}")
    charts = control_charts([line for line in lines if not slides or line.slide in slides], baseline)
    folder = folder or layout.qc_charts
    publish(folder / QC_CHART, render_charts(charts).encode())
    publish(folder / QC_VALUES, charts_csv(charts).encode())
    for chart in charts:
        values = number_of(len(chart.points), "value")
        mention(f"{name_shown(chart.slide)}, {chart.quantity}: {values}, {chart_state(chart)}")
    mention(f"{name_shown(str(folder / QC_CHART))} written")
    return OUT_OF_CONTROL if any(chart.out_of_control for chart in charts) else 0


def colours_command(data: Sequence[Path], models_dir: Path | None) -> int:
    """`wbctool models colours`; returns the exit code."""
    folder = models_dir or default_models_dir()
    model = load_model(folder, DetectorCard)
    colours = measure_colours(data, model)
    card = model.card.model_copy(update={"colours": colours})
    path = folder / f"{kind_name(DetectorCard)}.json"  # that it was read from, whatever its model is named
    publish(path, (card.model_dump_json(indent=2) + "\n").encode())
    for entry in colours:
        low, high = entry.background_low, entry.background_high
        mention(f"{entry.origin}: {number_of(entry.fields, 'field')}, background L*a*b* {low} to {high}")
    mention(f"{name_shown(str(path))} written")
    return 0


def _read(layout: OutputLayout) -> tuple[QcLine, ...]:
    path = layout.qc_history
    try:
        lines = parse_history(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StatusUnknown(
            f"{path} is missing: no run has processed a QC slide yet (see the setting qc_slides)"
        ) from error
    except (OSError, ValueError) as error:
        raise StatusUnknown(f"{path} is not a valid QC history: {error}") from error
    if not lines:
        raise StatusUnknown(f"{path} is empty")
    return lines
