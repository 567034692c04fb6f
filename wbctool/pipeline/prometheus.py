"""Metrics of a run for Prometheus, in a file for the textfile collector of node_exporter."""

from __future__ import annotations

import time
from pathlib import Path

from wbctool.store.atomic_write import write_through_link
from wbctool.store.ownership import FileKind
from wbctool.store.status import RunReport
from wbctool.types.results import SlideStatus


def _is_metrics(path: Path) -> bool:
    """Return whether every line of a file is of our metrics."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return all(line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith("wbctool_") for line in lines)


METRICS_FILE = FileKind("a file of wbctool's metrics alone", _is_metrics)


def write_metrics(path: Path, report: RunReport | None, exit_code: int) -> None:
    """Write the metrics of a run that has just ended.

    Args:
        path: The file, ``x.prom``.
        report: The contents of run.json; None if the run ended before it wrote one.
        exit_code: The run's exit code.

    Raises:
        OutputNotWritable: The file cannot be written.
    """
    from prometheus_client import CollectorRegistry, Gauge, generate_latest  # only runs with --metrics pay for it

    registry = CollectorRegistry()

    def add_gauge(name: str, description: str, value: float) -> None:
        """Add one metric without labels."""
        Gauge(f"wbctool_{name}", description, registry=registry).set(value)

    add_gauge("last_run_end_timestamp_seconds", "When the last run ended, Unix time.", time.time())
    add_gauge(
        "last_run_exit_code",
        "Exit code of the last run; 0: success, 3: some slide is failed or partial.",
        exit_code,
    )
    if report is not None:
        if report.duration is not None:
            add_gauge("last_run_duration_seconds", "Duration from start to end.", report.duration.total_seconds())
        slides = Gauge("wbctool_slides", "Slides by their last state.", ["status"], registry=registry)
        for status in SlideStatus:
            slides.labels(status.value).set(report.count(status))
        processed = [slide for slide in report.slides if slide.done_in_run]
        add_gauge("last_run_slides_done", "Slides that the last run processed.", len(processed))
        add_gauge("last_run_fields_done", "Fields that the last run processed.", sum(s.fields for s in processed))
        add_gauge("last_run_cells_done", "Cells that the last run found.", sum(s.cells for s in processed))
        add_gauge("fields_failed", "Fields that failed, of all slides.", sum(s.fields_failed for s in report.slides))
    write_through_link(path, generate_latest(registry))
