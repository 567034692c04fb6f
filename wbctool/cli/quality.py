"""`wbctool qc` and `wbctool models colours`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from wbctool.cli.saying import echo_optional
from wbctool.errors import StatusUnknown
from wbctool.evaluation.stain_reference import measure_stain_reference
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import DetectorCard, default_models_dir, encode_card, kind_name
from wbctool.paths import LEVEY_JENNINGS_CSV, LEVEY_JENNINGS_HTML, OutputPaths
from wbctool.qc.history import parse_history
from wbctool.qc.levey_jennings import chart_state, charts_csv, render_charts
from wbctool.qc.types import QcRecord
from wbctool.qc.westgard import build_control_charts
from wbctool.store.atomic_write import write_atomic
from wbctool.text import display_name, pluralize

log = logging.getLogger(__name__)

OUT_OF_CONTROL = 3


def qc_command(out: Path, slides: Sequence[str], folder: Path | None, baseline: int) -> int:
    """`wbctool qc`; returns the exit code: OUT_OF_CONTROL where a rule rejects a chart's latest value, or none came."""
    layout = OutputPaths.from_path(out)
    records = _read_history(layout)
    known_slides = {line.slide for line in records}
    for slide in slides:
        if slide not in known_slides:
            raise StatusUnknown(
                f"{layout.qc_history_csv} has no slide {slide}; it has {', '.join(sorted(known_slides))}"
            )
    charts = build_control_charts([line for line in records if not slides or line.slide in slides], baseline)
    folder = folder or layout.qc_folder
    write_atomic(folder / LEVEY_JENNINGS_HTML, render_charts(charts).encode())
    write_atomic(folder / LEVEY_JENNINGS_CSV, charts_csv(charts).encode())
    for chart in charts:
        values = pluralize(len(chart.points), "value")
        echo_optional(f"{display_name(chart.slide)}, {chart.quantity}: {values}, {chart_state(chart)}")
    echo_optional(f"{display_name(str(folder / LEVEY_JENNINGS_HTML))} written")
    return OUT_OF_CONTROL if any(chart.is_out_of_control for chart in charts) else 0


def stain_reference_command(data: Sequence[Path], models_dir: Path | None) -> int:
    """`wbctool models colours`; returns the exit code."""
    folder = models_dir or default_models_dir()
    model = load_model(folder, DetectorCard)
    stain_ranges = measure_stain_reference(data, model)
    card = model.card.model_copy(update={"stain_reference": stain_ranges})
    path = folder / f"{kind_name(DetectorCard)}.json"  # that it was read from, whatever its model is named
    write_atomic(path, encode_card(card))
    for entry in stain_ranges:
        low, high = entry.background_low, entry.background_high
        echo_optional(f"{entry.dataset}: {pluralize(entry.fields, 'field')}, background L*a*b* {low} to {high}")
    echo_optional(f"{display_name(str(path))} written")
    return 0


def _read_history(layout: OutputPaths) -> tuple[QcRecord, ...]:
    path = layout.qc_history_csv
    try:
        records = parse_history(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StatusUnknown(
            f"{path} is missing: no run has processed a QC slide yet (see the setting qc_slides)"
        ) from error
    except (OSError, ValueError) as error:
        raise StatusUnknown(f"{path} is not a valid QC history: {error}") from error
    if not records:
        raise StatusUnknown(f"{path} is empty")
    return records
